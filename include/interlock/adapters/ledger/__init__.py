"""The ledger in PostgreSQL: its tables, its rows, and what is read of stops and past releases.

What entries mean is in :mod:`interlock.domain.ledger`.
"""
