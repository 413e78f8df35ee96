"""Reports of tests and coverage read into rows, and the judgement of Great Expectations on them."""
