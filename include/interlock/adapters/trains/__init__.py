"""Release trains: which versions would board now, and how past trains went."""
