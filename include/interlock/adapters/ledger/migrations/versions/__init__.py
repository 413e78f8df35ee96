"""The ledger's schema, a module for each change of it."""
