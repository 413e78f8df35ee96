"""A canary, judged next to its baseline: the rounds of measurements, error counts and the verdict."""
