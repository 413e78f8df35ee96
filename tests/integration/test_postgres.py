from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from interlock.adapters.private_files import write_private
from interlock.estate.settings import LOOPBACK, Settings
from interlock.estate.stack import postgres
from tests.integration.ledger_server import wait_until_ready
from tests.ports import free_port


class Server:
    """An embedded PostgreSQL that can be started, killed and started again."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        postgres.prepare(self.settings)
        with (self.settings.state / "log").open("ab") as log:
            self.process = subprocess.Popen(postgres.server_command(self.settings), stdout=log, stderr=log, cwd="/")
        wait_until_ready(self.settings)
        postgres.make_databases(self.settings)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        if self.process:
            self.process.send_signal(how)
            self.process.wait(20)
            self.process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    # A folder with a blank in its name that, as root's often are, nobody else may enter.
    state = tmp_path / "the state"
    state.mkdir(mode=0o700)
    running = Server(Settings(state=state, postgres_port=free_port()))
    running.start()
    yield running
    running.stop()


def as_airflow(settings: Settings, **other: Any) -> Any:
    password = (postgres.secrets_folder(settings) / "postgres_airflow").read_text()
    account = {"user": postgres.USER, "password": password, "dbname": postgres.DATABASE, **other}
    return psycopg2.connect(host=LOOPBACK, port=settings.postgres_port, **account)


def ask(connection: Any, query: str) -> Any:
    with connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0] if cursor.description else None


def test_server_finds_its_way_through_folders_that_are_closed(tmp_path: Path) -> None:
    """As in a project under /root: not only opening a file must work, but asking whether it may be opened."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "program").write_text("")
    asking = "import os, sys; sys.exit(not os.access(sys.argv[1], os.R_OK))"
    command = [*postgres.as_server_user(), sys.executable, "-c", asking, str(closed / "program")]
    assert subprocess.run(command, cwd="/", check=False).returncode == 0


def test_airflow_owns_its_database_and_nothing_else(server: Server) -> None:
    connection = as_airflow(server.settings)
    assert (
        ask(connection, "SELECT rolsuper OR rolcreatedb OR rolcreaterole FROM pg_roles WHERE rolname = 'airflow'")
        is False
    )
    ask(connection, "CREATE TABLE release (name text)")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        ask(connection, "COPY release FROM PROGRAM 'id'")
    connection.close()


def test_nobody_gets_in_without_the_password(server: Server) -> None:
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        as_airflow(server.settings, password="guessed")


def test_server_that_was_killed_starts_again_and_has_everything(server: Server) -> None:
    connection = as_airflow(server.settings)
    ask(connection, "CREATE TABLE release AS SELECT '1.1.0' AS name")
    server.stop(signal.SIGKILL)
    connection.close()
    server.start()
    connection = as_airflow(server.settings)
    assert ask(connection, "SELECT name FROM release") == "1.1.0"
    connection.close()


def test_lock_file_with_the_number_of_another_process_is_in_nobodys_way(server: Server) -> None:
    """PostgreSQL believes the number if the process belongs to the user whom the server runs as."""
    server.stop()
    with subprocess.Popen([*postgres.as_server_user(), "sleep", "60"]) as other:
        lock = postgres.data_folder(server.settings) / "postmaster.pid"
        lock.write_text(f"{other.pid}\nwhatever\n")
        server.start()
        assert postgres.is_ready(server.settings)
        other.kill()


def test_lock_of_a_server_that_runs_stays(server: Server) -> None:
    lock = postgres.data_folder(server.settings) / "postmaster.pid"
    postgres.remove_stale_lock(postgres.data_folder(server.settings))
    assert lock.exists()


def test_half_made_files_are_made_again(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path / "state", postgres_port=free_port())
    (settings.state / "postgres.new").mkdir(parents=True)
    (settings.state / "postgres.new" / "PG_VERSION").write_text("18")
    assert postgres.prepare(settings) is True
    assert (postgres.data_folder(settings) / "global").is_dir()
    assert postgres.prepare(settings) is False


def test_url_for_airflow_follows_the_port(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path, postgres_port=free_port())
    write_private(postgres.connection_file(settings), "an old one")
    postgres.prepare(settings)
    assert f"@127.0.0.1:{settings.postgres_port}/airflow" in postgres.connection_file(settings).read_text()
