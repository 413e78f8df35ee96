"""The pages in Airflow's UI: a release, its quality report, the release calendar, and downloads."""
