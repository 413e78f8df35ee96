"""What other systems are told of a release, and how far each was told."""
