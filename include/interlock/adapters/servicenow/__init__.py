"""ServiceNow by its Change Management API: changes as records of releases, and what was approved there."""
