from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from interlock.adapters.artifacts.bom import bill_of_materials, component_rows
from interlock.adapters.artifacts.bundle import pack
from interlock.adapters.build.builders import BuildResult, build, run_suite
from interlock.adapters.catalogue.catalogue import load_service
from interlock.adapters.hosts.smoke import smoke
from interlock.adapters.quality.reports import coverage_rows, junit_rows
from interlock.adapters.source.git import open_repository
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import Service
from interlock.domain.records import Host, SmokeResult
from interlock.estate.settings import DEPLOY_ROOT, SERVICE, EstateHost, HostEnvironment, Settings
from interlock.estate.stack import postgres
from interlock.estate.stack.shop_databases import ENVIRONMENTS, database_of, make_shop_databases
from interlock.estate.world import image
from interlock.estate.world.sample import make_repository
from interlock.locations import PROJECT
from tests.build_tools import WORKER
from tests.estate_process import is_open, status_of, wait_until
from tests.ports import free_network

VERSIONS = ("1.0.0", "1.1.0", "1.1.1", "1.2.0", "1.3.0", "1.4.0", "1.5.0", "1.6.0")
GOOD = ("1.0.0", "1.1.0", "1.1.1", "1.3.0", "1.4.0", "1.5.0", "1.6.0")
ENVIRON = WORKER | {"PATH": f"{sys.prefix}/builds/bin:{os.environ['PATH']}"}
CATALOGUE = load_service(PROJECT / "include" / "catalogue", SERVICE)


class Built(NamedTuple):
    """A version as the service's own tool has built it."""

    version: str
    checkout: Path
    result: BuildResult


