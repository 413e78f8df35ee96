"""The offline verifier of evidence packs: one file, :mod:`.__main__`, that imports nothing of Interlock."""
