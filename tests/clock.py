"""The time of tests that speak of today and tomorrow: the same in each run, however long the run takes."""

from __future__ import annotations

from datetime import UTC, datetime

NOW = datetime(2027, 3, 3, 10, tzinfo=UTC)
"""What the fixture ``clock`` sets this process's clock to: a Wednesday, far from midnight and changes of clocks."""
