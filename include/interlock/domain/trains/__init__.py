"""Release trains: when they depart, and the frozen manifest of their passengers."""
