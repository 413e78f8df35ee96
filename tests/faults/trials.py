"""One trial: a deployment, a fault in the middle of it, and what must hold after it, and after one retry."""

from __future__ import annotations

import asyncio
import gzip
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from interlock.adapters.aws.load_balancer import Balancer, TargetGroup
from interlock.adapters.hosts.fleet import back_out_hosts, deploy_hosts, read_running
from interlock.domain.records import BackOutPlan, HostResult
from tests.deployments import ADMITTED, WithToken
from tests.sshd import SshdHost, kill

from . import worker
from .balancers import Balancers
from .lane import DISK, Lane, Release, wrong_with


@dataclass
class Trial:
    """What a fault may use, and what it leaves."""

    lane: Lane
    balancers: Balancers
    group: TargetGroup
    rng: random.Random
    old: Release
    new: Release
    target: Release | None = None
    others: list[Release] = field(default_factory=list)
    faults: int = 0
    runs: bool = True

    def __post_init__(self) -> None:
        self.target = self.new

    @property
    def moment(self) -> float:
        """A random moment of a deployment: seconds from its start."""
        return self.rng.random() * 1.2 * self.lane.seconds

    @property
    def admission(self) -> WithToken:
        """Whoever comes later has a higher token."""
        return WithToken(next(self.lane.tokens))

    @property
    def victim(self) -> SshdHost:
        return self.rng.choice(self.lane.fleet.machines)

    def deploy(self, release: Release, balancer: Balancer | None = None) -> tuple[HostResult, ...]:
        fleet = self.lane.fleet
        return asyncio.run(
            deploy_hosts(
                fleet.hosts, release.deployment, login=fleet.login, admission=self.admission, balancer=balancer
            )
        )

    def back_out(self, release: Release, balancer: Balancer | None = None) -> tuple[HostResult, ...]:
        fleet, was = self.lane.fleet, release.deployment
        plan = BackOutPlan(
            releases={host.address: release.name for host in fleet.hosts},
            versions={host.address: release.version for host in fleet.hosts},
            on_hosts=True,
        )
        return asyncio.run(
            back_out_hosts(
                fleet.hosts,
                plan,
                site=replace(was, deployment_id="back out"),
                login=fleet.login,
                admission=self.admission,
                balancer=balancer,
            )
        )

    def strike(self, blow: Callable[[], None], *, within: float | None = None) -> threading.Thread:
        """Do something at a random moment, beside the deployment."""
        self.faults += 1
        delay = self.moment if within is None else self.rng.random() * within

        def wait_and_strike() -> None:
            time.sleep(delay)
            blow()

        thread = threading.Thread(target=wait_and_strike)
        thread.start()
        return thread


Results = tuple[HostResult, ...] | None
Fault = Callable[[Trial], Results]


def worker_is_killed(trial: Trial) -> Results:
    """The process that deploys is killed."""
    fleet = trial.lane.fleet
    process = worker.start(fleet.hosts, trial.new.deployment, fleet.login, next(trial.lane.tokens))
    trial.strike(process.kill).join()
    process.join()
    return None


def connection_is_cut(trial: Trial) -> Results:
    """The connections to a host break, once or more often."""
    blows = [trial.strike(trial.victim.cut) for _ in range(trial.rng.choice([1, 1, 2, 3]))]
    return _beside(trial, blows)


def host_stops(trial: Trial) -> Results:
    """A host is switched off, and started again after the deployment, or during it."""
    machine, pause = trial.victim, trial.rng.random() * trial.lane.seconds

    def off_and_on() -> None:
        machine.turn_off()
        time.sleep(pause)
        trial.lane.boot(machine)
        machine.start()

    return _beside(trial, [trial.strike(off_and_on)])


def host_program_is_killed(trial: Trial) -> Results:
    """What Interlock runs on a host is killed, and only that: nobody there can go on or back, but the retry can."""
    machine = trial.victim
    trial.runs = False

    def kill_it() -> None:
        for process in machine.processes("interlock", "session"):
            kill(process)

    return _beside(trial, [trial.strike(kill_it)])


