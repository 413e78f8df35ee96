"""A permit needs the approval of an authority, unless there is none, and is refused if it cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from interlock.domain.catalogue import ChangeType
from interlock.domain.errors import TransientError
from interlock.domain.ledger.chain import Entry
from interlock.domain.records import RolloutPlan
from interlock.stages.approvals import authorities
from interlock.stages.approvals.authorities import Standing, standings
from interlock.stages.runtime import resources
from tests.factories.told_releases import chain_of, chained, steps
from tests.unit.domain import samples


@pytest.fixture(autouse=True)
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authorities, "catalogue_folder", lambda: tmp_path)
    monkeypatch.setattr(resources, "ledger", lambda: nullcontext(None))


def entries(**records: str) -> Sequence[Entry]:
    return chained(chain_of(1), steps(records=records))


def said(plan: RolloutPlan, entries: Sequence[Entry]) -> list[str]:
    return [one.why for one in standings(plan, entries)]


def test_no_authority_is_asked_where_policy_names_none() -> None:
    assert [*said(samples.rollout(2), entries())] == []
    assert [*said(samples.rollout(2), entries(snow="mirror"))] == []


def test_an_authority_that_the_catalogue_lost_approves_nothing() -> None:
    (found,) = said(samples.rollout(2), entries(snow="authority"))
    assert found == "snow is an authority for this release, but systems.yaml does not have it."


def test_a_system_without_approvals_cannot_be_an_authority(tmp_path: Path) -> None:
    hook = "systems:\n  snow:\n    kind: webhook\n    connection: snow_hook\n"
    (tmp_path / "systems.yaml").write_text(hook)
    (found,) = said(samples.rollout(2), entries(snow="authority"))
    assert "systems of its kind (webhook) approve nothing" in found


def test_an_emergency_and_a_rehearsal_wait_for_no_authority() -> None:
    for changes in ({"change_type": ChangeType.EMERGENCY}, {"rehearsal": True, "environment": "test"}):
        assert [*said(samples.rollout(2, **changes), entries(snow="authority"))] == []


def test_an_authority_that_does_not_answer_approves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: Any) -> Standing:
        raise TransientError("ServiceNow did not answer.", next_step="wait")

    monkeypatch.setattr(authorities, "_standing", silent)
    (found,) = said(samples.rollout(2), entries(snow="authority"))
    assert found == "The approval of the release in snow could not be read: ServiceNow did not answer."
