"""A wave on real OpenSSH hosts: no host is begun once the error budget is spent, or when too few would stay well."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from interlock.adapters.hosts.fleet import Deployment, deploy_hosts
from interlock.adapters.permits.issuer import Admission
from interlock.domain.errors import HeldBack
from interlock.domain.records import HostResult, Strategy
from interlock.domain.rollout.pace import Pace
from tests.deployments import ADMITTED, FAIL, Balance, deploy, served
from tests.sshd import Fleet, SshdHost, make_release, sshd_fleet


def wave(fleet: Fleet, deployment: Deployment, **changes: int) -> tuple[HostResult, ...]:
    limits = {"window": 1, "max_failed": 0, "min_healthy": 0, **changes}
    pace = Pace(fleet.hosts, Strategy(**limits, by_zone=False), fleet=fleet.hosts)
    return asyncio.run(
        deploy_hosts(fleet.hosts, deployment, login=fleet.login, admission=ADMITTED, balancer=None, pace=pace)
    )


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        pytest.param({}, ["failed", "untouched", "untouched"], id="every host must succeed"),
        pytest.param({"max_failed": 1}, ["failed", "failed", "untouched"], id="one may fail"),
        pytest.param({"max_failed": 3, "min_healthy": 1}, ["failed", "failed", "untouched"], id="one stays in service"),
    ],
)
def test_hosts_that_are_not_begun_are_untouched_and_serve_as_before(
    tmp_path: Path, limits: dict[str, int], expected: list[str]
) -> None:
    with sshd_fleet(tmp_path, 3) as fleet:
        old = make_release(fleet, tmp_path, "1.0.0")
        deploy(fleet, old)
        broken = make_release(fleet, tmp_path, "1.1.0", hooks={"AfterInstall": FAIL})
        results = wave(fleet, broken, **limits)
        assert [result.outcome for result in results] == expected
        assert [served(fleet, machine) for machine in fleet.machines] == ["1.0.0"] * 3
        assert not (fleet.machines[2].root / "releases" / broken.release).exists()
        assert "too many hosts had failed" in results[2].error


def test_a_window_reaches_every_host(tmp_path: Path) -> None:
    with sshd_fleet(tmp_path, 3) as fleet:
        results = wave(fleet, make_release(fleet, tmp_path, "1.0.0"), window=2, min_healthy=1)
        assert [result.outcome for result in results] == ["deployed"] * 3
        assert [result.host for result in results] == [host.address for host in fleet.hosts]


class Halting(Admission):
    """Lets one host in, and then says stop."""

    def __init__(self) -> None:
        super().__init__("test")
        self.asked = 0

    async def admit(self, address: str) -> None:
        self.asked += 1
        if self.asked > 1:
            raise HeldBack("The wave is halted: emergency stop.")


def test_a_stop_that_is_declared_while_bytes_travel_leaves_the_host_as_it_is(
    fleet: Fleet, machine: SshdHost, tmp_path: Path
) -> None:
    old, new = make_release(fleet, tmp_path, "1.0.0"), make_release(fleet, tmp_path, "1.1.0")
    deploy(fleet, old)
    balance, halting = Balance(), Halting()
    (result,) = asyncio.run(deploy_hosts(fleet.hosts, new, login=fleet.login, admission=halting, balancer=balance))
    assert (result.outcome, halting.asked) == ("failed", 2)
    assert "The wave is halted: emergency stop." in result.error
    assert "runs 1.0.0" in result.error
    assert result.held_back
    assert "drain" not in balance.told, "it is in service all the time"
    assert (machine.current, served(fleet, machine)) == (old.release, "1.0.0")
    assert new.release in machine.releases, "what has arrived need not travel again"
