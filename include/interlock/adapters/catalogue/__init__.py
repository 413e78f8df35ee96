"""The catalogue on disk: its YAML files read and checked, and a changed policy tried against past releases.

The models of the files are in :mod:`interlock.domain.catalogue`.
"""
