"""What a build leaves: the bundle, its bill of materials, and the store that keeps bytes by their digest.

How a bundle travels to hosts is in :mod:`interlock.adapters.hosts`.
"""
