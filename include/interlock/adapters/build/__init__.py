"""Builds and suites: the tools that services use, and the sandbox in which other people's code runs.

The reports that they leave are read in :mod:`interlock.adapters.quality`.
"""
