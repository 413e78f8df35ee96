"""Hosts: how they are reached, the conversation with the program on each, and a release brought to many at once.

Which instances there are is asked in :mod:`interlock.adapters.aws`.
"""
