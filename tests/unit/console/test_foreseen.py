"""When a release will be through, from the ledger to what is drawn: the tab Release, and what needs its requester.

The pages are those that are shipped, run with a React that only keeps what is drawn.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from interlock.domain.forecast.forecast import ENOUGH
from interlock.domain.ledger.chain import INSTALLATION, release_chain
from interlock.domain.ledger.kinds import (
    ACCEPTANCE_DECIDED,
    ARTIFACT_BUILT,
    BOARD_DECIDED,
    COMMUNICATION_RECORDED,
    PLAN_MADE,
    QUALITY_JUDGED,
    RELEASE_ENDED,
    RELEASE_REQUESTED,
    ROLLOUT_FROZEN,
    VERIFICATION_JUDGED,
    WAVE_DEPLOYED,
)
from interlock.domain.outcome.explain import Explanation
from interlock.domain.overview.board import Flight
from tests.drawn_page import drawn
from tests.factories import releases
from tests.factories.histories import history
from tests.memory_ledger import MemoryLedger

pytestmark = pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`")
DAG, RUN = "release_bike_shop", "under way"
KINDS = {
    "planned": PLAN_MADE,
    "built": ARTIFACT_BUILT,
    "judged": QUALITY_JUDGED,
    "accepted": ACCEPTANCE_DECIDED,
    "frozen": ROLLOUT_FROZEN,
    "approved": BOARD_DECIDED,
    "told": COMMUNICATION_RECORDED,
    "begun": WAVE_DEPLOYED,
    "deployed": WAVE_DEPLOYED,
    "verified": VERIFICATION_JUDGED,
}
"""What is recorded of a release that passes a milestone."""
ABOUT = {"service": "bike-shop", "change_type": "normal"}


def told(number: int) -> tuple[MemoryLedger, datetime]:
    """Return a ledger with so many earlier releases and one that waits for its board, and what time it is then."""
    ledger, now = MemoryLedger(), datetime.now(UTC)
    known = sorted(history(number, services=1), key=lambda one: one.milestones["ended"])
    for one in known:
        chain = release_chain(DAG, one.version)
        assert one.requested_at is not None
        ledger.append(chain, RELEASE_REQUESTED, ABOUT, actor="task", key="asked", at=one.requested_at)
        for name, kind in KINDS.items():
            if name in one.milestones:
                ledger.append(chain, kind, ABOUT, actor="task", key=name, at=one.milestones[name])
        end = {**ABOUT, "run": f"{DAG}/{one.version}", "version": one.version, "outcome": one.outcome}
        ledger.append(INSTALLATION, RELEASE_ENDED, end, actor="task", key=one.run, at=one.milestones["ended"])
    for kind, payload in (
        (RELEASE_REQUESTED, ABOUT),
        (PLAN_MADE, releases.plan().to_xcom()),
        (ROLLOUT_FROZEN, releases.rollout().to_xcom()),
    ):
        ledger.append(release_chain(DAG, RUN), kind, payload, actor="task", key=kind, at=now - timedelta(hours=1))
    return ledger, now


def foreseen(ledger: MemoryLedger, now: datetime) -> dict[str, Any]:
    """Return what is said of the release to its requester."""
    # Not at the top: what Airflow's API imports warns.
    from interlock.console.api import needs_me
    from interlock.console.api.measures import MeasuredOverview

    flight = Flight(
        dag_id=DAG, run_id=RUN, version="1.1.0", requested_by="rita", since=now, rollback=False, state="asks"
    )
    standing = needs_me._standing(flight, "waits", Explanation(state="waits", why="Waiting for Ben Adler."))
    state = SimpleNamespace(measured=MeasuredOverview(lambda: ledger), open_ledger=lambda: ledger)
    request: Any = SimpleNamespace(app=SimpleNamespace(state=state))
    (found,) = needs_me._foreseen(request, frozenset({DAG}), [standing], now)
    return dict(found.model_dump(mode="json"))


def shown(at: str) -> str:
    """Return an instant as pages show it."""
    return f"{datetime.fromisoformat(at).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def test_with_enough_releases_before_it_both_pages_say_when_it_will_be_through(tmp_path: Path) -> None:
    ledger, now = told(30)
    standing = foreseen(ledger, now)
    found = standing["forecast"]
    assert found["based_on"] >= ENOUGH
    assert now < datetime.fromisoformat(found["half"]) < datetime.fromisoformat(found["nine_of_ten"])
    half, nine = shown(found["half"]), shown(found["nine_of_ten"])
    needs = {"questions": [], "total_questions": 0, "requested": [standing], "stuck": [], "leaving": [], "reviews": []}
    _, said = drawn(tmp_path, "Needs me", [("/needs-me", {**needs, "at": now.isoformat()})])
    assert f"Through by {half} in half of the cases, by {nine} in nine of ten" in said
    _, tab = drawn(tmp_path, "Release", story(found), dagId=DAG, runId=RUN)
    assert (
        f"Forecast: through by {half} in half of the cases, by {nine} in nine of ten, from {found['based_on']} earlier "
        "releases. Still to come: Vote of the board (Ben Adler, cora, dan), Communication and training," in tab
    )


def test_with_too_few_the_tab_says_how_many_it_needs(tmp_path: Path) -> None:
    standing = foreseen(*told(5))
    assert standing["forecast"]["half"] is None
    _, said = drawn(tmp_path, "Release", story(standing["forecast"]), dagId=DAG, runId=RUN)
    assert f"Forecast: It needs {ENOUGH} earlier releases that got through; " in said


def story(forecast: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the answers to what the tab of a release asks."""
    return [
        ("/forecast", {"dag_id": DAG, "run_id": RUN, "forecast": forecast, "readiness": {}, "at": ""}),
        ("/explanation", {"state": "waits", "why": "Waiting.", "acts": [], "refusals": [], "earliest": None}),
        ("/findings", {"findings": [], "missing": [], "conflicts": [], "unsaid": [], "overtaken": []}),
        ("/progress", {"environments": [], "steps": [], "defects": [], "rehearsal": None}),
        ("/records", {"records": {"waves": []}, "reasons": {}, "waits": {}, "unread": {}}),
        ("/deliveries", {"deliveries": [], "total_entries": 0}),
        ("/in-force", {"stops": [], "freezes": [], "incidents": []}),
        ("/names", {"ben": "Ben Adler"}),
        ("/questions", {"questions": [], "total_entries": 0}),
        ("/taskInstances", {"task_instances": [], "total_entries": 0}),
        ("/hitlDetails", {"hitl_details": [], "total_entries": 0}),
        (
            "/dagRuns/",
            {"dag_id": DAG, "dag_run_id": RUN, "state": "running", "conf": {}, "triggering_user_name": "rita"},
        ),
    ]
