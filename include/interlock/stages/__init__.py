"""Airflow's side of the release process: one module per ITIL stage."""
