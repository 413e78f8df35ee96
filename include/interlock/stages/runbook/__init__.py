"""Steps around the waves: the tasks that do them once, and that take them back."""
