"""The environments before production: what is deployed, measured and judged there, and how a release passes them."""
