"""Airflow's own APIs: the public one with accounts of Interlock's, and whether the execution API is guarded."""
