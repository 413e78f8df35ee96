"""Airflow on the embedded stack: its settings, accounts and connections."""
