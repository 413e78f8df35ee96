"""What a release is, and every decision about one: no Airflow, no cloud, no network."""
