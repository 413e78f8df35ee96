"""How a fleet is changed: waves, and how many hosts at a time."""
