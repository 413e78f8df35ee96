"""Who may log in and do what: Airflow's auth manager with release control, accounts, and the table of roles."""
