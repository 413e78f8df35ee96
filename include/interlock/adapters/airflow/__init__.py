"""Airflow's own APIs: the public API with accounts of Interlock, and whether the execution API is protected."""
