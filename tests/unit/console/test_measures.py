"""The measures in tables and for Prometheus: what people wrote is text there, and nothing else."""

from __future__ import annotations

import csv
import io

import pytest

from interlock.console.api.tables import as_csv, as_metrics
from interlock.domain.measures.measures import Figure, Measures, Seat


def measures(user: str = "ben") -> Measures:
    figure = Figure(key="on_time", title="On time", group="ITIL", definition="In time.", unit="share", value=0.5)
    none = Figure(key="lead", title="Lead", group="DORA", definition="How long.", unit="seconds")
    seat = Seat(stage="Plan", user=user, answers=1, median_seconds=2, p90_seconds=3, quick=1)
    return Measures(figures=(figure, none), seats=(seat,))


@pytest.mark.parametrize("wrote", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_no_cell_is_a_formula(wrote: str) -> None:
    rows = list(csv.reader(io.StringIO(as_csv(measures(wrote)), newline="")))
    assert rows[-1] == ["Plan", f"'{wrote}", "1", "2.0", "3.0", "1"]
    assert rows[1] == ["On time", "share", "0.5", "", "0", "0", "In time.", "ITIL"]


def test_gauges_have_a_label_that_ends_where_it_ends() -> None:
    assert as_metrics({'a"b\\c\nd': measures()}).splitlines() == [
        "# HELP interlock_on_time In time.",
        "# TYPE interlock_on_time gauge",
        'interlock_on_time{service="a\\"b\\\\c\\nd"} 0.5',
        "# HELP interlock_lead_seconds How long.",
        "# TYPE interlock_lead_seconds gauge",
    ]
