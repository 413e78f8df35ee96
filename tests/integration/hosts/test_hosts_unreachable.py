"""Real OpenSSH hosts that cannot be reached, or are not who they should be."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from interlock.adapters.hosts.fleet import SshLogin, read_running
from interlock.domain.errors import HostUnreachable
from tests.deployments import ADMITTED, deploy
from tests.sshd import Fleet, SshdHost, keygen, make_release, sshd_fleet


def test_a_host_that_is_down_does_not_stop_the_others(tmp_path: Path) -> None:
    with sshd_fleet(tmp_path, 3) as fleet:
        fleet.machines[1].stop()
        deployment = make_release(fleet, tmp_path, "1.0.0")
        results = deploy(fleet, deployment)
        assert [one.outcome for one in results] == ["deployed", "failed", "deployed"]
        assert "could not be connected to" in results[1].error
        assert [one.may_pass for one in results] == [False, True, False]
        with pytest.raises(HostUnreachable, match=fleet.machines[1].address):
            asyncio.run(read_running(fleet.hosts, deployment.deploy_root, login=fleet.login, admission=ADMITTED))


def refusal(fleet: Fleet, login: SshLogin) -> str:
    with pytest.raises(HostUnreachable) as refused:
        asyncio.run(read_running(fleet.hosts, "srv/shop", login=login, admission=ADMITTED))
    return str(refused.value)


def test_a_changed_host_key_is_refused(fleet: Fleet, machine: SshdHost) -> None:
    machine.stop()
    machine.make_key()
    machine.start()
    said = refusal(fleet, fleet.login)
    assert f"{machine.address} has another host key than the one in {fleet.login.known_hosts}" in said
    assert "the platform engineer" in said


def test_an_unknown_host_key_is_refused(fleet: Fleet, machine: SshdHost) -> None:
    fleet.login.known_hosts.write_text("")
    said = refusal(fleet, fleet.login)
    assert f"{machine.address} is not known: {fleet.login.known_hosts} has no key for it." in said
    assert "SHA256:" in said


def test_a_login_that_the_host_does_not_know_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    keygen(tmp_path / "stranger")
    said = refusal(fleet, replace(fleet.login, client_key=tmp_path / "stranger"))
    assert "rejected the login of" in said
    assert "authorized_keys" in said


def test_a_host_that_says_nothing_is_given_up(fleet: Fleet, machine: SshdHost) -> None:
    machine.stop()
    with socket.create_server((machine.address, machine.port)):
        said = refusal(fleet, replace(fleet.login, connect_timeout=0.5))
    assert "did not answer" in said or "could not be connected to" in said
