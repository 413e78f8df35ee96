from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.estate.settings import Settings
from interlock.estate.stack.ports import PortsTaken, check_ports
from tests.ports import free_network, free_port


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    names = ("aws_port", "smtp_port", "postgres_port", "airflow_port")
    return Settings(state=tmp_path, network=free_network(), **{name: free_port() for name in names})


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        yield server


def test_free_ports_are_no_trouble(settings: Settings) -> None:
    check_ports(settings)


def test_taken_port_is_told_with_who_has_it_and_what_to_set(settings: Settings, listener: socket.socket) -> None:
    listener.bind(("127.0.0.1", settings.airflow_port))
    listener.listen()
    with pytest.raises(PortsTaken) as refused:
        check_ports(settings)
    told = str(refused.value)
    assert f"Port {settings.airflow_port} of 127.0.0.1, which Airflow needs, is taken by" in told
    assert f"(pid {os.getpid()})" in told
    assert "INTERLOCK_AIRFLOW_PORT=" in told


def test_suggested_port_is_free(settings: Settings, listener: socket.socket) -> None:
    listener.bind(("127.0.0.1", settings.aws_port))
    listener.listen()
    with pytest.raises(PortsTaken) as refused:
        check_ports(settings)
    suggested = int(refused.value.next_step.rpartition("=")[2])
    check_ports(settings.model_copy(update={"aws_port": suggested}))


def test_hosts_whose_addresses_are_taken_move_to_another_network(settings: Settings, listener: socket.socket) -> None:
    host = settings.hosts()[0]
    listener.bind((host.address, settings.service_port))
    listener.listen()
    with pytest.raises(PortsTaken) as refused:
        check_ports(settings)
    assert refused.value.next_step.rpartition("INTERLOCK_NETWORK=")[2] != settings.network
    assert host.name in str(refused.value)


def test_port_that_a_user_may_not_have_is_told_so(settings: Settings) -> None:
    from interlock.estate.stack.ports import holder

    port = settings.ports()[0]
    assert holder(port, [], PermissionError(13, "Permission denied")) == "not to be had: Permission denied"
