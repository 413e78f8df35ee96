"""Deployments to real OpenSSH hosts that fail: the old release goes on running."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from interlock.adapters.hosts.fleet import Deployment
from interlock.domain.records import HostResult
from tests.deployments import FAIL, Balance, deploy, deploy_one, served
from tests.sshd import Fleet, SshdHost, make_release, sshd_fleet

HANG = "#!/bin/sh\nsetsid sleep 1000 &\nsleep 1000 &\nsleep 1000\n"


@dataclass
class Upgrade:
    """What a failed upgrade left."""

    old: Deployment
    result: HostResult
    balance: Balance


def failed_upgrade(fleet: Fleet, old: Deployment, new: Deployment) -> Upgrade:
    """Deploy two releases, of which the second fails; whatever failed, the first runs and serves."""
    balance = Balance()
    deploy(fleet, old, balance)
    result = deploy_one(fleet, new, balance)
    machine = fleet.machines[0]
    assert (result.outcome, result.before, result.after) == ("failed", old.release, old.release)
    assert machine.current == old.release
    assert served(fleet, machine) == old.version
    assert balance.serving == {machine.host.instance_id}
    return Upgrade(old, result, balance)


@pytest.mark.parametrize("event", ["BeforeInstall", "AfterInstall", "ApplicationStart", "ValidateService"])
def test_a_failing_hook_leaves_the_old_release_running(fleet: Fleet, tmp_path: Path, event: str) -> None:
    new = make_release(fleet, tmp_path, "1.1.0", hooks={event: FAIL})
    failed = failed_upgrade(fleet, make_release(fleet, tmp_path, "1.0.0"), new)
    assert f"the hook {event} (hooks/{event}.sh) of {new.release} ended with 3" in failed.result.error
    assert "the database is locked" in failed.result.error
    assert f"The host still runs {failed.old.release} and is healthy." in failed.result.error


def test_a_release_that_cannot_be_stopped_is_ended_for_the_next_one(
    fleet: Fleet, machine: SshdHost, tmp_path: Path
) -> None:
    deploy(fleet, make_release(fleet, tmp_path, "1.0.0", hooks={"ApplicationStop": FAIL}))
    for version in ("1.0.1", "1.0.2"):
        result = deploy_one(fleet, make_release(fleet, tmp_path, version, hooks={"ApplicationStop": FAIL}))
        assert (result.outcome, result.error) == ("deployed", "")
        (warning,) = result.warnings
        assert "the hook ApplicationStop (hooks/ApplicationStop.sh) of 1.0." in warning
        assert served(fleet, machine) == version


def test_a_failing_stop_hook_leaves_the_old_release_running_where_that_is_asked_for(
    fleet: Fleet, tmp_path: Path
) -> None:
    old = make_release(fleet, tmp_path, "1.0.0", hooks={"ApplicationStop": FAIL})
    failed = failed_upgrade(fleet, old, replace(make_release(fleet, tmp_path, "1.1.0"), on_stop_failure="refuse"))
    assert "the hook ApplicationStop" in failed.result.error
    assert "on_stop_failure: go_on" in failed.result.error


def test_a_hook_that_hangs_is_killed_with_what_it_started(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    new = make_release(fleet, tmp_path, "1.1.0", hooks={"AfterInstall": HANG}, timeouts={"AfterInstall": 1})
    failed = failed_upgrade(fleet, make_release(fleet, tmp_path, "1.0.0"), new)
    assert "ran longer than its 1 seconds and was killed" in failed.result.error
    assert machine.processes("sleep", "1000") == []


def test_a_stop_hook_that_hangs_is_killed_and_the_old_release_runs(
    fleet: Fleet, machine: SshdHost, tmp_path: Path
) -> None:
    old = make_release(fleet, tmp_path, "1.0.0", hooks={"ApplicationStop": HANG}, timeouts={"ApplicationStop": 1})
    failed_upgrade(fleet, old, replace(make_release(fleet, tmp_path, "1.1.0"), on_stop_failure="refuse"))
    assert machine.processes("sleep", "1000") == []


def test_a_release_that_is_never_well_is_taken_back(fleet: Fleet, tmp_path: Path) -> None:
    new = make_release(fleet, tmp_path, "1.1.0", status=503, healthy_within=3)
    failed = failed_upgrade(fleet, make_release(fleet, tmp_path, "1.0.0"), new)
    assert "was not healthy with version 1.1.0 within 3 s" in failed.result.error
    assert "status 503" in failed.result.error


def test_a_program_that_a_failed_start_left_does_not_keep_the_port(fleet: Fleet, tmp_path: Path) -> None:
    left = f"#!/bin/sh\nsetsid {sys.executable} -S server.py </dev/null &\nsleep 1\nexit 1\n"
    broken = {"ApplicationStart": left, "ApplicationStop": "#!/bin/sh\nexit 1\n"}
    failed_upgrade(fleet, make_release(fleet, tmp_path, "1.0.0"), make_release(fleet, tmp_path, "1.1.0", hooks=broken))


def test_a_first_release_that_fails_leaves_the_host_empty(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    balance = Balance()
    new = make_release(fleet, tmp_path, "1.0.0", hooks={"ValidateService": FAIL})
    result = deploy_one(fleet, new, balance)
    assert (result.outcome, result.after, machine.current) == ("failed", None, None)
    assert "The host still runs no release." in result.error
    assert served(fleet, machine) is None
    assert balance.serving == set()


def test_a_corrupted_bundle_is_refused_by_the_host(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    new = make_release(fleet, tmp_path, "1.1.0", padding=1000)
    new.bundle.write_bytes(new.bundle.read_bytes()[:-20] + b"x" * 20)
    failed = failed_upgrade(fleet, make_release(fleet, tmp_path, "1.0.0"), new)
    assert f"does not have the digest {new.sha256}" in failed.result.error
    assert failed.balance.told == ["drain", "restore", "restore"]
    assert machine.releases == {failed.old.release}


def test_a_bundle_that_the_disk_cannot_hold_leaves_the_old_release(tmp_path: Path) -> None:
    with sshd_fleet(tmp_path, limits="ulimit -f 64 &&") as fleet:
        new = make_release(fleet, tmp_path, "1.1.0", padding=2_000_000)
        failed = failed_upgrade(fleet, make_release(fleet, tmp_path, "1.0.0"), new)
        assert "the bundle cannot be written" in failed.result.error
        assert fleet.machines[0].releases == {failed.old.release}


def test_a_switch_that_the_disk_has_no_room_for_is_not_begun(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    # What is begun is written down first; here that file cannot be written.
    hook = '#!/bin/sh\ncat server.py >/dev/null\nmkdir "$INTERLOCK_SHARED/../.interlock/journal.new"\n'
    old = make_release(fleet, tmp_path, "1.0.0", hooks={"BeforeBlockTraffic": hook})
    failed = failed_upgrade(fleet, old, make_release(fleet, tmp_path, "1.1.0"))
    assert "the switch cannot be prepared" in failed.result.error
    assert f"The host still runs {old.release} and is healthy." in failed.result.error
    assert "ApplicationStop" not in dict(failed.result.steps)


def test_a_balancer_that_fails_leaves_the_old_release_running(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    old = make_release(fleet, tmp_path, "1.0.0")
    deploy(fleet, old)
    balance = Balance(broken=True)
    result = deploy_one(fleet, make_release(fleet, tmp_path, "1.1.0"), balance)
    assert (result.outcome, result.after, served(fleet, machine)) == ("failed", old.release, "1.0.0")
    assert "does not answer" in result.error
    assert balance.serving == {machine.host.instance_id}


def test_a_start_hook_that_forgets_to_let_go_does_not_hang(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    careless = f"#!/bin/sh\n{sys.executable} -S server.py &\nsleep 0.5\n"
    result = deploy_one(fleet, make_release(fleet, tmp_path, "1.0.0", hooks={"ApplicationStart": careless}))
    assert (result.outcome, served(fleet, machine)) == ("deployed", "1.0.0")
    # It holds no lock either.
    assert deploy_one(fleet, make_release(fleet, tmp_path, "1.1.0")).outcome == "deployed"


def test_a_start_hook_that_stays_is_ended_by_its_time_limit(fleet: Fleet, tmp_path: Path) -> None:
    stays = f"#!/bin/sh\nexec {sys.executable} -S server.py\n"
    new = make_release(fleet, tmp_path, "1.1.0", hooks={"ApplicationStart": stays}, timeouts={"ApplicationStart": 1})
    failed_upgrade(fleet, make_release(fleet, tmp_path, "1.0.0"), new)
