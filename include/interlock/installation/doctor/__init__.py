"""``interlock doctor``: the checks of a running installation. They change nothing."""
