"""Processes that are stopped in the middle of a visit, and go on when they have lost the right to the host.

The worker's process, or the program on the host, is really stopped, at each step; somebody else does meanwhile what
they have the right to; then it goes on. Hosts, load balancer and ledger stay as the rightful holder left them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from interlock.adapters.hosts.fleet import Deployment
from interlock.adapters.ledger.ledger import Ledger
from interlock.adapters.signing.signing import generate_key
from interlock.domain.ledger.chain import INSTALLATION
from interlock.estate.settings import Settings
from tests.deployments import served
from tests.faults.balancers import Balancers, balancers
from tests.sshd import Fleet, SshdHost, make_release, sshd_fleet, wait_until
from tests.zombie import World, Zombie, work, world_of

BACK_OUT = "release_shop/verification.back_out"


@pytest.fixture(scope="module")
def aws() -> Iterator[Balancers]:
    with balancers(random.Random(0)) as started:
        yield started


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, aws: Balancers) -> Iterator[Fleet]:
    with sshd_fleet(tmp_path_factory.mktemp("fleet")) as started:
        (instance,) = aws.instances(1)
        machine = started.machines[0]
        machine.host = machine.host.model_copy(update={"instance_id": instance})
        yield started


@pytest.fixture(scope="module")
def world(fleet: Fleet, aws: Balancers, server: Settings, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("ledger")
    generate_key(folder / "key")
    return world_of(fleet, server, folder / "key", aws.endpoint, aws.target_group("shop").arn)


@dataclass
class Story:
    """A host that runs 1.0.0, and a release of 1.1.0 whose process is stopped on its way there."""

    world: World
    fleet: Fleet
    machine: SshdHost
    folder: Path
    old: Deployment
    new: Deployment
    chain: str
    others: list[str] = field(default_factory=list)

    def visit(self, deployment: Deployment, chain: str, **how: Any) -> None:
        """Do something rightful."""
        (result,) = work(self.world, deployment, chain, **how)
        assert result.outcome in ("deployed", "backed_out", "unchanged"), result.error

    def close(self, outcome: str, chain: str = "") -> None:
        with self.world.open_ledger() as ledger:
            ledger.append(
                chain or self.chain, "release.closed", {"outcome": outcome}, actor="a task", key=f"closed/{outcome}"
            )

    def in_service(self) -> set[str]:
        health = self.world.elbv2().describe_target_health(TargetGroupArn=self.world.group)
        return {one["Target"]["Id"] for one in health["TargetHealthDescriptions"]}

    def state(self) -> Any:
        root = self.machine.root
        with self.world.open_ledger() as ledger:
            kinds = [entry.kind for entry in ledger.entries(self.chain)]
        kept = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
        return (
            kinds,
            self.machine.current,
            self.machine.releases,
            kept,
            served(self.fleet, self.machine),
            self.in_service(),
        )

    def findings(self) -> list[str]:
        return findings_of(self.world.open_ledger(), self.chain)


def findings_of(ledger: Ledger, chain: str) -> list[str]:
    with ledger:
        found = ledger.entries(INSTALLATION, kind="finding")
    return [str(one.payload["what"]) for one in found if one.payload["evidence"]["release"] == chain]


AROUND = {event: "#!/bin/sh\n" for event in ("BeforeBlockTraffic", "AfterBlockTraffic", "BeforeAllowTraffic")}


@pytest.fixture
def story(world: World, fleet: Fleet, tmp_path: Path, request: pytest.FixtureRequest) -> Story:
    name = f"manual__{abs(hash(request.node.name)) % 10**9}"
    old = make_release(fleet, tmp_path, "1.0.0", hooks=AROUND)
    # Noise in it, so that no test before has brought it to the host.
    new = make_release(fleet, tmp_path, "1.1.0", hooks=AROUND, deployment_id=f"release_shop/{name}", padding=100)
    made = Story(world, fleet, fleet.machines[0], tmp_path, old, new, f"release/release_shop/{name}")
    made.visit(old, f"release/release_shop/before-{name}", task="release_shop/implementation.wave_1")
    return made


# --- what comes meanwhile --------------------------------------------------------------------------------------------


def a_rollback(story: Story) -> str:
    """The release ends as deployed by a second try, and a rollback takes its hosts back."""
    a_retry(story)
    back = {story.machine.address: story.old.release}
    story.visit(story.old, f"{story.chain}-back", task="rollback_shop/implementation.wave_1", back=back)
    story.close("deployed", f"{story.chain}-back")
    return "1.0.0"


def another_release(story: Story) -> str:
    story.close("failed")
    other = make_release(story.fleet, story.folder, "1.2.0", deployment_id="release_shop/other")
    story.visit(other, f"{story.chain}-other")
    return "1.2.0"


def a_back_out(story: Story) -> str:
    back = {story.machine.address: story.old.release}
    story.visit(story.new, story.chain, task=BACK_OUT, back=back, purpose="back_out")
    story.close("backed_out")
    return "1.0.0"


def a_retry(story: Story) -> str:
    story.visit(story.new, story.chain, attempt=2)
    story.close("deployed")
    return "1.1.0"


STOPS = [
    ("admit", "before", a_rollback),
    ("admit", "after", a_back_out),
    ("do: receive", "before", a_retry),
    ("do: receive", "after", a_rollback),
    ("do: traffic BeforeBlockTraffic", "after", a_back_out),
    ("take a host out of the load balancer", "before", a_rollback),
    ("do: traffic AfterBlockTraffic", "before", another_release),
    ("do: activate", "before", a_back_out),
    ("do: activate", "after", a_rollback),
    ("do: traffic BeforeAllowTraffic", "after", a_retry),
    ("give a host back to the load balancer", "before", another_release),
    ("do: finish", "before", a_rollback),
    ("do: finish", "after", another_release),
    ("record", "before", a_rollback),
]
IDS = [f"{at} {when} {comes.__name__}".replace("do: ", "").replace(" ", "-") for at, when, comes in STOPS]


@pytest.mark.parametrize(("at", "when", "comes"), STOPS, ids=IDS)
def test_a_worker_that_was_stopped_leaves_all_as_the_rightful_holder_left_it(
    story: Story, at: str, when: str, comes: Any
) -> None:
    zombie = Zombie(story.world, story.new, story.chain, at, when)
    try:
        zombie.await_stopped()
        version = comes(story)
        left = story.state()
        said = zombie.go_on()
    finally:
        zombie.end()
    assert story.state() == left
    assert served(story.fleet, story.machine) == version
    assert story.in_service() == {story.machine.host.instance_id}
    (found,) = story.findings()
    assert "A process without the right to continue was refused" in found
    assert "implementation.wave_1, try 1" in found
    assert "LostRight" in said


@pytest.mark.parametrize("at", ["admit", "do: activate", "give a host back to the load balancer", "record"])
def test_a_worker_that_was_stopped_while_nobody_came_goes_on(story: Story, at: str) -> None:
    zombie = Zombie(story.world, story.new, story.chain, at)
    try:
        zombie.await_stopped()
        said = zombie.go_on()
    finally:
        zombie.end()
    assert said == "deployed"
    assert (served(story.fleet, story.machine), story.findings()) == ("1.1.0", [])
    assert story.in_service() == {story.machine.host.instance_id}


# --- the program on the host -----------------------------------------------------------------------------------------

STOP_THE_PROGRAM = """#!/bin/sh
set -- $INTERLOCK_HOOK
[ -e "$INTERLOCK_SHARED/stopped" ] || { kill -s STOP "$2"; touch "$INTERLOCK_SHARED/stopped"; }
"""
EVENTS = {
    "BeforeInstall": a_rollback,
    "AfterInstall": another_release,
    "ValidateService": a_back_out,
    "BeforeAllowTraffic": a_rollback,
}


@pytest.mark.parametrize(("event", "comes"), EVENTS.items(), ids=EVENTS)
def test_a_program_that_was_stopped_on_the_host_is_ended_before_anybody_else_changes_it(
    story: Story, event: str, comes: Any
) -> None:
    stopped = story.machine.root / "shared/stopped"
    stopped.unlink(missing_ok=True)
    story.new = make_release(
        story.fleet,
        story.folder,
        "1.1.0",
        hooks={**AROUND, event: STOP_THE_PROGRAM},
        deployment_id=story.new.deployment_id,
    )
    zombie = Zombie(story.world, story.new, story.chain)
    try:
        wait_until(stopped.exists, "the stop", 60)
        (program,) = [one for one in story.machine.processes("interlock", "session") if one.status() == "stopped"]
        version = comes(story)
        assert not program.is_running() or program.status() == "zombie"
        left = story.state()
        said = zombie.said()
    finally:
        zombie.end()
    assert story.state() == left
    assert served(story.fleet, story.machine) == version
    assert "LostRight" in said
    assert len(story.findings()) == 1


def test_a_program_that_was_stopped_on_the_host_while_nobody_came_goes_on(story: Story) -> None:
    stopped = story.machine.root / "shared/stopped"
    stopped.unlink(missing_ok=True)
    hooks = {**AROUND, "AfterInstall": STOP_THE_PROGRAM}
    new = make_release(story.fleet, story.folder, "1.1.0", hooks=hooks)
    zombie = Zombie(story.world, new, story.chain)
    try:
        wait_until(stopped.exists, "the stop", 60)
        (program,) = [one for one in story.machine.processes("interlock", "session") if one.status() == "stopped"]
        program.resume()
        assert zombie.said() == "deployed"
    finally:
        zombie.end()
    assert (served(story.fleet, story.machine), story.findings()) == ("1.1.0", [])


def test_a_command_that_comes_too_late_is_refused_by_the_host(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process was stopped between the answer and the command; nobody came, so the token is the highest still."""
    from interlock.adapters.hosts import _session

    monkeypatch.setattr(_session, "_HOLDS_SECONDS", -5)
    (result,) = work(story.world, story.new, story.chain)
    assert result.outcome == "failed"
    assert "came too late" in result.error
    assert served(story.fleet, story.machine) == "1.0.0"
