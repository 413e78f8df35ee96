"""Release trains: boarding, a frozen manifest, one decision, departure in the order of what depends on what, arrival.

What a train leaves is in its own chain of the ledger. Its passengers' releases are runs of their own Dags; a train only
asks for them, under the account of its conductor, and waits.
"""
