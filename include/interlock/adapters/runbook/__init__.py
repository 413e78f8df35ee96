"""What a restored copy of a database has, to compare it before and after a change."""
