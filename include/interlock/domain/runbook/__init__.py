"""Steps around the waves: how they are planned, done once, and taken back."""
