"""Generated pairs of versions with a database change between them, each broken at some step, on real PostgreSQL."""
