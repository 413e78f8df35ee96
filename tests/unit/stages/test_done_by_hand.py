"""What people did to a release by hand, as its permit's check looks for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from interlock.domain.ledger.interventions import AuditRow
from interlock.stages.runtime import permits, resources
from tests.memory_ledger import MemoryLedger

RUN = ("release_bike_shop", "1.1.0__2026-11-29T09-29-27.569Z")


def row(event: str, run: tuple[str, str] = RUN) -> AuditRow:
    at = datetime.now(UTC) - timedelta(hours=1)
    of, asked = {"dag_id": run[0], "run_id": run[1]}, {"method": "GET" if event.startswith("get_") else "PATCH"}
    return AuditRow(id=7, at=at, event=event, user="olga", task_id="rollout.cast_ballot", details=asked, **of)


def test_all_that_was_ever_refused_is_read_only_if_something_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a ledger of some years, that is tens of thousands of entries, for each wave of each release."""
    looks: list[datetime] = []

    @contextmanager
    def ledger() -> Iterator[MemoryLedger]:
        looks.append(datetime.now(UTC))
        yield MemoryLedger()

    monkeypatch.setattr(resources, "ledger", ledger)
    assert permits._not_refused([], RUN) == ()
    assert (
        permits._not_refused([row("get_task_instance"), row("patch_task_instance", ("release_other", "1"))], RUN) == ()
    )
    assert looks == []
    done = row("patch_task_instance")
    assert permits._not_refused([done], RUN) == (done,)
    assert looks
