"""Permits: issued, signed and used once; and the admission that every connection to a host needs."""