def disk_is_full(trial: Trial) -> Results:
    """A host's disk has a random rest of space, or takes only files of a random size."""
    trial.faults += 1
    machine = trial.victim
    if not trial.lane.has_disks or trial.rng.random() < 0.3:
        machine.limits = f"ulimit -f {trial.rng.randrange(1, 1500)} &&"
        machine.stop()
        machine.start()
        try:
            return trial.deploy(trial.new)
        finally:
            machine.limits = ""
            machine.stop()
            machine.start()
    free = shutil.disk_usage(machine.root).free
    left = trial.rng.choice([0, trial.rng.randrange(64 * 1024), trial.rng.randrange(DISK // 3)])
    filler = machine.root.parent / "filler"
    filler.write_bytes(b"\1" * max(free - left, 0))
    try:
        return trial.deploy(trial.new)
    finally:
        filler.unlink()


def bundle_is_corrupted(trial: Trial) -> Results:
    """A byte of the bundle is another one."""
    trial.faults += 1
    content = bytearray(trial.new.deployment.bundle.read_bytes())
    if trial.rng.random() < 0.5:
        place = trial.rng.randrange(len(content) // 2, len(content))  # the AppSpec stands at the beginning
        content[place] ^= 1 << trial.rng.randrange(8)
    else:  # another file in an archive that is whole
        entries = bytearray(gzip.decompress(content))
        entries[entries.index(trial.lane.noise) + trial.rng.randrange(len(trial.lane.noise))] ^= 1
        content = bytearray(gzip.compress(entries))
    damaged = trial.new.deployment.bundle.with_suffix(".damaged")
    damaged.write_bytes(content)
    results = trial.deploy(replace(trial.new, deployment=replace(trial.new.deployment, bundle=damaged)))
    trial.others = [trial.old]
    _expect(all(one.outcome == "failed" for one in results), f"a damaged bundle was deployed: {results}")
    return results


def balancer_fails(trial: Trial) -> Results:
    """The load balancer throttles, and fails."""
    trial.faults += 1
    name = trial.group.arn.split("/")[1]
    trial.balancers.failing[name] = trial.rng.choice([0.2, 0.5, 0.9, 1.0])
    try:
        return trial.deploy(trial.new, trial.group)
    finally:
        trial.balancers.failing.pop(name)


def hook_hangs(trial: Trial) -> Results:
    """A hook of the release does not come to its end."""
    return _bad_hook(trial, "sleep 300 & sleep 300")


def hook_fails(trial: Trial) -> Results:
    """A hook of the release fails."""
    return _bad_hook(trial, "exit 3")


def _bad_hook(trial: Trial, script: str) -> Results:
    trial.faults += 1
    event = trial.rng.choice(["BeforeInstall", "AfterInstall", "ApplicationStart", "ValidateService"])
    bad = trial.lane.make(trial.rng, {event: script}, timeout=1)
    trial.others, trial.target = [bad], None
    results = trial.deploy(bad)
    _expect(all(one.outcome == "failed" for one in results), f"a release whose {event} is bad was deployed: {results}")
    for machine in trial.lane.fleet.machines:
        _expect(machine.current == trial.old.name, f"{machine.host.name} is not back: {machine.current}")
    return results


def worker_is_stopped(trial: Trial) -> Results:
    """The process that deploys is stopped; somebody else comes, or nobody; then it goes on."""
    fleet = trial.lane.fleet
    process = worker.start(fleet.hosts, trial.new.deployment, fleet.login, next(trial.lane.tokens))
    trial.strike(lambda: _signal(process.pid, signal.SIGSTOP)).join()
    comes = _comes(trial)
    _signal(process.pid, signal.SIGCONT)
    process.join()
    _expect_left(trial, comes)
    return None


def host_program_is_stopped(trial: Trial) -> Results:
    """What runs on a host of Interlock and of its hooks is stopped; somebody else comes, or nobody; then it goes on."""
    fleet, machine = trial.lane.fleet, trial.victim
    process = worker.start(fleet.hosts, trial.new.deployment, fleet.login, next(trial.lane.tokens))
    stopped: list[int] = []

    def stop_it() -> None:
        for one in machine.processes("interlock", "session"):
            _signal(one.pid, signal.SIGSTOP)
            stopped.append(one.pid)

    trial.strike(stop_it).join()
    comes = _comes(trial)
    for pid in stopped:
        _signal(pid, signal.SIGCONT)
    process.join()
    _expect_left(trial, comes)
    return None


def _comes(trial: Trial) -> Release | None:
    """Let somebody with a higher token come, or nobody; return what they leave on every host."""
    what = trial.rng.choice(["nobody", "a retry", "a back-out", "another release"])
    if what == "nobody":
        time.sleep(trial.rng.random())
        return None
    if what == "a back-out":
        results, left = trial.back_out(trial.old), trial.old
    else:
        left = trial.new if what == "a retry" else trial.lane.make(trial.rng)
        trial.others = [left]
        results = trial.deploy(left)
    bad = [f"{one.host}: {one.outcome}: {one.error}" for one in results if one.outcome in ("failed", "untouched")]
    _expect(not bad, f"{what} did not do: {bad}")
    return left


def _expect_left(trial: Trial, left: Release | None) -> None:
    """Check that all is as whoever came left it: what was stopped and went on changed nothing."""
    trial.lane.await_quiet()
    if left is not None:
        _all_well(trial, [left])


def _signal(pid: int | None, number: signal.Signals) -> None:
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def two_race(trial: Trial) -> Results:
    """Another release is deployed to the same hosts at the same time."""
    other = trial.lane.make(trial.rng)
    trial.others = [other]
    rival = trial.strike(lambda: _ignore(trial.deploy(other)), within=trial.lane.seconds / 2)
    _ignore(trial.deploy(trial.new))
    rival.join()
    return None


FAULTS: Sequence[Fault] = (
    worker_is_killed,
    connection_is_cut,
    host_stops,
    disk_is_full,
    bundle_is_corrupted,
    balancer_fails,
    hook_hangs,
    two_race,
    host_program_is_killed,
    hook_fails,
    worker_is_stopped,
    host_program_is_stopped,
)


def _ignore(results: tuple[HostResult, ...]) -> None:
    """Take results for what they are: what is on the hosts is looked at afterwards."""


def _beside(trial: Trial, blows: list[threading.Thread]) -> Results:
    try:
        return trial.deploy(trial.new)
    finally:
        for blow in blows:
            blow.join()


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


def make_trial(lane: Lane, balancers: Balancers, group: TargetGroup, rng: random.Random, fault: Fault) -> int:
    """Make one trial; return how many faults there were. AssertionError says what did not hold."""
    old = lane.running or _first(lane, balancers, group, rng)
    trial = Trial(lane, balancers, group, rng, old, lane.make(rng))
    results = fault(trial)
    lane.await_quiet()
    possible = [trial.old, trial.new, *trial.others]
    _all_well(trial, possible)
    _recorded(trial, results)
    lane.running = None  # nothing is sure any more, until the retry has shown it
    backs_out = trial.target is None or rng.random() < 0.3
    goal = trial.old if backs_out or trial.target is None else trial.target
    again = trial.back_out(goal, group) if backs_out else _timed(trial, goal)
    bad = [f"{one.host}: {one.outcome}: {one.error}" for one in again if one.outcome in ("failed", "untouched")]
    _expect(not bad, f"the retry did not do: {bad}; before it: {results}")
    trial.runs = True
    _all_well(trial, [goal])
    out = {machine.host.instance_id for machine in lane.fleet.machines} - balancers.registered(group)
    _expect(not out, f"the load balancer sends nothing to {sorted(out)}")
    lane.running = goal
    return trial.faults


def _first(lane: Lane, balancers: Balancers, group: TargetGroup, rng: random.Random) -> Release:
    """Bring a release to hosts on which nothing is sure."""
    release = lane.make(rng)
    trial = Trial(lane, balancers, group, rng, release, release)
    failed = [one.error for one in _timed(trial, release) if one.outcome not in ("deployed", "unchanged")]
    _expect(not failed, f"the first release did not do: {failed}")
    return release


def _timed(trial: Trial, release: Release) -> tuple[HostResult, ...]:
    started = time.monotonic()
    results = trial.deploy(release, trial.group)
    trial.lane.seconds = (trial.lane.seconds + time.monotonic() - started) / 2
    return results


def _all_well(trial: Trial, possible: list[Release]) -> None:
    wrong = [wrong_with(machine, *possible, runs=trial.runs) for machine in trial.lane.fleet.machines]
    _expect(not any(wrong), "; ".join(filter(None, wrong)))


def _recorded(trial: Trial, results: Results) -> None:
    """Check that the record says what a host runs, or says that it does not know; and that the host says it."""
    fleet = trial.lane.fleet
    said = asyncio.run(read_running(fleet.hosts, "srv/shop", login=fleet.login, admission=ADMITTED))
    for machine, running in zip(fleet.machines, said, strict=True):
        _expect(running.release == machine.current, f"{machine.host.name} says that it runs {running.release}")
    for machine, result in zip(fleet.machines, results or (), strict=False):
        known = result.after is not None or result.outcome != "failed"
        _expect(not known or result.after == machine.current, f"{machine.current} is current; on record: {result}")
        done = result.outcome in ("deployed", "unchanged")
        _expect(not done or machine.current == trial.new.name, f"{machine.current} is current; on record: {result}")
