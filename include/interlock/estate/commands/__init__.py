"""How the demo releases the sample: a client of Airflow, people who answer, and what is shown of the release."""
