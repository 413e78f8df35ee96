from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from airflow.sdk import Connection

from interlock.adapters.hosts.fleet import ssh_login
from interlock.adapters.hosts.ssh import SshTransport
from interlock.adapters.permits.issuer import Admission
from interlock.domain.errors import AssetMissing, PolicyViolation
from interlock.domain.permits.production import Production

ADMITTED = Admission.sandbox("test", production=Production())
EXTRA = {"key_file": "/keys/id", "known_hosts": "/keys/known_hosts"}


def connection(login: str | None = "deploy", port: int | None = 2222, **extra: Any) -> Connection:
    return Connection(
        conn_id="interlock_hosts", conn_type="ssh", login=login, port=port, extra=json.dumps(EXTRA | extra)
    )


def test_a_login_is_read_field_by_field() -> None:
    login = ssh_login(connection(conn_timeout=3, unknown="ignored"))
    assert (login.username, login.port, login.connect_timeout) == ("deploy", 2222, 3)
    assert (login.client_key, login.known_hosts) == (Path("/keys/id"), Path("/keys/known_hosts"))


def test_the_usual_port_is_sshs() -> None:
    assert ssh_login(connection(port=None)).port == 22


def test_a_key_in_the_connection_is_not_shown() -> None:
    login = ssh_login(connection(key_file="", private_key="SECRET-KEY", private_key_passphrase="SECRET-WORD"))
    assert (login.client_key, login.private_key, login.passphrase) == (None, "SECRET-KEY", "SECRET-WORD")
    assert "SECRET" not in repr(login)


@pytest.mark.parametrize("key", ["no_host_key_check", "ignore_hostkey_verification", "allow_host_key_change"])
@pytest.mark.parametrize("value", [True, "true", "True", 1])
def test_a_connection_that_trusts_hosts_unseen_is_refused(key: str, value: object) -> None:
    with pytest.raises(PolicyViolation, match=key):
        ssh_login(connection(**{key: value}))


def test_a_connection_that_says_to_check_is_accepted() -> None:
    assert ssh_login(connection(no_host_key_check=False, allow_host_key_change="false"))


@pytest.mark.parametrize(
    ("fields", "lacks"),
    [
        pytest.param({"login": None}, "a login", id="login"),
        pytest.param({"key_file": ""}, "key_file or private_key", id="key"),
        pytest.param({"known_hosts": ""}, "known_hosts", id="known hosts"),
    ],
)
def test_a_connection_that_lacks_something_is_refused(fields: dict[str, Any], lacks: str) -> None:
    with pytest.raises(AssetMissing, match=f"interlock_hosts lacks {lacks}"):
        ssh_login(connection(**fields))


def test_keys_that_cannot_be_read_are_told_before_any_host_is_asked(tmp_path: Path) -> None:
    known_hosts, key = tmp_path / "known_hosts", tmp_path / "id"
    login = ssh_login(connection(key_file=str(key), known_hosts=str(known_hosts)))
    with pytest.raises(AssetMissing, match=f"hosts' keys cannot be read from {known_hosts}"):
        SshTransport(login, ADMITTED)
    known_hosts.write_text("")
    with pytest.raises(AssetMissing, match=f"cannot be read from {key}: No such file"):
        SshTransport(login, ADMITTED)
    key.write_text("not a key")
    with pytest.raises(AssetMissing, match=f"cannot be read from {key}"):
        SshTransport(login, ADMITTED)


def test_a_key_with_a_passphrase_is_read(tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text("")
    text = asyncssh.generate_private_key("ssh-ed25519").export_private_key("pkcs8-pem", "open").decode()
    extra = {"known_hosts": str(tmp_path / "known_hosts"), "key_file": "", "private_key": text}
    assert SshTransport(ssh_login(connection(**extra, private_key_passphrase="open")), ADMITTED)
    with pytest.raises(AssetMissing, match="the connection's private_key"):
        SshTransport(ssh_login(connection(**extra, private_key_passphrase="shut")), ADMITTED)
