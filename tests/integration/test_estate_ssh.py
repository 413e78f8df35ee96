from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import pytest

from interlock.estate.settings import SSH_LOGIN
from interlock.estate.world import processes
from interlock.estate.world.keys import key, write_known_hosts
from interlock.estate.world.ssh import EmbeddedServer, Endpoint
from tests.estate_process import is_open, lives, wait_until
from tests.ports import free_network

PORT = 2222


@dataclass
class SshHost:
    """A host with its SSH server."""

    server: EmbeddedServer
    endpoint: Endpoint
    folder: Path

    @asynccontextmanager
    async def connect(self, **changed: object) -> AsyncIterator[asyncssh.SSHClientConnection]:
        """Log in as the deployer does, or with something changed."""
        options = {
            "username": self.endpoint.login,
            "client_keys": [str(self.folder / "deployer")],
            "known_hosts": str(self.folder / "known_hosts"),
        }
        connection = await asyncssh.connect(
            self.endpoint.address, PORT, config=None, agent_path=None, **{**options, **changed}
        )
        async with connection:
            yield connection


Scenario = Callable[[SshHost], Awaitable[None]]


@pytest.fixture
def on_host(tmp_path: Path) -> Callable[[Scenario], None]:
    """Give what runs a scenario with a host that listens; nothing of it is left afterwards."""
    home = tmp_path / "the host's home"
    home.mkdir()
    environ = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "INTERLOCK_STATE": str(tmp_path),
        "INTERLOCK_HOST": "one",
        "GREETING": 'it\'s "fine" $HOME',
    }
    endpoint = Endpoint(
        address=f"{free_network()}.11",
        port=PORT,
        login=SSH_LOGIN,
        client_key=key(tmp_path / "deployer").convert_to_public(),
        host_key=key(tmp_path / "host_key"),
        environ=environ,
    )
    write_known_hosts(tmp_path / "known_hosts", PORT, {endpoint.address: endpoint.host_key})

    async def run(scenario: Scenario) -> None:
        server = EmbeddedServer(endpoint)
        await server.start()
        try:
            await scenario(SshHost(server, endpoint, tmp_path))
        finally:
            await server.stop()
            await asyncio.to_thread(processes.end_all, tmp_path)
        assert not is_open(endpoint.address, PORT)

    return lambda scenario: asyncio.run(run(scenario))


def test_command_gives_output_errors_and_exit_code(on_host: Callable[[Scenario], None]) -> None:
    async def scenario(host: SshHost) -> None:
        async with host.connect() as connection:
            done = await connection.run("echo out; echo err >&2; exit 7")
            assert (done.stdout, done.stderr, done.exit_status) == ("out\n", "err\n", 7)
            assert (await connection.run("true")).exit_status == 0
            assert (await connection.run("kill -9 $$")).exit_status != 0

    on_host(scenario)


