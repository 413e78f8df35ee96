"""Something breaks in the middle of a deployment: many trials, each with a fault at a random moment."""
