"""What was asked for is read from the run once, and has to stay what it was."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import get_current_context

from include.interlock.domain.errors import PolicyViolation
from include.interlock.stages import policy
from tests.running_task import RunningTask

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


def asked(user: str = "rita", **changes: Any) -> Any:
    """Let the running task's run ask for something."""
    context: Any = get_current_context()
    context["params"] = {**FORM, **changes}
    context["dag_run"] = SimpleNamespace(**{**vars(context["dag_run"]), "triggering_user_name": user})
    return policy.requested("bike-shop")


def begin(running: RunningTask) -> None:
    running.recorded.append(("release.requested", policy.as_asked("bike-shop", asked())))


def test_a_run_that_still_asks_for_the_same_goes_on(running: RunningTask) -> None:
    begin(running)
    assert asked().version == "1.1.0"
    assert [kind for kind, _ in running.recorded] == ["release.requested"]


@pytest.mark.parametrize(
    "changes", [{"ref": "1.3.0"}, {"rehearsal": True}, {"change_type": "emergency"}, {"user": "mallory"}]
)
def test_a_run_that_was_edited_since_is_refused_and_that_is_a_finding(
    running: RunningTask, changes: dict[str, Any]
) -> None:
    begin(running)
    with pytest.raises(PolicyViolation, match="no longer asks for what it asked for"):
        asked(**changes)
    assert running.recorded[-1][0] == "finding"
