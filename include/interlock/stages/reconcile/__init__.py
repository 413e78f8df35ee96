"""The Dag ``reconcile``: compare hosts, ledger and releases with the record, and record findings."""
