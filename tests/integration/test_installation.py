"""``interlock setup`` and ``doctor`` on a real PostgreSQL and a real Airflow."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from interlock.adapters.ledger import database
from interlock.adapters.ledger.ledger import open_ledger
from interlock.domain.errors import AssetMissing, LedgerError
from interlock.estate.settings import LOOPBACK, Settings
from interlock.estate.stack import postgres
from tests.integration.ledger_server import ledger_connection, wait_until_ready
from tests.ports import free_port

COMMANDS = """
import io, json, sys
from contextlib import redirect_stdout
from interlock.cli.app import main

told = {}
for line in sys.stdin:
    name, arguments, environment = json.loads(line)
    import os
    os.environ.update(environment)
    with redirect_stdout(io.StringIO()) as said:
        code = main(arguments)
    told[name] = [code, said.getvalue()]
print("RESULT" + json.dumps(told))
"""
ADMIN, PASSWORD = "platform", "of the platform"


@dataclass
class Installed:
    """What the commands said, in order, and where they did it."""

    folder: Path
    server: Settings
    said: dict[str, Any]

    def lines(self, name: str) -> list[str]:
        code, text = self.said[name]
        assert code == 0, text
        return [line for line in text.splitlines() if line]

    def database(self, name: str) -> Any:
        return closing(postgres.connect(self.server, name))


@pytest.fixture(scope="module")
def bare_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A PostgreSQL with an empty database for Airflow, and an administrator who is no superuser."""
    state = tmp_path_factory.mktemp("bare")
    settings = Settings(state=state, postgres_port=free_port())
    postgres.prepare(settings)
    with (state / "log").open("ab") as log:
        process = subprocess.Popen(postgres.server_command(settings), stdout=log, stderr=log, cwd="/")
    try:
        wait_until_ready(settings)
        with closing(postgres.connect(settings)) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE ROLE {ADMIN} LOGIN CREATEROLE CREATEDB PASSWORD %s", (PASSWORD,))
            cursor.execute(f"CREATE DATABASE airflow OWNER {ADMIN}")
        yield settings
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def url(server: Settings, name: str) -> str:
    return f"postgresql://{ADMIN}:{PASSWORD.replace(' ', '%20')}@{LOOPBACK}:{server.postgres_port}/{name}"


@pytest.fixture(scope="module")
def installed(bare_server: Settings, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """An installation that was set up from nothing, and set up again."""
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("project") / "ours"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "INTERLOCK"))}
    environment = {
        **kept,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__AUTH_MANAGER": "interlock.console.auth.manager.InterlockFabAuthManager",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url(bare_server, "airflow").replace(
            "postgresql:", "postgresql+psycopg2:"
        ),
        "INTERLOCK_CATALOGUE": str(folder / "catalogue"),
        "INTERLOCK_WITNESS_PUBLIC_KEY": str(folder / "keys" / "witness.pem.pub"),
    }
    admin = {"INTERLOCK_LEDGER_ADMIN_URL": url(bare_server, "postgres")}
    airflow = [sys.executable, "-m", "airflow", "db", "migrate"]

    def run(*commands: tuple[str, list[str], dict[str, str]]) -> dict[str, Any]:
        asked = "\n".join(json.dumps(one) for one in commands)
        done = subprocess.run(
            [sys.executable, "-c", COMMANDS], input=asked, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        (line,) = (line for line in done.stdout.splitlines() if line.startswith("RESULT"))
        return dict(json.loads(line.removeprefix("RESULT")))

    said = run(("init", ["init", str(folder)], {}), ("too early", ["setup", str(folder), "--yes"], admin))
    subprocess.run(airflow, env=environment, capture_output=True, check=True)
    settings = folder / "airflow_settings.yaml"
    text = settings.read_text().replace("conn_host: localhost\n      conn_port: 5432", "conn_host: @")
    settings.write_text(
        text.replace("conn_host: @", f"conn_host: {LOOPBACK}\n      conn_port: {bare_server.postgres_port}")
    )
    said |= run(("dry", ["setup", str(folder), "--dry-run"], admin))
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["catalogue"], "a dry run makes no key"
    said |= run(("first", ["setup", str(folder), "--yes"], admin))
    board = folder / "catalogue" / "board.yaml"
    board.write_text(board.read_text().replace("senior_management: [carol]", "senior_management: [alice]"))
    said |= run(("again", ["setup", str(folder), "--yes"], admin), ("last", ["setup", str(folder)], admin))
    return Installed(folder, bare_server, said)


def test_setup_before_airflow_has_tables_says_what_to_do(installed: Installed) -> None:
    code, _ = installed.said["too early"]
    assert code == 1


def test_a_dry_run_says_what_the_first_run_does(installed: Installed) -> None:
    planned = [line.removeprefix("+ ") for line in installed.lines("dry") if line.startswith("+ ")]
    done = [line.removeprefix("done: ") for line in installed.lines("first") if line.startswith("done: ")]
    assert planned == done
    assert "Nothing was changed." in installed.lines("dry")
    assert any(line.startswith("create the database interlock_ledger, its tables") for line in done)
    assert f"make the key {installed.folder}/keys/signing.pem" in done
    assert (
        "create the account carol (carol@example.com) with board_member, senior_management, functional_approver" in done
    )
    assert "create the connection interlock_conductor" in done


def test_what_only_the_organisation_knows_is_left_out_aloud(installed: Installed) -> None:
    notes = [line for line in installed.lines("first") if line.startswith("Note: ")]
    assert any("interlock_artifacts is not created: bucket, region_name is still CHANGE-ME" in one for one in notes)
    assert any("Nobody has the role release_manager" in one for one in notes)


def test_a_changed_catalogue_gives_roles_and_takes_none(installed: Installed) -> None:
    done = [line for line in installed.lines("again") if line.startswith("done: ")]
    assert done == ["done: give the account alice senior_management"]
    notes = [line for line in installed.lines("again") if line.startswith("Note: carol has senior_management")]
    assert len(notes) == 1


def test_after_that_there_is_nothing_to_change(installed: Installed) -> None:
    assert "There is nothing to change." in installed.lines("last")


def test_accounts_have_their_roles_and_passwords_that_only_the_owner_can_read(installed: Installed) -> None:
    with installed.database("airflow") as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT u.username, r.name FROM ab_user u JOIN ab_user_role ur ON ur.user_id = u.id"
            " JOIN ab_role r ON r.id = ur.role_id ORDER BY 1, 2"
        )
        found = cursor.fetchall()
    assert ("alice", "board_member") in found
    assert ("alice", "senior_management") in found
    assert ("interlock_reader", "interlock_reader") in found
    secrets = [path for name in ("secrets", "keys", "api-server") for path in (installed.folder / name).rglob("*")]
    private = [path for path in secrets if path.is_file() and path.suffix != ".pub"]
    assert {"alice", "signing.pem", "witness.pem", "ledger_url"} <= {path.name for path in private}
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    assert (installed.folder / "keys/witness.pem.pub").exists()


