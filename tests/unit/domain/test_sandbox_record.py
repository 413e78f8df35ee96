"""What the hosts of an environment before production may run: by who entered it, and by what they left there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.host_record import SandboxRecord, sandbox_record
from interlock.domain.ledger.kinds import (
    ARTIFACT_BUILT,
    BACK_OUT_DONE,
    DEPLOYMENT_FAILED,
    ENVIRONMENT_ENTERED,
    PATH_DEPLOYED,
    PLAN_MADE,
    ROLLOUT_FROZEN,
    TEST_DEPLOYED,
    WAVE_DEPLOYED,
)
from interlock.domain.permits.fencing import Admittance
from interlock.domain.records import RunningRelease, TestDeployment
from tests.factories import releases

OLD, NEW = "1.0.0-0123456789ab", releases.artifact().release
FIRST, SECOND = (releases.host(number) for number in (1, 2))


class World:
    """Chains, to which each entry comes a minute after the one before."""

    def __init__(self) -> None:
        self.chains: dict[str, list[Entry]] = {}
        self._minutes = 0

    def put(self, chain: str, kind: str, payload: dict[str, Any]) -> None:
        self._minutes += 1
        at = releases.AT + timedelta(minutes=self._minutes)
        self.chains.setdefault(chain, []).append(
            Entry.model_construct(chain=chain, kind=kind, payload=payload, at=at, sequence=self._minutes)
        )

    def entered(self, holder: str, purpose: str = "deploy") -> None:
        by = Admittance(holder=holder, task="t", attempt=1, purpose=purpose)
        self.put("booked", ENVIRONMENT_ENTERED, by.model_dump(mode="json"))

    def built(self, holder: str) -> None:
        running = (RunningRelease(host="127.77.0.9", release="0.9.0-ffffffffffff"),)
        self.put(holder, PLAN_MADE, releases.plan(running=running).to_xcom())
        self.put(holder, ARTIFACT_BUILT, releases.artifact().to_xcom())

    def deployed(self, holder: str, after: str | None, kind: str = TEST_DEPLOYED, **more: Any) -> None:
        results = [
            releases.host_result(number).model_copy(update={"after": after, "outcome": "deployed", **more})
            for number in (1, 2)
        ]
        self.put(holder, kind, TestDeployment(environment="test", results=tuple(results), base_urls=()).to_xcom())

    def record(self, environment: str = "test") -> SandboxRecord | None:
        return sandbox_record(self.chains.get("booked", []), lambda chain: self.chains.get(chain, []), environment)

    def allowed(self, environment: str = "test") -> set[str | None] | None:
        found = self.record(environment)
        may = found.allowed(FIRST.address, FIRST.instance_id) if found else None
        return None if may is None else set(may)


@pytest.fixture
def world() -> World:
    made = World()
    made.entered("r1")
    made.deployed("r1", OLD)
    return made


def test_where_no_deployment_is_on_record_nothing_is_known() -> None:
    world = World()
    assert world.record() is None
    world.entered("r1")
    assert world.record() is None


def test_what_was_deployed_last_is_what_hosts_run(world: World) -> None:
    found = world.record()
    assert found is not None
    assert world.allowed() == {OLD}
    assert found.chain == "r1"
    assert found.at == world.chains["r1"][-1].at
    assert found.allowed(FIRST.address, "i-another") is None, "a host that was created anew"
    assert found.allowed("127.77.0.99", FIRST.instance_id) is None
    assert world.record("staging") is None
    for purpose in ("inspect", "step", "traffic", "restart"):
        world.entered("r2", purpose)
    assert world.allowed() == {OLD}


def test_while_a_release_deploys_hosts_run_what_they_had_or_get(world: World) -> None:
    world.built("r2")
    world.entered("r2")
    assert world.allowed() == {OLD, NEW, "0.9.0-ffffffffffff"}, "a rehearsal brings what production runs"
    found = world.record()
    assert found is not None
    assert (found.chain, found.at) == ("r1", world.chains["booked"][-1].at)
    world.deployed("r2", NEW)
    assert world.allowed() == {NEW}
    world.entered("r2")  # a second try
    assert world.allowed() == {NEW, "0.9.0-ffffffffffff"}


def test_what_a_failed_deployment_left_counts_as_far_as_it_is_known(world: World) -> None:
    world.built("r2")
    world.entered("r2")
    world.deployed("r2", OLD, DEPLOYMENT_FAILED, outcome="failed")
    assert world.allowed() == {OLD}
    world.entered("r3")
    world.deployed("r3", None, DEPLOYMENT_FAILED, outcome="failed")
    assert world.allowed() is None, "the host did not say what it runs"


def test_a_deployment_to_another_environment_is_none_of_this_one(world: World) -> None:
    world.put("r1", PATH_DEPLOYED, {"environment": "staging", "results": []})
    assert world.allowed() == {OLD}


def test_a_rehearsal_that_rolls_out_before_production_counts_and_so_does_its_back_out(world: World) -> None:
    plan = releases.rollout(environment="test")
    world.put("r2", ROLLOUT_FROZEN, plan.to_xcom())
    world.entered("r2")
    world.put("r2", WAVE_DEPLOYED, releases.wave(1, releases.host_result(1)).to_xcom())
    assert world.allowed() == {NEW}
    world.entered("r2", "back_out")
    back = releases.host_result(1).model_copy(update={"outcome": "backed_out", "after": OLD})
    untouched = releases.host_result(1).model_copy(update={"outcome": "untouched", "after": None})
    world.put("r2", BACK_OUT_DONE, {"results": [one.model_dump(mode="json") for one in (back, untouched)]})
    assert world.allowed() == {OLD}
    world.put("r3", ROLLOUT_FROZEN, releases.rollout().to_xcom())
    world.entered("r3")
    world.put("r3", WAVE_DEPLOYED, releases.wave(1, releases.host_result(1)).to_xcom())
    assert world.allowed() == {OLD}, "its waves went to production"
