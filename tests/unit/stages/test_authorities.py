"""A permit needs the approval of an authority, unless there is none, and is refused if it cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from interlock.adapters.signing.signing import generate_key, load_signer
from interlock.adapters.signing.witness import as_witnessed
from interlock.domain.catalogue import ChangeType
from interlock.domain.errors import TransientError
from interlock.domain.ledger.chain import Entry, next_entry
from interlock.domain.ledger.events import AnswerElsewhere
from interlock.domain.ledger.kinds import RECORD_ANSWERED
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
    (tmp_path / "systems.yaml").write_text("systems:\n  snow:\n    kind: pagerduty\n    connection: pager\n")
    (found,) = said(samples.rollout(2), entries(snow="authority"))
    assert "systems of its kind (pagerduty) approve nothing" in found


def test_a_receiver_of_webhooks_approves_by_events_of_the_sources_that_policy_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "systems.yaml").write_text("systems:\n  erp:\n    kind: webhook\n    connection: erp_hook\n")
    generate_key(tmp_path / "witness.pem")
    signer = load_signer((tmp_path / "witness.pem").as_uri())
    monkeypatch.setattr(resources, "witness_key", lambda: signer.public_key)
    source = {"connection": "erp", "system": "erp", "approves": ["a"], "withdraws": ["w"]}
    policies = [samples.policy(), samples.policy(events={"events": source})]
    monkeypatch.setattr(authorities, "load_rules", lambda _: (policies[-1], SimpleNamespace(names={"ben": "Ben"})))
    plan, chain = samples.rollout(2), [*entries(erp="authority")]
    monkeypatch.setattr(authorities.BaseHook, "get_connection", lambda name: None)
    (found,) = said(plan, chain)
    assert found == f"{chain[0].chain.removeprefix('release/')} in erp is not approved."
    at = chain[-1].at
    about = {**dict.fromkeys(("what", "webhook", "event", "type", "sender"), "a"), "source": "events", "body": "0" * 64}
    of = {"system": "erp", "plan": plan.digest, "user": "ben", "set_by": "ben", "state": "approved", "at": at}
    payload = as_witnessed(RECORD_ANSWERED, chain[0].chain, AnswerElsewhere.model_validate({**about, **of}), at, signer)
    last = {"chain": chain[0].chain, "at": at, "actor": "event.events", "kind": RECORD_ANSWERED, "key": "k"}
    chain.append(next_entry(chain[-1], payload=payload, **last))
    assert said(plan, chain) == [""]
    policies.pop()
    assert said(plan, chain) == [
        "erp is an authority for this release, but no source under events of policy.yaml approves for it."
    ]


def test_an_emergency_and_a_rehearsal_wait_for_no_authority() -> None:
    for changes in ({"change_type": ChangeType.EMERGENCY}, {"rehearsal": True, "environment": "test"}):
        assert [*said(samples.rollout(2, **changes), entries(snow="authority"))] == []


def test_an_authority_that_does_not_answer_approves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: Any) -> Standing:
        raise TransientError("ServiceNow did not answer.", next_step="wait")

    monkeypatch.setattr(authorities, "_standing", silent)
    (found,) = said(samples.rollout(2), entries(snow="authority"))
    assert found == "The approval of the release in snow could not be read: ServiceNow did not answer."