def test_the_ledger_that_was_made_can_be_written_by_tasks_and_not_changed(installed: Installed) -> None:
    password = (installed.folder / "secrets/interlock_ledger_writer").read_text()
    with open_ledger(ledger_connection(installed.server, password=password)) as ledger:
        ledger.append("installation", "finding", {"what": "test"}, actor="test", key="finding/test")
        assert ledger.weaknesses() == ()
        assert abs((ledger.server_time() - ledger.now()).total_seconds()) < 60


def test_a_ledger_that_tasks_can_change_is_found(installed: Installed) -> None:
    password = (installed.folder / "secrets/interlock_ledger_writer").read_text()
    with installed.database(database.DATABASE) as connection, connection.cursor() as cursor:
        cursor.execute("GRANT UPDATE ON ledger.entries TO interlock_ledger_writer")
        try:
            with open_ledger(ledger_connection(installed.server, password=password)) as ledger:
                assert ledger.weaknesses() == ("interlock_ledger_writer can change or delete rows of ledger.entries",)
        finally:
            cursor.execute("REVOKE UPDATE ON ledger.entries FROM interlock_ledger_writer")


def test_the_administrator_is_no_member_of_the_ledgers_owner_afterwards(installed: Installed) -> None:
    with installed.database("postgres") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_has_role(%s, %s, 'USAGE')", (ADMIN, database.OWNER))
        assert cursor.fetchone() == (False,)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        pytest.param("postgresql://platform:no@127.0.0.1:{port}/postgres", AssetMissing, id="password"),
        pytest.param("postgresql://[", LedgerError, id="no URL"),
    ],
)
def test_an_administrator_who_cannot_log_in_is_told_which_setting(
    wrong: str, error: type[Exception], bare_server: Settings
) -> None:
    with pytest.raises(error, match="INTERLOCK_LEDGER_ADMIN_URL") as refused:
        database.missing_roles(wrong.format(port=bare_server.postgres_port))
    assert "postgresql://platform" not in str(refused.value)


def test_the_password_of_a_role_that_exists_stays(installed: Installed) -> None:
    password = (installed.folder / "secrets/interlock_ledger_writer").read_text()
    database.make_ledger_database(url(installed.server, "postgres"), {})
    psycopg2.connect(
        host=LOOPBACK,
        port=installed.server.postgres_port,
        user="interlock_ledger_writer",
        password=password,
        dbname=database.DATABASE,
    ).close()
