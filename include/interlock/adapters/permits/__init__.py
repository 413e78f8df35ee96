"""Permits: issued, signed and used once; and the admission without which nothing connects to a host."""
