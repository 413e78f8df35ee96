"""What a release is, and the rules for every decision about it: no Airflow, no cloud, no network."""
