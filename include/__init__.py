"""The project, as Airflow imports it."""
