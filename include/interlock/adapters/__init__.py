"""Access to the outside world, one room for each kind of system; each function gets its client as an argument."""
