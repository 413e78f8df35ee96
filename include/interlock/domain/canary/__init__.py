"""A canary judged beside its baseline: the rounds of measurements, error counts and the verdict."""
