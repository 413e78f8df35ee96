"""The output of a build: the bundle, its bill of materials, and the store that keeps bytes by their digest.

How a bundle travels to hosts is in :mod:`interlock.adapters.hosts`.
"""
