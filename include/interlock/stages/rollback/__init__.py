"""The rollback of a service to a release that it ran before."""
