"""Tickets of a release: which ones its request and its commits name, what was read of them, what policy demands."""
