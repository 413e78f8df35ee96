"""Permission to change production: the permit, its fencing token, and what belongs to production."""
