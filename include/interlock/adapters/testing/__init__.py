"""Files of test cases: read from a service's repository and from the catalogue."""
