"""Text that attacks, in the fields of pages that people, pipelines and other systems fill: it is drawn as text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.drawn_page import drawn

ATTACK = "javascript:alert(1)//<img src=x onerror=alert(1)>\u202e=1+1 " + "x" * 10_000
DAG, RUN, AT = "release_bike_shop", "r1", "2026-11-30T10:00:00Z"
DELIVERY = {"dag_id": DAG, "run_id": RUN, "system": ATTACK, "state": "refused", "attempts": 3, "next_at": AT}
CASE = {"case": "till", "title": ATTACK, "environment": "test", "task_id": "quality.run_case", "map_index": 0}
FILE = {"name": ATTACK, "file": {"sha256": "0" * 64, "size": 1}, "by": "fay", "at": AT, "kind": "png"}
OF_RUN: list[tuple[str, Any]] = [
    ("/explanation", {"state": "stuck", "why": ATTACK, "acts": [], "refusals": [], "earliest": None}),
    ("/findings", {name: [ATTACK] for name in ("findings", "missing", "conflicts", "unsaid", "overtaken")}),
    ("/progress", {"environments": [], "steps": [], "defects": [], "rehearsal": None}),
    (
        "/records",
        {"records": {"waves": []}, "reasons": {"policy.resolve": ATTACK}, "waits": {}, "unread": {"x": ATTACK}},
    ),
    ("/in-force", {"stops": [ATTACK], "freezes": [ATTACK], "incidents": [ATTACK]}),
    ("/names", {"rita": ATTACK}),
    ("/questions", {"questions": [], "total_entries": 0}),
    ("/taskInstances", {"task_instances": [], "total_entries": 0}),
    ("/hitlDetails", {"hitl_details": [], "total_entries": 0}),
]
DELIVERIES = {
    "deliveries": [{**DELIVERY, "number": ATTACK, "url": ATTACK, "reason": ATTACK}],
    "total_entries": 1,
    "at": AT,
}
CASES = {
    "cases": [{**CASE, "path": "dags/x", "files": [FILE], "taker": {"user": ATTACK, "since": AT}}],
    "total_entries": 1,
    "most_bytes": 1,
    "user": "fay",
}
ROW = {
    **{"case": "till", "title": ATTACK, "ticket": ATTACK, "environment": "test", "state": "failed", "by": ATTACK},
    **{"comment": ATTACK, "step": ATTACK, "evidence": ATTACK, "at": AT, "files": [FILE], "taker": None, "testers": []},
    **{"defect": ATTACK, "because": [ATTACK], "proves": [ATTACK], "artifact": "1.0.0"},
}
MATRIX = {"rows": [ROW], "untested": [ATTACK], "defects": []}
PAGES: dict[str, list[tuple[str, Any]]] = {
    "Deliveries": [("/deliveries", DELIVERIES)],
    "Test matrix": [("/matrix", MATRIX), ("/cases", CASES), ("/names", {"fay": ATTACK})],
    "Release": [
        *OF_RUN,
        ("/deliveries", DELIVERIES),
        (
            "/dagRuns/",
            {"dag_id": DAG, "dag_run_id": RUN, "state": "running", "conf": {}, "triggering_user_name": "rita"},
        ),
    ],
    "InterlockHome": OF_RUN,
}


def attributes(drawing: Any) -> Iterator[tuple[str, Any]]:
    """Yield each attribute of what is drawn, but for what is text."""
    if isinstance(drawing, list):
        for one in drawing:
            yield from attributes(one)
    elif isinstance(drawing, dict):
        for name, value in drawing.items():
            if name == "children":
                yield from attributes(value)
            else:
                yield name, value


@pytest.mark.parametrize("page", PAGES)
def test_what_attacks_is_text(tmp_path: Path, page: str) -> None:
    _, said = drawn(tmp_path, page, PAGES[page], dagId=DAG, runId=RUN)
    assert said.count("onerror=alert(1)") >= 2, "it is shown"
    carry = {name for name, value in attributes(json.loads(said)) if "onerror=alert(1)" in json.dumps(value)}
    assert carry <= {"key", "title", "aria-label"}, "attributes that are words"


def strings(drawing: Any) -> Iterator[str]:
    """Yield each text that is not isolated from its surroundings."""
    if isinstance(drawing, str):
        yield drawing
    elif isinstance(drawing, list):
        for one in drawing:
            yield from strings(one)
    elif isinstance(drawing, dict) and drawing["type"] != "bdi":
        yield from strings(drawing.get("children"))


@pytest.mark.parametrize("page", PAGES)
def test_a_mark_of_direction_turns_nothing_that_follows_it(tmp_path: Path, page: str) -> None:
    _, said = drawn(tmp_path, page, PAGES[page], dagId=DAG, runId=RUN)
    turned = [one.replace(ATTACK, "…") for one in strings(json.loads(said)) if "\u202e" in one]
    assert [one for one in turned if not one.endswith("…")] == []
