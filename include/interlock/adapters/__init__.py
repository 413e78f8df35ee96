"""The outside world, one module per kind of thing; each function is handed its client."""
