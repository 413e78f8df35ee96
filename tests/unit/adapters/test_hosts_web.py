"""Asking hosts over HTTP: health, version, smoke and load, against a small real server."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.adapters.hosts.health import ask_version, await_health
from interlock.adapters.hosts.load import percentile, run_load
from interlock.adapters.hosts.smoke import smoke
from interlock.adapters.hosts.web import url
from interlock.domain.catalogue import Health, Load, SmokeCheck
from interlock.domain.errors import DeployError
from interlock.domain.records import Host

HOST = Host(instance_id="i-1", name="shop-1", address="127.0.0.1", zone="a")
OTHER = Host(instance_id="i-2", name="shop-2", address="127.0.0.2", zone="a")


class Shop(ThreadingHTTPServer):
    """A host's program: what it answers can be set, and what it was asked is counted."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("", 0), _Handler)
        self.health: object = {"status": "ok", "version": "1.1.0"}
        self.unwell_answers = 0
        self.asked: Counter[str] = Counter()
        self.under_way = self.most_under_way = 0
        self.lock = threading.Lock()

    def handle_error(self, *_: object) -> None:
        """Say nothing: a client that hangs up is what some of these tests are about."""

    def answer(self, path: str) -> tuple[int, bytes]:
        if path == "/health":
            if self.unwell_answers:
                self.unwell_answers -= 1
                return 503, b""
            return 200, self.health if isinstance(self.health, bytes) else json.dumps(self.health).encode()
        if path == "/slow":
            time.sleep(0.5)
        if path == "/busy":
            time.sleep(0.02)
        return {"/moved": 302, "/broken": 500}.get(path, 200), b"bikes for sale"


class _Handler(BaseHTTPRequestHandler):
    server: Shop

    def do_GET(self) -> None:
        shop = self.server
        with shop.lock:
            shop.asked[self.path] += 1
            shop.under_way += 1
            shop.most_under_way = max(shop.most_under_way, shop.under_way)
        status, body = shop.answer(self.path)
        with shop.lock:
            shop.under_way -= 1
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        return


@pytest.fixture
def shop() -> Iterator[Shop]:
    with Shop() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def health(port: int, seconds: float = 2) -> Health:
    return Health(port=port, timeout=timedelta(seconds=seconds))


def load(*paths: str, requests: int = 20, concurrency: int = 4, timeout: float = 5) -> Load:
    return Load(paths=paths, requests=requests, concurrency=concurrency, timeout=timedelta(seconds=timeout))


def test_a_host_that_becomes_well_is_awaited(shop: Shop) -> None:
    shop.unwell_answers = 3
    asyncio.run(await_health(HOST.address, health(shop.server_port), "1.1.0"))
    assert shop.asked["/health"] == 4


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param({"version": "1.0.0"}, "version 1.0.0", id="another version"),
        pytest.param({"status": "ok"}, "without version", id="no version"),
        pytest.param(["1.1.0"], "without version", id="no object"),
        pytest.param(b"<html>", "without JSON", id="no JSON"),
    ],
)
def test_a_host_with_another_answer_is_not_the_release(shop: Shop, answer: object, said: str) -> None:
    shop.health = answer
    with pytest.raises(DeployError, match=f"not healthy with version 1.1.0 within 0.3 s.*{said}"):
        asyncio.run(await_health(HOST.address, health(shop.server_port, 0.3), "1.1.0"))


@pytest.mark.parametrize(
    ("key", "answer", "version"),
    [
        ("build.version", {"build": {"version": "1.1.0"}}, "1.1.0"),
        ("git.build.version", {"git": {"build.version": "1.1.0"}}, "1.1.0"),
        ("build.version", {"build.version": "1.1.0", "build": {"version": "1.0.0"}}, "1.1.0"),
        ("a.b.c", {"a": {"b": {"c": "1.1.0"}, "x": 1}}, "1.1.0"),
        ("build.version", {"build": "1.1.0"}, None),
        ("build.version", {"build": {"version": {"text": "1.1.0"}}}, None),
        ("build.version", {"version": "1.1.0"}, None),
        ("build..version", {"build": {"version": "1.1.0"}}, None),
        ("version", {"build": {"version": "1.1.0"}}, None),
    ],
)
def test_the_version_may_be_within_other_keys(shop: Shop, key: str, answer: object, version: str | None) -> None:
    shop.health = answer
    asked = health(shop.server_port).model_copy(update={"version_key": key})
    assert asyncio.run(ask_version(HOST.address, asked)) == version


def test_any_version_will_do_when_none_is_expected(shop: Shop) -> None:
    shop.health = b"fine"
    asyncio.run(await_health(HOST.address, health(shop.server_port), None))
    assert asyncio.run(ask_version(HOST.address, health(shop.server_port))) is None


