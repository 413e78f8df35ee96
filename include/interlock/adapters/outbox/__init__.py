"""Delivering what the ledger has to other systems: each statement in order, at least once, with effect once."""
