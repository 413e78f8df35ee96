"""What the ledger's entries mean: the chain, what people asked and answered, and what contradicts it."""
