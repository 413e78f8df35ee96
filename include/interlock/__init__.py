"""Interlock: ITIL release management on Apache Airflow."""
