"""Releases that were changed in one place, requested of a whole stack: ``make mutated-releases``."""
