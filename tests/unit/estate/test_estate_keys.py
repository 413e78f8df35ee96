from __future__ import annotations

from pathlib import Path

import asyncssh

from interlock.estate.world.keys import key, write_known_hosts


def test_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    made = key(tmp_path / "keys" / "deployer")
    assert key(tmp_path / "keys" / "deployer") == made
    assert (tmp_path / "keys" / "deployer").stat().st_mode & 0o777 == 0o600


def test_public_half_is_written_again_when_it_is_lost(tmp_path: Path) -> None:
    made = key(tmp_path / "host")
    (tmp_path / "host.pub").unlink()
    key(tmp_path / "host")
    assert asyncssh.read_public_key(tmp_path / "host.pub") == made.convert_to_public()


def test_known_hosts_are_as_openssh_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    first, second = key(tmp_path / "first"), key(tmp_path / "second")
    write_known_hosts(path, 2222, {"127.0.0.12": second, "127.0.0.11": first})
    lines = path.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["[127.0.0.11]:2222", "[127.0.0.12]:2222"]
    trusted = asyncssh.read_known_hosts(str(path)).match("", "127.0.0.12", 2222)[0]
    assert trusted == [second.convert_to_public()]
    write_known_hosts(path, 22, {"127.0.0.11": first})
    assert path.read_text().startswith("127.0.0.11 ssh-ed25519 ")


def test_known_hosts_are_left_alone_when_nothing_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    hosts = {"127.0.0.11": key(tmp_path / "first")}
    write_known_hosts(path, 2222, hosts)
    written = path.stat().st_ino
    write_known_hosts(path, 2222, hosts)
    assert path.stat().st_ino == written