class Shop(NamedTuple):
    """A version that runs on a host."""

    url: str
    folder: Path
    environ: dict[str, str]

    def hook(self, name: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.folder / "bin" / name)]
        return subprocess.run(command, cwd=self.folder, env=self.environ, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def service() -> Service:
    return CATALOGUE.services[SERVICE]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Give what checks a version out, cleanly."""
    folder = tmp_path_factory.mktemp("source")
    make_repository(folder / "bike-shop.git")
    repository = open_repository((folder / "bike-shop.git").as_uri(), folder / "fetched.git")

    def make(version: str, name: str) -> Path:
        repository.checkout(repository.resolve(version).sha, folder / f"{version}-{name}")
        return folder / f"{version}-{name}"

    return make


@pytest.fixture(scope="module")
def built(checkout: Callable[[str, str], Path], service: Service) -> Callable[[str], Built]:
    """Give what builds a version as its catalogue entry says, once."""

    @cache
    def make(version: str) -> Built:
        folder = checkout(version, "built")
        return Built(version, folder, build(folder, service.build, environ=ENVIRON))

    return make


@pytest.fixture
def settings(server: Settings, tmp_path: Path) -> Iterator[Settings]:
    """The estate of a test, with new databases of the shop."""
    (tmp_path / "secrets").symlink_to(server.state / "secrets")
    made = Settings(state=tmp_path, network=free_network(), postgres_port=server.postgres_port)
    make_shop_databases(made)
    yield made
    with closing(postgres.connect(made)) as connection, connection.cursor() as cursor:
        for environment in ENVIRONMENTS:
            cursor.execute(f"DROP DATABASE {database_of(environment)} WITH (FORCE)")


@pytest.fixture
def shop(built: Callable[[str], Built], settings: Settings) -> Iterator[Callable[..., Shop]]:
    """Give what starts a version on a host of an environment, by its own hooks, after its change of the database."""
    started: list[Shop] = []

    def start(version: str, environment: HostEnvironment = "test", *, migrate: bool = True) -> Shop:
        number = len(started) + 1
        host = EstateHost(f"host-{number}", settings.address(environment, number), environment)
        root = settings.host_folder(host.name) / DEPLOY_ROOT
        shutil.copytree(built(version).result.output, root / "releases" / version)
        image.configure(settings, host)
        path = f"{sys.prefix}/bin:{ENVIRON['PATH']}"  # a host has another Python than builds have
        environ = {**ENVIRON, "PATH": path, "INTERLOCK_SHARED": str(root / "shared")}
        made = Shop(f"http://{host.address}:{settings.service_port}", root / "releases" / version, environ)
        started.append(made)
        if migrate and (made.folder / "bin/migrate").exists():
            assert made.hook("migrate").returncode == 0
        ran = made.hook("start")
        assert ran.returncode == 0, ran.stderr
        return made

    yield start
    for one in started:
        one.hook("stop")


def tree_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_version_builds_and_its_unit_tests_pass(built: Callable[[str], Built], version: str) -> None:
    rows = junit_rows(built(version).result.junit)
    assert len(rows) >= 35
    assert [row for row in rows if row.status != "passed"] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_two_builds_of_one_commit_give_one_digest(
    built: Callable[[str], Built], checkout: Callable[[str, str], Path], tmp_path: Path, version: str
) -> None:
    again = checkout(version, "in another folder")
    environ = {**ENVIRON, "HOME": str(tmp_path), "TZ": "Asia/Tokyo"}
    subprocess.run(["make", "build"], cwd=again, env=environ, check=True, capture_output=True, umask=0o077)
    pack(built(version).result.output, tmp_path / "first.tar.gz")
    pack(again / "build" / "bundle", tmp_path / "second.tar.gz")
    assert sha256_of((tmp_path / "first.tar.gz").read_bytes()) == sha256_of((tmp_path / "second.tar.gz").read_bytes())


@pytest.mark.parametrize("version", GOOD)
def test_good_version_covers_every_file(built: Callable[[str], Built], version: str) -> None:
    coverage = built(version).result.coverage
    assert coverage
    assert [row for row in coverage_rows(coverage) if row.percent is not None and row.percent < 85] == []


def licences(built: Built, folder: Path) -> dict[str, str]:
    bom = bill_of_materials(
        built.result.output, name=SERVICE, version=built.version, commit="c" * 40, sha256="d" * 64, at=datetime.now(UTC)
    )
    return {row.name: row.licence for row in component_rows(bom)}


@pytest.mark.parametrize("version", GOOD)
def test_good_version_brings_one_component_with_an_allowed_licence(
    built: Callable[[str], Built], tmp_path: Path, version: str
) -> None:
    found = licences(built(version), tmp_path)
    assert list(found) == ["PyJWT"]
    assert set(found.values()) <= set(CATALOGUE.policy.thresholds.allowed_licences)


@pytest.mark.parametrize("version", GOOD)
def test_good_version_passes_its_integration_suite(
    checkout: Callable[[str, str], Path], shop: Callable[..., Shop], service: Service, version: str
) -> None:
    clean = checkout(version, "for its suite")
    run = run_suite(clean, service.suites["integration"], base_url=shop(version).url, environ=ENVIRON)
    rows = junit_rows(run.junit)
    assert len(rows) >= 4
    assert [row for row in rows if row.status != "passed"] == []


def test_the_book_keeps_every_ticket_whatever_becomes_of_a_release(
    shop: Callable[..., Shop], settings: Settings
) -> None:
    def tickets(environment: HostEnvironment = "production", columns: str = "name, price") -> list[tuple[str, Decimal]]:
        with closing(postgres.connect(settings, database_of(environment))) as opened, opened.cursor() as cursor:
            cursor.execute(f"SELECT {columns} FROM tickets ORDER BY number")
            return list(cursor.fetchall())

    old = shop("1.4.0", "production")
    book(old, "Ada")
    new = shop("1.5.0", "production", migrate=False)

    rehearsed = shop("1.5.0", "test", migrate=False)
    assert rehearsed.hook("restore_copy").returncode == 0
    assert tickets("test") == tickets() == [("Ada", Decimal("39.00"))]
    assert rehearsed.hook("migrate").returncode == 0
    book(shop("1.4.0", "test", migrate=False), "Eve")
    book(rehearsed, "Eve")
    assert rehearsed.hook("migrate_back").returncode == 0
    assert tickets("test")[1:] == [("Eve", Decimal("39.00"))] * 2
    assert rehearsed.hook("restore_copy").returncode == 0
    assert tickets("test") == tickets(), "the next copy has nothing of the last one"

    for _ in range(2):
        assert new.hook("migrate").returncode == 0, "done again, it changes nothing"
    book(new, "Ben")
    book(old, "Cy")
    assert new.hook("migrate_back").returncode == 0
    book(old, "Dan")
    assert tickets() == [(name, Decimal("39.00")) for name in ("Ada", "Ben", "Cy", "Dan")]

    assert new.hook("migrate").returncode == 0
    last = shop("1.6.0", "production")
    book(new, "Flo")
    book(last, "Gus")
    assert tickets(columns="name, cents") == [(name, 3900) for name in ("Ada", "Ben", "Cy", "Dan", "Flo", "Gus")]
    with pytest.raises(urllib.error.HTTPError, match="500"):
        book(old, "Hal")


def book(shop: Shop, name: str) -> None:
    """Book a repair as a customer, and look at the ticket."""
    form = urllib.parse.urlencode({"repair": "brakes", "name": name}).encode()
    with urllib.request.urlopen(f"{shop.url}/repairs", data=form, timeout=10) as answer:
        page = answer.read().decode()
    assert "Repair ticket no. " in page
    assert "€ 39.00" in page


def test_1_2_0_has_faults_that_only_quality_review_finds(
    built: Callable[[str], Built],
    checkout: Callable[[str, str], Path],
    shop: Callable[..., Shop],
    service: Service,
    tmp_path: Path,
) -> None:
    made, running, clean = built("1.2.0"), shop("1.2.0"), checkout("1.2.0", "for its suite")
    assert status_of(f"{running.url}/health") == 200
    assert running.hook("validate").returncode == 0
    suite = run_suite(clean, service.suites["integration"], base_url=running.url, environ=ENVIRON)
    assert [row.name for row in junit_rows(suite.junit) if row.status != "passed"] == [
        "test_two_of_one_bike_cost_twice_as_much"
    ]
    assert set(licences(made, tmp_path)) == {"PyJWT", "text-unidecode"}
    assert licences(made, tmp_path)["text-unidecode"] not in CATALOGUE.policy.thresholds.allowed_licences
    assert made.result.coverage
    low = [row.file for row in coverage_rows(made.result.coverage) if row.percent is not None and row.percent < 60]
    assert [Path(file).name for file in low] == ["stock.py"]


def test_1_2_0_makes_every_eighth_customer_wait_for_the_warehouse(shop: Callable[..., Shop]) -> None:
    url = f"{shop('1.2.0').url}/"
    seconds = []
    for _ in range(9):
        begun = time.monotonic()
        assert status_of(url) == 200
        seconds.append(time.monotonic() - begun)
    assert min(seconds[0], seconds[8]) >= 1.5  # it has slept that long; the others took what this machine took


def smoke_at(running: Shop, service: Service) -> dict[str, SmokeResult]:
    address = running.url.removeprefix("http://").partition(":")[0]
    host = Host(instance_id="i-00000001", name="host", address=address, zone="eu-central-1a")
    results = asyncio.run(smoke([host], service.smoke, service.health.port))
    return {result.path: result for result in results}


def test_1_1_0_sells_bikes_in_both_environments(shop: Callable[..., Shop], service: Service) -> None:
    for environment in ("test", "production"):
        assert all(result.passed for result in smoke_at(shop("1.1.0", environment), service).values())


def test_1_3_0_is_well_on_test_and_breaks_in_production(shop: Callable[..., Shop], service: Service) -> None:
    assert all(result.passed for result in smoke_at(shop("1.3.0", "test"), service).values())
    running = shop("1.3.0", "production")
    found = smoke_at(running, service)
    assert [path for path, result in found.items() if not result.passed] == ["/bikes"]
    assert "500" in found["/bikes"].found
    assert running.hook("validate").returncode == 0
    log = Path(running.environ["INTERLOCK_SHARED"]) / "shop.log"
    assert "ValueError: not enough values to unpack" in log.read_text()


def test_release_stays_as_it_was_built(built: Callable[[str], Built], shop: Callable[..., Shop]) -> None:
    running = shop("1.1.0")
    assert status_of(f"{running.url}/bikes") == 200
    assert running.hook("start").returncode == 0
    assert running.hook("stop").returncode == 0
    assert tree_of(running.folder) == tree_of(built("1.1.0").result.output)


def test_health_names_version_and_commit(checkout: Callable[[str, str], Path], shop: Callable[..., Shop]) -> None:
    running = shop("1.1.0")
    with urllib.request.urlopen(f"{running.url}/health") as answer:
        health = json.load(answer)
    clean = checkout("1.1.0", "as it was committed")
    head = subprocess.run(["git", "-C", clean, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    assert health == {"status": "ok", "version": "1.1.0", "commit": head.stdout.strip()}


def test_another_version_takes_over_by_the_hooks_of_both(
    shop: Callable[..., Shop], built: Callable[[str], Built]
) -> None:
    old = shop("1.0.0")
    folder = old.folder.parent / "1.1.0"
    shutil.copytree(built("1.1.0").result.output, folder)
    new = old._replace(folder=folder)
    assert new.hook("validate").returncode != 0
    assert old.hook("stop").returncode == 0
    assert new.hook("start").returncode == 0
    assert new.hook("validate").returncode == 0
    assert old.hook("validate").returncode != 0
    assert "1.1.0" in old.hook("validate").stderr


def test_shop_serves_eight_customers_at_once_without_an_error(shop: Callable[..., Shop]) -> None:
    running = shop("1.1.0")
    paths = ["/", "/repairs", "/bikes", "/static/shop.css"] * 50
    with ThreadPoolExecutor(8) as customers:
        assert set(customers.map(lambda path: status_of(running.url + path), paths)) == {200}


def test_answers_that_have_begun_are_finished_before_the_stop(shop: Callable[..., Shop]) -> None:
    running = shop("1.2.0")  # its home page asks the warehouse
    address = running.url.removeprefix("http://").partition(":")[0]
    warehouse = socket.create_server((f"{address.rpartition('.')[0]}.2", image.WAREHOUSE_PORT))
    with warehouse, ThreadPoolExecutor(2) as people:
        asked = people.submit(status_of, f"{running.url}/")
        question, _ = warehouse.accept()
        stopped = people.submit(running.hook, "stop")
        wait_until(lambda: not is_open(address, CATALOGUE.services[SERVICE].health.port), "the closed door")
        question.close()
        warehouse.close()
        assert asked.result() == 200
        assert stopped.result().stdout == "bike-shop stopped after SIGTERM\n"
