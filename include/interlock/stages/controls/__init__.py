"""The Dags that look after releases: emergency stops, overrides, marks, reviews, returning hosts, reconcile."""