def test_command_starts_at_home_with_nothing_but_the_hosts_environment(
    on_host: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THIS_MACHINE", "x")

    async def scenario(host: SshHost) -> None:
        async with host.connect() as connection:
            assert (await connection.run("pwd")).stdout == host.endpoint.environ["HOME"] + "\n"
            assert (await connection.run('printf %s "$GREETING"')).stdout == host.endpoint.environ["GREETING"]
            names = {line.partition("=")[0] for line in str((await connection.run("env")).stdout).splitlines()}
            assert names - set(host.endpoint.environ) <= {"PWD", "SHLVL", "_", "OLDPWD"}

    on_host(scenario)


def test_input_is_streamed_whole(on_host: Callable[[Scenario], None]) -> None:
    data = random.randbytes(20 * 1024 * 1024)

    async def scenario(host: SshHost) -> None:
        async with host.connect() as connection:
            done = await connection.run("sha256sum", input=data, encoding=None)
            assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()
            echoed = await connection.run("cat", input=data, encoding=None)
            assert echoed.stdout == data

    on_host(scenario)


def test_command_that_does_not_want_its_input_ends_all_the_same(on_host: Callable[[Scenario], None]) -> None:
    async def scenario(host: SshHost) -> None:
        async with host.connect() as connection:
            done = await connection.run("head -c 3", input=bytes(4 * 1024 * 1024), encoding=None)
            assert done.stdout == b"\0\0\0"
            assert (await connection.run("exec <&-; exit 3", input="late\n")).exit_status == 3

    on_host(scenario)


def test_many_commands_run_at_once_on_one_connection(on_host: Callable[[Scenario], None]) -> None:
    async def scenario(host: SshHost) -> None:
        async with host.connect() as connection:
            done = await asyncio.gather(*(connection.run(f"cat; exit {n}", input=str(n)) for n in range(10)))
            assert [(it.stdout, it.exit_status) for it in done] == [(str(n), n) for n in range(10)]

    on_host(scenario)


def test_unknown_and_changed_host_keys_are_refused(on_host: Callable[[Scenario], None]) -> None:
    async def scenario(host: SshHost) -> None:
        stranger = key(host.folder / "stranger")
        for name, trusted in (("nobody", {}), ("changed", {host.endpoint.address: stranger})):
            write_known_hosts(host.folder / name, PORT, trusted)
            with pytest.raises(asyncssh.HostKeyNotVerifiable):
                async with host.connect(known_hosts=str(host.folder / name)):
                    pass

    on_host(scenario)


def test_only_the_deployers_key_and_login_open_a_host(on_host: Callable[[Scenario], None]) -> None:
    async def scenario(host: SshHost) -> None:
        key(host.folder / "stranger")
        for changed in (
            {"client_keys": [str(host.folder / "stranger")]},
            {"username": "somebody"},
            {"client_keys": None, "password": "deployer"},
        ):
            with pytest.raises(asyncssh.PermissionDenied):
                async with host.connect(**changed):
                    pass

    on_host(scenario)


def test_nothing_is_forwarded(on_host: Callable[[Scenario], None]) -> None:
    async def scenario(host: SshHost) -> None:
        async with host.connect() as connection:
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.open_connection(host.endpoint.address, PORT)
            with pytest.raises(asyncssh.ChannelListenError):
                await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", PORT)

    on_host(scenario)


def test_daemon_survives_its_session(on_host: Callable[[Scenario], None]) -> None:
    async def scenario(host: SshHost) -> None:
        async with host.connect() as connection:
            started = await connection.run("setsid sleep 60 </dev/null >/dev/null 2>&1 & echo $!")
            connection.abort()
        pid = int(str(started.stdout))
        await asyncio.sleep(0.2)
        assert lives(pid)
        assert [it.pid for it in processes.of_hosts(host.folder, "one")] == [pid]

    on_host(scenario)


def test_cut_connection_ends_the_input_of_what_runs(on_host: Callable[[Scenario], None]) -> None:
    async def scenario(host: SshHost) -> None:
        async with host.connect() as connection:
            await connection.create_process("trap '' HUP; cat >received; echo end >done")
            ended = host.folder / "the host's home" / "done"
            await asyncio.to_thread(wait_until, ended.with_name("received").exists, "the command's start")
            connection.abort()
        await asyncio.to_thread(wait_until, ended.exists, "the command's end")

    on_host(scenario)


def test_cut_connection_hangs_up_on_the_process_group(on_host: Callable[[Scenario], None]) -> None:
    async def scenario(host: SshHost) -> None:
        async with host.connect() as connection:
            running = await connection.create_process("sleep 60 & echo $!; echo $$; wait")
            pids = [int(await running.stdout.readline()) for _ in range(2)]
            assert all(lives(pid) for pid in pids)
            connection.abort()
        await asyncio.to_thread(wait_until, lambda: not any(lives(pid) for pid in pids), "the hang-up")

    on_host(scenario)


def test_signals_of_the_client_reach_nobody(on_host: Callable[[Scenario], None]) -> None:
    async def scenario(host: SshHost) -> None:
        async with host.connect() as connection:
            running = await connection.create_process("echo on; read line; echo $line; exit 4")
            assert await running.stdout.readline() == "on\n"
            running.send_signal("TERM")
            running.stdin.write("still there\n")
            done = await running.wait()
            assert (done.stdout, done.exit_status) == ("still there\n", 4)

    on_host(scenario)


def test_stopped_server_hangs_up_on_its_clients(on_host: Callable[[Scenario], None]) -> None:
    async def scenario(host: SshHost) -> None:
        async with host.connect() as connection:
            running = await connection.create_process("echo on; sleep 60")
            assert await running.stdout.readline() == "on\n"
            await host.server.stop()
            await asyncio.wait_for(connection.wait_closed(), 10)

    on_host(scenario)


def test_home_that_is_gone_is_told(on_host: Callable[[Scenario], None]) -> None:
    async def scenario(host: SshHost) -> None:
        os.rmdir(host.endpoint.environ["HOME"])
        async with host.connect() as connection:
            assert (await connection.run("true")).exit_status == 255

    on_host(scenario)
