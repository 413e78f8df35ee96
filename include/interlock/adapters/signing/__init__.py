"""Signatures: DSSE envelopes by a key in a file or in AWS KMS, and what the API server signs of people's answers."""
