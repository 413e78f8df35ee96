"""Installs Interlock into an Airflow: the project of an organisation, accounts and connections, and inspection.

The commands ``interlock init``, ``setup`` and ``doctor`` are here; the embedded stack uses the same accounts.
"""
