"""Restarting what real OpenSSH hosts run, as a baseline is: out of service meanwhile, and as it was after it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from interlock.adapters.hosts.fleet import Deployment, restart_hosts
from interlock.domain.records import HostResult
from tests.deployments import ADMITTED, Balance, deploy, served
from tests.sshd import Fleet, SshdHost, make_release


def restart(fleet: Fleet, what: Deployment, balance: Balance) -> HostResult:
    (result,) = asyncio.run(
        restart_hosts(
            fleet.hosts,
            {host.address: what.release for host in fleet.hosts},
            site=replace(what, deployment_id="another"),
            login=fleet.login,
            admission=ADMITTED,
            balancer=balance,
        )
    )
    return result


def test_a_host_is_restarted_and_runs_what_it_ran(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    old, balance = make_release(fleet, tmp_path, "1.0.0"), Balance()
    deploy(fleet, old, balance)
    before = {process.pid for process in machine.processes("server.py")}
    balance.told.clear()
    result = restart(fleet, old, balance)
    assert (result.outcome, result.before, result.after, result.error) == ("unchanged", old.release, old.release, "")
    assert balance.told == ["drain", "restore"]
    after = {process.pid for process in machine.processes("server.py")}
    assert after
    assert not after & before, "it is the same program, and another process"
    assert served(fleet, machine) == "1.0.0"
    assert restart(fleet, old, balance).outcome == "unchanged", "and again"


def test_a_host_that_runs_something_else_is_left_alone(fleet: Fleet, machine: SshdHost, tmp_path: Path) -> None:
    old, new = make_release(fleet, tmp_path, "1.0.0"), make_release(fleet, tmp_path, "1.1.0")
    balance = Balance()
    deploy(fleet, new, balance)
    balance.told.clear()
    result = restart(fleet, old, balance)
    assert (result.outcome, balance.told) == ("failed", [])
    assert "instead of 1.0.0-" in result.error
    assert served(fleet, machine) == "1.1.0"
