"""What runs where: the rows and cells of the page Board, of all services and environments."""
