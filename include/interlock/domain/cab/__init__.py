"""What a board has before it: its agenda, what its members ask back, and the minutes of its meetings."""
