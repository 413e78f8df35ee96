"""The Dags around releases: emergency stops, overrides, withdrawals, overtakings, marks, reviews, returning hosts."""
