"""Git: what a ref means, what changed between commits, and a clean checkout."""
