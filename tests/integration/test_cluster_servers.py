"""PgBouncer, the broker and the proxy of ``make cluster``: real ones, with the configuration that it generates."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import HTTPException
from limits import parse
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from interlock.adapters.ledger.ledger import Ledger, engine_of
from interlock.airflow_settings import ASYNC_BEHIND_A_POOL
from interlock.console.auth import guesses
from interlock.estate.settings import LOOPBACK, Settings
from interlock.estate.stack import cluster, cluster_servers, postgres
from interlock.estate.stack.ports import trouble_with
from tests.ports import free_port

CHAIN = "release/release_bike_shop/1"
AT_ONCE = 12


def await_port(port: int) -> None:
    give_up = time.monotonic() + 60
    while not trouble_with(LOOPBACK, port):
        assert time.monotonic() < give_up, f"nothing listens on {port}"
        time.sleep(0.05)


@contextmanager
def running(command: tuple[str, ...], port: int, stop: signal.Signals = signal.SIGTERM) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, cwd="/") as process:
        try:
            await_port(port)
            yield
        finally:
            process.send_signal(stop)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Run PostgreSQL with the ledger, and the three servers."""
    ports = {name: free_port() for name in ("postgres_port", "pool_port", "broker_port", "airflow_port")}
    apis = {"api_1_port": free_port(), "api_2_port": free_port()}
    settings = Settings(state=tmp_path_factory.mktemp("cluster"), engine="cluster", **ports, **apis)
    settings.run.mkdir()
    postgres.prepare(settings)
    cluster.prepare(settings)
    commands = cluster_servers.commands(settings)
    with ExitStack() as servers:
        database = tuple(postgres.server_command(settings))
        # PostgreSQL waits for its clients on SIGTERM, and not on SIGINT.
        servers.enter_context(running(database, settings.postgres_port, signal.SIGINT))
        while not postgres.is_ready(settings):
            time.sleep(0.1)
        postgres.make_databases(settings)
        postgres.migrate_ledger(settings)
        for name, port in (("pgbouncer", settings.pool_port), ("broker", settings.broker_port)):
            servers.enter_context(running(commands[name][1], port))
        servers.enter_context(running(commands["proxy"][1], settings.airflow_port))
        yield settings


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    with closing(Ledger(engine_of(postgres.ledger_url(settings, postgres.LEDGER_WRITER), "the test"))) as opened:
        yield opened


def test_the_ledger_holds_behind_a_pool_of_transactions(ledger: Ledger) -> None:
    """More writers than the pool has sessions: each entry is in the chain once, and the chain is whole."""
    writers = cluster_servers.CONNECTIONS_OF_A_POOL + 5

    def write(number: int) -> None:
        ledger.append(CHAIN, "note", {"number": number}, actor="test", key=f"note/{number}")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = ledger.entries(CHAIN)
    assert sorted(entry.payload["number"] for entry in entries) == list(range(writers))
    assert ledger.check(CHAIN) is None
    assert ledger.weaknesses() == ()


def test_one_at_a_time_has_its_turn_behind_the_pool(ledger: Ledger) -> None:
    inside, most = 0, 0
    counting = threading.Lock()

    def take() -> None:
        nonlocal inside, most
        with ledger.turn("answer"):
            with counting:
                inside += 1
                most = max(most, inside)
            time.sleep(0.02)
            with counting:
                inside -= 1

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_what_a_transaction_settles_is_not_left_to_the_next_client(ledger: Ledger) -> None:
    """Lock and statement time-outs belong to the transaction: the session goes to another client."""
    for number in range(30):
        ledger.append(f"{CHAIN}/settled", "note", {}, actor="test", key=str(number))
        with ledger._engine.connect() as connection:
            assert connection.scalar(text("SHOW lock_timeout")) == "0"
            assert connection.scalar(text("SHOW transaction_isolation")) == "read committed"
        ledger.last(CHAIN)  # in a snapshot, read only


def test_airflows_asynchronous_connections_hold_behind_the_pool(settings: Settings) -> None:
    url = postgres.connection_file(settings).read_text().replace("psycopg2", "asyncpg")

    async def ask() -> list[int]:
        engine = create_async_engine(url, connect_args=ASYNC_BEHIND_A_POOL)

        async def one(number: int) -> int:
            async with engine.connect() as connection:
                return int(await connection.scalar(text("SELECT CAST(:number AS int)"), {"number": number}))

        try:
            return [found for _ in range(5) for found in await asyncio.gather(*map(one, range(AT_ONCE)))]
        finally:
            await engine.dispose()

    assert asyncio.run(ask()) == [*range(AT_ONCE)] * 5


def test_who_guesses_at_one_api_server_has_guessed_at_the_other(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(guesses.STORAGE_FILE, str(cluster_servers.limits_url_file(settings)))
    first, second = (guesses.Guesses(parse("2 per hour"), guesses.shared_storage()) for _ in range(2))
    assert [first.log_in("rita", lambda: None), second.log_in("rita", lambda: None)] == [None, None]
    for server in (first, second):
        with pytest.raises(HTTPException, match="Too many failed logins"):
            server.log_in("rita", lambda: "rita")
    assert second.log_in("ben", lambda: "ben") == "ben"


def test_a_broker_that_is_gone_locks_nobody_out_and_opens_nothing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "url"
    file.write_text(f"redis://{LOOPBACK}:{free_port()}/1")
    monkeypatch.setenv(guesses.STORAGE_FILE, str(file))
    server = guesses.Guesses(parse("2 per hour"), guesses.shared_storage())
    assert server.log_in("rita", lambda: "rita") == "rita"
    assert [server.log_in("rita", lambda: None) for _ in range(2)] == [None, None]
    with pytest.raises(HTTPException, match="Too many failed logins"):
        server.log_in("rita", lambda: "rita")


@contextmanager
def api_server(port: int, asked: list[int]) -> Iterator[None]:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/api/v2/version":
                asked.append(port)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer((LOOPBACK, port), Page) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()


def test_requests_go_to_both_api_servers_and_to_the_one_that_is_left(settings: Settings) -> None:
    asked: list[int] = []

    def answered() -> bool:
        return httpx.get(f"{settings.airflow_url}/page", trust_env=False).status_code == 200

    with api_server(settings.api_1_port, asked):
        with api_server(settings.api_2_port, asked):
            give_up = time.monotonic() + 60
            while {settings.api_1_port, settings.api_2_port} - set(asked) and time.monotonic() < give_up:
                answered()
            assert set(asked) == {settings.api_1_port, settings.api_2_port}
        asked.clear()
        assert all(answered() for _ in range(20)), "a server that is gone costs no request"
    assert set(asked) == {settings.api_1_port}
