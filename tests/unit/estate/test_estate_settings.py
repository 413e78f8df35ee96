from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from interlock.estate.settings import LOOPBACK, VARIABLES, Settings, SettingsError
from interlock.locations import PROJECT


def test_defaults_need_no_environment() -> None:
    settings = Settings.from_environment({})
    assert settings.state == PROJECT / ".interlock"
    assert [host.address for host in settings.hosts()] == ["127.20.0.11", "127.20.0.12", "127.20.0.13", "127.20.0.51"]


def test_empty_variable_is_as_good_as_none() -> None:
    assert Settings.from_environment({"INTERLOCK_SSH_PORT": ""}) == Settings.from_environment({})


def test_settings_travel_through_the_environment(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path, network="127.30.7", production_hosts=5, aws_port=7000)
    assert Settings.from_environment(settings.to_environment()) == settings


def test_relative_state_folder_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings.from_environment({"INTERLOCK_STATE": "here"}).state == tmp_path / "here"


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        pytest.param({"INTERLOCK_SSH_PORT": "ssh"}, "INTERLOCK_SSH_PORT is 'ssh'", id="port is no number"),
        pytest.param({"INTERLOCK_AWS_PORT": "70000"}, "INTERLOCK_AWS_PORT is '70000'", id="port is too large"),
        pytest.param({"INTERLOCK_NETWORK": "10.0.0"}, "loopback address, such as 127.20.0", id="network of others"),
        pytest.param({"INTERLOCK_NETWORK": "127.20"}, "loopback address, such as 127.20.0", id="network too short"),
        pytest.param({"INTERLOCK_NETWORK": "127.20.251"}, "at most 250", id="network without room"),
        pytest.param({"INTERLOCK_PRODUCTION_HOSTS": "0"}, "INTERLOCK_PRODUCTION_HOSTS", id="no host"),
        pytest.param({"INTERLOCK_AWS_PORT": "8080"}, "port 8080 is given to two servers", id="two on one port"),
        pytest.param({"INTERLOCK_SSH_PORT": "8400"}, "port 8400 is given to two servers", id="two on one host's port"),
    ],
)
def test_wrong_value_is_refused_with_its_variable(environ: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment(environ)
    assert says in str(refused.value)
    assert refused.value.next_step


@example(production=1000, test=40, third=250)
@given(production=st.integers(1, 100), test=st.integers(1, 5), third=st.integers(0, 250))
def test_every_host_has_a_loopback_address_of_its_own(production: int, test: int, third: int) -> None:
    hosts = Settings(production_hosts=production, test_hosts=test, network=f"127.9.{third}").hosts()
    addresses = {ipaddress.ip_address(host.address) for host in hosts}
    assert len(addresses) == len({host.name for host in hosts}) == production + test
    assert all(address.is_loopback for address in addresses)


def test_every_port_names_the_variable_that_changes_it() -> None:
    settings = Settings()
    for port in settings.ports():
        (name,) = (name for name, variable in VARIABLES.items() if variable == port.variable)
        moved = Settings.model_validate({name: getattr(settings, name) + 7})
        assert (port.address, port.port + 7) in {(other.address, other.port) for other in moved.ports()}


def test_ports_of_hosts_are_on_their_own_addresses() -> None:
    ports = Settings(production_hosts=2).ports()
    assert len([port for port in ports if port.address != LOOPBACK]) == 2 * 3
