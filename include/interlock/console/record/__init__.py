"""What the API server writes to the ledger: who asked for a run, what people answered, and refused attempts."""
