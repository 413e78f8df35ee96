"""Release trains: boarding, a frozen manifest, a decision, departure in the order of dependencies, and arrival.

A train has its own chain in the ledger. The releases of its passengers are runs of their own Dags: the train triggers
them with the account of its conductor, and waits.
"""
