"""Chat: Slack through Airflow's provider, everything else through Apprise."""
