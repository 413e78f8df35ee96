"""Deployments to real OpenSSH hosts: the good way."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from interlock.adapters.hosts.fleet import deploy_hosts, has_releases, read_running
from interlock.domain.records import HostResult
from tests.deployments import ADMITTED, Balance, deploy, deploy_one, served
from tests.sshd import Fleet, SshdHost, make_release, sshd_fleet


def test_a_release_is_brought_to_empty_hosts(tmp_path: Path) -> None:
    with sshd_fleet(tmp_path, 3) as fleet:
        deployment = make_release(fleet, tmp_path, "1.0.0")
        results = deploy(fleet, deployment)
        assert [(one.host, one.outcome, one.before, one.after) for one in results] == [
            (host.address, "deployed", None, deployment.release) for host in fleet.hosts
        ]
        assert [served(fleet, machine) for machine in fleet.machines] == ["1.0.0"] * 3


def test_a_release_folder_says_what_it_holds(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    deployment = make_release(fleet, tmp_path, "1.0.0")
    deploy(fleet, deployment)
    folder = machine.root / "releases" / deployment.release
    assert json.loads((folder / ".interlock.json").read_text()) == {
        "service": "shop",
        "release": deployment.release,
        "version": "1.0.0",
        "commit": deployment.commit,
        "sha256": deployment.sha256,
    }
    assert os.readlink(machine.root / "current") == f"releases/{deployment.release}"


def test_hooks_run_in_order_with_codedeploys_variables(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    note = '#!/bin/sh\necho "$LIFECYCLE_EVENT $APPLICATION_NAME $DEPLOYMENT_GROUP_NAME $DEPLOYMENT_GROUP_ID" '
    note += '"$DEPLOYMENT_ID $PWD" >> "$INTERLOCK_SHARED/hooks"\n'
    events = ("ApplicationStop", "BeforeInstall", "AfterInstall", "ValidateService")
    first = make_release(
        fleet, tmp_path, "1.0.0", hooks=dict.fromkeys(events[:1], f"{note}kill $(cat ../../shared/pid)")
    )
    second = make_release(fleet, tmp_path, "1.1.0", hooks=dict.fromkeys(events, note))
    deploy(fleet, first)
    result = deploy_one(fleet, second)
    assert (machine.root / "shared/hooks").read_text().splitlines() == [
        f"{event} shop production production {second.deployment_id} {machine.root}/releases/{release}"
        for event, release in zip(events, [first.release, *[second.release] * 3], strict=True)
    ]
    steps = [name for name, _ in result.steps]
    assert steps[steps.index("ApplicationStop") :] == [
        *events[:3],
        "switch",
        "ApplicationStart",
        events[3],
        "health",
        "prune",
    ]


def test_a_repeated_deployment_changes_nothing(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    deployment = make_release(fleet, tmp_path, "1.0.0")
    deploy(fleet, deployment)
    pid = (machine.root / "shared/pid").read_text()
    balance = Balance()
    result = deploy_one(fleet, deployment, balance)
    assert (result.outcome, result.before, result.after) == ("unchanged", deployment.release, deployment.release)
    assert (machine.root / "shared/pid").read_text() == pid
    assert balance.told == ["restore"]


def test_a_host_is_drained_only_while_it_is_switched(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    balance = Balance()
    deploy(fleet, make_release(fleet, tmp_path, "1.0.0"), balance)
    result = deploy_one(fleet, make_release(fleet, tmp_path, "1.1.0"), balance)
    steps = [name for name, _ in result.steps]
    assert balance.told == ["drain", "restore"] * 2
    assert steps.index("unpack") < steps.index("drain") < steps.index("ApplicationStop")
    assert steps.index("health") < steps.index("restore")


def test_a_program_that_stopped_is_started_again(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    deployment = make_release(fleet, tmp_path, "1.0.0", healthy_within=3)
    deploy(fleet, deployment)
    os.kill(int((machine.root / "shared/pid").read_text()), signal.SIGKILL)
    assert deploy_one(fleet, deployment).outcome == "deployed"
    assert served(fleet, machine) == "1.0.0"


def test_old_releases_go_but_never_the_current_nor_the_previous(
    fleet: Fleet, machine: SshdHost, tmp_path: Path
) -> None:
    releases = [make_release(fleet, tmp_path, f"1.{minor}.0", keep_releases=2) for minor in range(4)]
    for release in releases:
        deploy(fleet, release)
    assert machine.releases == {releases[2].release, releases[3].release}
    deploy(fleet, releases[2])
    deploy(fleet, replace(make_release(fleet, tmp_path, "2.0.0"), keep_releases=3))
    assert {releases[2].release, machine.current} < machine.releases
    assert len(machine.releases) == 3


# A disk on which some files of a release cannot be removed: they belong to another account, for example.
_REMOVE_NOT_ALL = """#!/bin/sh
flags=$1 code=0 && shift
for one in "$@"; do
    if [ ! -e "$one/stays" ]; then
        /bin/rm "$flags" "$one"
    else
        echo "rm: cannot remove '$one/stays': Operation not permitted" >&2
        code=1
    fi
