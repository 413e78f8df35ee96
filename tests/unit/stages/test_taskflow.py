"""What a function of records becomes, and what its failures mean to Airflow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import create_autospec

import pytest
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.types import RuntimeTaskInstanceProtocol

from include.interlock.domain.errors import HostUnreachable, PolicyViolation, TransientError
from include.interlock.domain.records import Decision
from include.interlock.stages import taskflow

DECISION = Decision(subject="board", digest="a" * 64, approved=True, required=True, reason="2 of 3 approved")


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The XComs that the running task leaves."""
    kept: dict[str, Any] = {}
    ti = create_autospec(RuntimeTaskInstanceProtocol, instance=True)
    ti.xcom_push.side_effect = lambda key, value: kept.__setitem__(key, value)
    monkeypatch.setattr(taskflow, "get_current_context", lambda: {"ti": ti})
    return kept


def run(function: Any, *args: Any) -> Any:
    """Run the function of a stage task as its worker would."""
    return taskflow.stage_task()(function).function(*args)


def test_records_arrive_as_records_and_leave_as_plain_json() -> None:
    def confirm(decision: Decision) -> Decision:
        assert isinstance(decision, Decision)
        return decision

    assert run(confirm, DECISION.to_xcom()) == DECISION.to_xcom()


def test_a_record_that_was_altered_is_refused_for_good(left: dict[str, Any]) -> None:
    def confirm(decision: Decision) -> Decision:
        return decision

    with pytest.raises(AirflowFailException, match="approved_by"):
        run(confirm, {**DECISION.to_xcom(), "approved_by": "me"})
    assert "not one that a task wrote" in left["reason"]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        pytest.param(PolicyViolation("no"), AirflowFailException, id="a rule's refusal is final"),
        pytest.param(TransientError("busy"), TransientError, id="a busy world is tried again"),
        pytest.param(HostUnreachable("down"), HostUnreachable, id="a host may come back"),
        pytest.param(OSError("disk full"), OSError, id="the unexpected is tried again"),
    ],
)
def test_a_failure_leaves_its_reason_and_tells_whether_trying_again_helps(
    left: dict[str, Any], error: Exception, raised: type[Exception]
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(raised):
        run(fail)
    assert str(error) in left["reason"]


def test_a_rejection_leaves_its_evidence_before_it_fails(left: dict[str, Any]) -> None:
    def reject() -> None:
        taskflow.push_result(DECISION)
        raise PolicyViolation("the board said no")

    with pytest.raises(AirflowFailException):
        run(reject)
    assert Decision.from_xcom(left["return_value"]) == DECISION
