"""Test cases that people run: which a release must run, what came of them, and the matrix of both."""
