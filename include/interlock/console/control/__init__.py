"""Release control: what each request to Airflow would change, and whether it may.

What is written down of requests is in :mod:`interlock.console.record`.
"""
