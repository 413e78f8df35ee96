"""What people use in the Airflow UI besides the Dags: pages, checks of trigger forms, roles."""