done
exit $code
"""


def test_a_release_that_cannot_be_removed_is_in_the_log_and_in_nobodys_way(
    fleet: Fleet, machine: SshdHost, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/rm").write_text(_REMOVE_NOT_ALL)
    (tmp_path / "bin/rm").chmod(0o755)
    machine.stop()
    machine.limits = f"export PATH='{tmp_path}/bin':$PATH &&"
    machine.start()
    releases = [make_release(fleet, tmp_path, f"1.{minor}.0", keep_releases=2) for minor in range(6)]
    deploy(fleet, releases[0])
    (machine.root / "releases" / releases[0].release / "stays").touch()
    said = [warnings_of(lambda one=release: deploy_one(fleet, one)) for release in releases[1:]]
    assert said[0] == []
    for lines in said[1:]:
        assert [line.partition(": ")[0] for line in lines] == [machine.address], lines
        assert "Operation not permitted" in lines[0]
    there = {name for name in machine.releases if not name.startswith(".gone")}
    assert there == {releases[4].release, releases[5].release}
    (gone,) = (machine.root / "releases").glob(".gone*")
    (gone / "stays").unlink()
    assert warnings_of(lambda: deploy_one(fleet, releases[4])) == []
    assert machine.releases == there, "and it goes as soon as it can"


def warnings_of(work: Callable[[], HostResult]) -> list[str]:
    """Return the warnings that go to the log while work is done; it must not fail."""
    lines: list[str] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    listening, log = Listening(logging.WARNING), logging.getLogger("interlock.adapters")
    log.addHandler(listening)
    try:
        result = work()
    finally:
        log.removeHandler(listening)
    assert result.error == ""
    return lines


def test_hosts_say_what_they_run(tmp_path: Path) -> None:
    with sshd_fleet(tmp_path, 2) as fleet:
        deployment = make_release(fleet, tmp_path, "1.0.0")
        asyncio.run(deploy_hosts(fleet.hosts[:1], deployment, login=fleet.login, admission=ADMITTED, balancer=None))
        first, second = asyncio.run(
            read_running(fleet.hosts, deployment.deploy_root, login=fleet.login, admission=ADMITTED)
        )
        assert (first.host, first.release) == (fleet.hosts[0].address, deployment.release)
        assert (first.version, first.commit) == ("1.0.0", deployment.commit)
        assert (second.release, second.version, second.commit) == (None, None, None)
        wanted = {host.address: deployment.release for host in fleet.hosts}
        there = asyncio.run(
            has_releases(fleet.hosts, deployment.deploy_root, wanted, login=fleet.login, admission=ADMITTED)
        )
        assert there == {fleet.hosts[0].address: True, fleet.hosts[1].address: False}


def test_a_release_whose_digest_was_edited_is_not_there(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    deployment = make_release(fleet, tmp_path, "1.0.0")
    deploy(fleet, deployment)
    about = machine.root / "releases" / deployment.release / ".interlock.json"
    about.write_text(about.read_text().replace(deployment.sha256, "0" * 64))
    wanted = {machine.address: deployment.release}
    there = asyncio.run(
        has_releases(fleet.hosts, deployment.deploy_root, wanted, login=fleet.login, admission=ADMITTED)
    )
    assert there == {machine.address: False}
