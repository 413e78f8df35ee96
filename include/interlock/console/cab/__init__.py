"""The routes of the page *CAB*: the agenda of a board, remarks on an item, and minutes."""
