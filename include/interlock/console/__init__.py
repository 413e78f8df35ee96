"""What people meet in the Airflow UI besides the Dags: pages, the door of the trigger form, roles."""
