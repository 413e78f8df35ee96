"""Reports of test runners: JUnit reports and coverage, read into rows.

What a report says in any place becomes a row, or makes the report unusable, with the place: a gate that passes over
what it does not know would pass what failed. The files come from a build, so nothing in them is trusted, and however
big they are, little of them is held in memory.
"""

from ._coverage import coverage_rows
from ._junit import is_junit, junit_rows

__all__ = ["coverage_rows", "is_junit", "junit_rows"]
