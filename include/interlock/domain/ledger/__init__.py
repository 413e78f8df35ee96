"""The meaning of the ledger's entries: the chain, what people asked and answered, and what contradicts it."""
