"""The ten stages of a release and its closure, a module each."""
