"""The command line ``interlock``: commands of the embedded stack, and commands of any installation.

Modules that end in ``_commands`` declare commands and import what these need only when they run, so that help is quick.
"""
