"""A PostgreSQL with a ledger in it, as the embedded stack has it."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from interlock.estate.settings import LOOPBACK, Settings
from interlock.estate.stack import postgres
from tests.ports import free_port


@contextmanager
def ledger_server(state: Path) -> Iterator[Settings]:
    """Run a server with the ledger's database, roles and tables."""
    settings = Settings(state=state, postgres_port=free_port())
    state.mkdir(parents=True, exist_ok=True)
    postgres.prepare(settings)
    with (state / "log").open("ab") as log:
        process = subprocess.Popen(postgres.server_command(settings), stdout=log, stderr=log, cwd="/")
    try:
        wait_until_ready(settings)
        postgres.make_databases(settings)
        postgres.migrate_ledger(settings)
        yield settings
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def begin_again(settings: Settings) -> None:
    """Make the ledger's database anew, whatever became of it."""
    with closing(postgres.connect(settings)) as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {postgres.LEDGER} WITH (FORCE)")
    postgres.make_databases(settings)
    postgres.migrate_ledger(settings)


def ledger_connection(settings: Settings, **other: Any) -> SimpleNamespace:
    """Return the Airflow connection ``interlock_ledger``."""
    fields = {
        "host": LOOPBACK,
        "port": settings.postgres_port,
        "schema": postgres.LEDGER,
        "login": postgres.LEDGER_WRITER,
        "password": postgres.ledger_password(settings, postgres.LEDGER_WRITER),
        "extra_dejson": {},
    }
    return SimpleNamespace(**{**fields, **other})


def witness_connection(settings: Settings) -> SimpleNamespace:
    """Return how Airflow's API server logs in to the ledger."""
    role = postgres.LEDGER_WITNESS
    return ledger_connection(settings, login=role, password=postgres.ledger_password(settings, role))


def superuser_connection(settings: Settings) -> SimpleNamespace:
    """Return how somebody logs in who may append what tasks and what the API server append."""
    password = (postgres.secrets_folder(settings) / "postgres_owner").read_text()
    return ledger_connection(settings, login=postgres.OWNER, password=password)


def wait_until_ready(settings: Settings, seconds: float = 30) -> None:
    """Wait for the server to answer."""
    give_up = time.monotonic() + seconds
    while not postgres.is_ready(settings):
        assert time.monotonic() < give_up, f"PostgreSQL does not answer on port {settings.postgres_port}"
        time.sleep(0.1)
