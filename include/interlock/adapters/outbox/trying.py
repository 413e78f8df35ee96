"""A test of a system: a record is made there and cancelled."""

from __future__ import annotations

from datetime import UTC, datetime

from interlock.domain.catalogue import PRODUCTION, ChangeType
from interlock.domain.outbox.delivery import Cursor, Remote
from interlock.domain.outbox.facts import Change, Statement

from .system import System


def try_out(system: System, correlation: str) -> Remote:
    """Make a test record and cancel it; return it.

    :raises DeliveryRefused: the system refuses something, such as a record without a mandatory field.
    """
    now = datetime.now(UTC)
    change = Change(
        chain="connect",
        service="interlock",
        version="0.0.0",
        change_type=ChangeType.NORMAL,
        environment=PRODUCTION,
        title="Test of the connection with Interlock",
        summary="A test of the connection. It is cancelled at once.",
        description="A test of the connection. It is cancelled at once, and nothing is released.",
        requested_by="interlock",
        tickets=(),
        commit="",
        risk=0,
        planned_at=now,
        planned_start=now,
    )
    statement = Statement(told=Cursor(1), at=now, event="planned", text="Made by interlock connect.", change=change)
    remote = system.create(correlation, statement)
    ended = change.model_copy(update={"phase": "cancelled", "outcome": "withdrawn", "reason": "It was a test."})
    return system.change(remote, statement.model_copy(update={"told": Cursor(2), "event": "closed", "change": ended}))
