"""An Airflow of its own for tests, with a ledger and a catalogue that the test may edit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from interlock.adapters.ledger.ledger import Ledger, open_ledger
from interlock.domain.ledger.chain import Entry
from interlock.estate.airflow import witness
from interlock.estate.settings import LOOPBACK, Settings
from interlock.estate.stack import postgres
from tests.integration.console_airflow import ROOT
from tests.integration.ledger_server import ledger_connection, ledger_server
from tests.ports import free_port

Body = dict[str, Any]
FIELDS = ("host", "port", "schema", "login", "password")


@dataclass
class Console:
    """A running Airflow: who asks it for what, and what it left in the ledger."""

    base: str
    home: Path
    postgres: Settings
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def known(self) -> dict[str, Any]:
        """What only this Airflow could tell."""
        found: dict[str, Any] = json.loads((self.home / "known.json").read_text())
        return found

    @property
    def grants(self) -> Path:
        """The file of grants."""
        return self.home / "catalogue" / "break_glass.yaml"

    def token(self, user: str) -> str:
        if user not in self.tokens:
            answer = httpx.post(f"{self.base}/auth/token", json={"username": user, "password": user}, timeout=30)
            self.tokens[user] = str(answer.raise_for_status().json()["access_token"])
        return self.tokens[user]

    def ask(self, user: str, method: str, path: str, body: Body | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token(user)}"}
        return httpx.request(method, self.base + path, json=body, headers=headers, timeout=30)

    def ledger(self) -> Ledger:
        return open_ledger(ledger_connection(self.postgres))

    def entries(self, chain: str, kind: str) -> tuple[Entry, ...]:
        with self.ledger() as ledger:
            return ledger.entries(chain, kind=kind)

    def attempts(self, **wanted: Any) -> list[dict[str, Any]]:
        """Wait for refused attempts with these values; they are recorded a little after they are refused."""
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up:
            payloads = [entry.payload for entry in self.entries("installation", "attempt.refused")]
            found = [one for one in payloads if all(one[name] == value for name, value in wanted.items())]
            if found:
                return found
            time.sleep(0.1)
        raise AssertionError(f"No refused attempt is on record with {wanted}: {payloads}")

    def grant(self, user: str, *dags: str, hours: float = 1) -> None:
        begin = datetime.now(UTC) - timedelta(minutes=1)
        grant = {
            "user": user,
            "from": f"{begin:%Y-%m-%dT%H:%M:%SZ}",
            "until": f"{begin + timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}",
            "reason": "Its task hangs after the network failure",
            "incident": "INC-4711",
            "dags": list(dags),
        }
        aside = self.grants.with_suffix(".new")
        aside.write_text(json.dumps({"grants": [grant]}))  # JSON is YAML
        aside.replace(self.grants)

    def take_grants(self) -> None:
        self.grants.unlink(missing_ok=True)


@contextmanager
def console_server(
    home: Path, auth_manager: str = "ours", *, on_postgres: bool = False, below: str = ""
) -> Iterator[Console]:
    """Run an Airflow with our plugin, and a PostgreSQL with its ledger.

    :param below: the path below which it is served, such as ``/airflow``.
    :param on_postgres: Airflow's own database is there, too.
    """
    shutil.copytree(ROOT / "include" / "catalogue", home / "catalogue")
    with ledger_server(home / "state") as settings:
        connection = ledger_connection(settings)
        (home / "ledger.json").write_text(json.dumps({name: getattr(connection, name) for name in FIELDS}))
        if on_postgres:
            (home / "database").write_text(airflow_url(settings))
        witness.prepare(settings)
        with _airflow(home, auth_manager, witness.of_the_api_server(settings), below) as base:
            yield Console(base, home, settings)


def airflow_url(settings: Settings) -> str:
    """Return the URL of the database that the embedded stack makes for Airflow."""
    password = (postgres.secrets_folder(settings) / "postgres_airflow").read_text()
    where = f"{LOOPBACK}:{settings.postgres_port}/{postgres.DATABASE}"
    return f"postgresql+psycopg2://{postgres.USER}:{password}@{where}"


@contextmanager
def _airflow(home: Path, auth_manager: str, variables: Mapping[str, str], below: str) -> Iterator[str]:
    port = free_port()
    (home / "below").write_text(below)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "INTERLOCK"))}
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.console_airflow", str(home), str(port), auth_manager],
            cwd=ROOT,
            env={**environment, **variables, "PYTHONPATH": str(ROOT / "include")},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            base = f"http://127.0.0.1:{port}{below}"
            _wait_for(server, base, home / "server.log")
            yield base
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGTERM)
            server.wait(20)


def _wait_for(server: subprocess.Popen[bytes], base: str, log: Path) -> None:
    give_up = time.monotonic() + 420
    while time.monotonic() < give_up:
        if server.poll() is not None:
            break
        try:
            httpx.get(f"{base}/api/v2/version", timeout=10)
        except httpx.TransportError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"Airflow did not start:\n{log.read_text()[-4000:]}")
