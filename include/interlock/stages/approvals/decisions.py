"""Record a decision that people made."""

from __future__ import annotations

from typing import Any

from interlock.domain.errors import GateRejected
from interlock.domain.ledger.kinds import decision_on
from interlock.domain.records import Decision
from interlock.stages.runtime.evidence import record
from interlock.stages.runtime.taskflow import keep_result


def settled(decision: Decision | None, **about: Any) -> Decision:
    """Record a decision and return it if it is an approval; leave a rejection as the task's result and fail with it.

    :param about: further fields of the recorded decision.
    """
    if decision is None:
        raise GateRejected("No approver answered in time.", next_step="trigger the release again")
    record(decision_on(decision.subject), {**decision.to_xcom(), **about}, seal=True)
    if not decision.approved:
        keep_result(decision)
        raise GateRejected(decision.reason)
    return decision
