"""The Dags around releases: emergency stops, overrides, withdrawals, marks, reviews, returning hosts, reconcile."""
