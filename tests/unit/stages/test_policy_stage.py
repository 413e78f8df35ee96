"""What was asked for is read from the run once, and has to stay what it was."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import get_current_context

from interlock.domain.errors import PolicyViolation
from interlock.domain.ledger.kinds import RUN_ASKED
from interlock.domain.ledger.witness import AskedRun
from interlock.stages.release import policy
from interlock.stages.runtime import requests, resources
from tests.airflow_server import RUN
from tests.running_task import RunningTask, asked_for
from tests.witness import asked_payload

FORM = {
    "ref": "1.1.0",
    "version": "1.1.0",
    "change_type": "normal",
    "summary": "Sells bikes on the web",
    "risk_customer_data": False,
    "risk_irreversible": False,
    "risk_peak_hours": False,
    "risk_new_dependency": False,
}


def asked(running: RunningTask, user: str = "rita", **changes: Any) -> Any:
    """Let the running task's run ask for something, as it came in at the API."""
    context: Any = get_current_context()
    context["params"] = {**FORM, **changes}
    running.asked = entry(asked_for(RUN, user, changes))
    by_airflow(triggering_user_name=user, conf=changes)
    return policy.requested(resources.catalogue_of("bike-shop"))


def entry(run: AskedRun) -> SimpleNamespace:
    at = datetime.now(UTC)
    return SimpleNamespace(kind=RUN_ASKED, chain=run.chain, at=at, payload=asked_payload(run, at))


def by_airflow(**said: Any) -> None:
    """Have Airflow's record of the run say something."""
    context: Any = get_current_context()
    context["dag_run"] = SimpleNamespace(**{**vars(context["dag_run"]), **said})


def begin(running: RunningTask) -> None:
    running.recorded.append(("release.requested", policy.as_asked("bike-shop", asked(running))))


def test_a_run_that_still_asks_for_the_same_goes_on(running: RunningTask) -> None:
    begin(running)
    assert asked(running).version == "1.1.0"
    assert [kind for kind, _ in running.recorded] == ["release.requested"]


@pytest.mark.parametrize(
    "changes", [{"ref": "1.3.0"}, {"rehearsal": True}, {"change_type": "emergency"}, {"user": "mallory"}]
)
def test_a_run_that_was_edited_since_is_refused_and_that_is_a_finding(
    running: RunningTask, changes: dict[str, Any]
) -> None:
    begin(running)
    with pytest.raises(PolicyViolation, match="was changed after the run started"):
        asked(running, **changes)
    assert running.recorded[-1][0] == "finding"


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        pytest.param(
            {"triggering_user_name": "maya"},
            "the ledger names rita as its requester, but Airflow names maya",
            id="user",
        ),
        pytest.param(
            {"triggering_user_name": None},
            "the ledger names rita as its requester, but Airflow names no user",
            id="none",
        ),
        pytest.param(
            {"conf": {"ref": "1.3.0"}}, "the form that rita submitted differs from the form in Airflow", id="form"
        ),
    ],
)
def test_a_run_whose_row_in_airflows_database_was_edited_does_nothing(
    running: RunningTask, said: dict[str, Any], problem: str
) -> None:
    asked(running)
    assert requests.requester() == "rita"
    by_airflow(**said)
    with pytest.raises(PolicyViolation, match=problem):
        requests.requester()


def test_a_run_that_was_written_into_airflows_database_does_nothing(
    running: RunningTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "WITNESS_TIMEOUT_SECONDS", 0.01)
    by_airflow(triggering_user_name="rita", conf=None)
    with pytest.raises(
        PolicyViolation, match="the ledger has no request for it, but Airflow names rita as its requester"
    ):
        requests.requester()


def test_a_task_waits_for_the_record_of_who_asked(running: RunningTask, monkeypatch: pytest.MonkeyPatch) -> None:
    by_airflow(triggering_user_name="rita", conf=None)
    found = iter([None, None, entry(asked_for(RUN, "rita"))])
    monkeypatch.setattr(running, "find", lambda *_: next(found))
    assert requests.requester() == "rita"