def test_a_host_that_refuses_has_no_version(shop: Shop) -> None:
    nowhere = Host(instance_id="i-3", name="shop-3", address="127.0.0.3", zone="a")
    shop.server_close()
    assert asyncio.run(ask_version(nowhere.address, health(shop.server_port))) is None


def test_a_proxy_of_the_surroundings_is_not_asked(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert asyncio.run(ask_version(HOST.address, health(shop.server_port))) == "1.1.0"


def test_an_ipv6_address_gets_brackets() -> None:
    assert url("fd00::11", 8400, "/health?deep=1") == "http://[fd00::11]:8400/health?deep=1"


def test_every_smoke_check_is_made_on_every_host(shop: Shop) -> None:
    checks = [SmokeCheck(path="/bikes", contains="bikes"), SmokeCheck(path="/moved", status=302)]
    results = asyncio.run(smoke([HOST, OTHER], checks, shop.server_port))
    assert [(one.host, one.path, one.passed) for one in results] == [
        ("127.0.0.1", "/bikes", True),
        ("127.0.0.1", "/moved", True),
        ("127.0.0.2", "/bikes", True),
        ("127.0.0.2", "/moved", True),
    ]


def test_a_failed_smoke_check_says_what_was_found(shop: Shop) -> None:
    checks = [
        SmokeCheck(path="/broken"),
        SmokeCheck(path="/bikes", contains="boats"),
        SmokeCheck(path="/moved"),
    ]
    results = asyncio.run(smoke([HOST], checks, shop.server_port))
    assert [(one.passed, one.expected, one.found) for one in results] == [
        (False, "status 200", "status 500"),
        (False, "status 200, containing 'boats'", "status 200, not containing 'boats'"),
        (False, "status 200", "status 302"),
    ]


def test_a_smoke_check_of_a_dead_host_fails(shop: Shop) -> None:
    shop.shutdown()
    shop.server_close()
    (result,) = asyncio.run(smoke([HOST], [SmokeCheck(path="/")], shop.server_port))
    assert (result.passed, bool(result.found)) == (False, True)


def test_a_load_is_spread_over_hosts_and_paths(shop: Shop) -> None:
    report = asyncio.run(run_load([HOST, OTHER], load("/a", "/b", requests=11), shop.server_port))
    assert [(one.host, one.path, one.requests, one.errors) for one in report.results] == [
        ("127.0.0.1", "/a", 6, 0),
        ("127.0.0.1", "/b", 5, 0),
        ("127.0.0.2", "/a", 6, 0),
        ("127.0.0.2", "/b", 5, 0),
    ]
    assert shop.asked == {"/a": 14, "/b": 12}  # with one to each that warmed it up
    assert all(0 < one.p50_ms <= one.p95_ms <= one.p99_ms for one in report.results)


def test_no_more_requests_are_under_way_than_allowed(shop: Shop) -> None:
    asyncio.run(run_load([HOST, OTHER], load("/busy", requests=15, concurrency=3), shop.server_port))
    assert shop.most_under_way == 3


def test_errors_and_time_outs_are_counted_and_redirects_are_not(shop: Shop) -> None:
    paths = ("/broken", "/moved", "/slow")
    report = asyncio.run(run_load([HOST], load(*paths, requests=6, concurrency=6, timeout=0.2), shop.server_port))
    assert [(one.path, one.requests, one.errors) for one in report.results] == [
        ("/broken", 2, 2),
        ("/moved", 2, 0),
        ("/slow", 2, 2),
    ]
    broken, moved, slow = (one.failures for one in report.results)
    assert (broken, moved, slow) == ({"status 500": 2}, {}, {"no answer in time": 2})
    assert "failures" not in report.results[1].model_dump(mode="json")


def test_a_load_on_a_dead_host_is_all_errors(shop: Shop) -> None:
    shop.shutdown()
    shop.server_close()
    (result,) = asyncio.run(run_load([HOST], load("/", requests=5), shop.server_port)).results
    assert (result.requests, result.errors, result.error_percent) == (5, 5, 100)


@given(st.lists(st.floats(0, 1e6).map(lambda value: round(value, 3)), min_size=1, max_size=200), st.floats(1, 100))
def test_a_percentile_is_the_smallest_value_that_covers_its_share(values: list[float], percent: float) -> None:
    ordered = sorted(values)
    found = percentile(ordered, percent)
    assert found in ordered
    assert 100 * sum(value <= found for value in ordered) >= percent * len(ordered) - 1e-6
    assert 100 * sum(value < found for value in ordered) < percent * len(ordered) + 1e-6
