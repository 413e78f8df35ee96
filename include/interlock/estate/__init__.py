"""The embedded estate: an AWS API, SSH hosts, mail and Airflow itself, on one machine."""
