"""The rehearsal of a release's database changes: on a real host of test, against a real PostgreSQL.

The host runs the programs and both versions. Where the ledger says what production runs, and that the hosts of test may
be changed, is what other tests are about.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from interlock.adapters.permits.issuer import Admission
from interlock.domain.catalogue import Service, ServiceCatalogue
from interlock.domain.errors import PolicyViolation, QualityRejected
from interlock.domain.quality.rows import TestRow, rows_as_json
from interlock.domain.records import Artifact, AssetReport, MigrationRehearsal, RunningRelease, SuiteRuns
from interlock.domain.runbook.rehearsal import digest_of, migrating
from interlock.estate.settings import LOOPBACK, Settings
from interlock.estate.stack import postgres
from interlock.stages.runbook import rehearsal
from interlock.stages.runtime import permits, resources
from interlock.stages.strategies import rolling
from tests.deployments import ADMITTED
from tests.factories import releases
from tests.running_task import running_task
from tests.sshd import Fleet, make_release, sshd_fleet

_PSQL = """#!/bin/sh
[ -n "$INTERLOCK_STEP" ] || exit 0
. "$INTERLOCK_SHARED/env"
"$PSQL" -q -1 -v ON_ERROR_STOP=1 "$DSN" <<'SQL'
{0}
SQL
"""
RESTORE = (
    "DROP TABLE IF EXISTS bikes, orders; CREATE TABLE bikes (name text PRIMARY KEY, price integer);"
    "INSERT INTO bikes SELECT 'bike-' || n, n FROM generate_series(1, 50) AS n;"
)
EXPAND = "ALTER TABLE bikes ADD COLUMN cents integer; CREATE TABLE orders (number serial);"
BACK = "ALTER TABLE bikes DROP COLUMN cents; DROP TABLE orders;"
_numbers = itertools.count(1)


class Shop:
    """A service whose production runs 1.0.0, and a release of 1.1.0 that has come as far as its artifact."""

    def __init__(self, server: Settings, fleet: Fleet, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.server, self.fleet, self.folder = server, fleet, folder
        self.database = f"rehearsed_{next(_numbers)}"
        self.password = (postgres.secrets_folder(server) / "postgres_owner").read_text().strip()
        self.production = [RunningRelease(host="10.0.0.1", release=None)]
        self.known: list[Any] = []
        self.suite: Callable[[], list[str]] = list
        connections: dict[str, dict[str, Any]] = {
            resources.ARTIFACTS: {"conn_type": "fs", "extra": {"path": str(folder / "store")}},
            "shop_test_db": {
                "conn_type": "postgres",
                "host": LOOPBACK,
                "port": server.postgres_port,
                "login": postgres.OWNER,
                "password": self.password,
                "schema": self.database,
            },
        }
        for name, connection in connections.items():
            patch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
        for room, name, value in (
            (rolling, "what_runs", lambda *_: tuple(self.production)),
            (rehearsal, "deployed_releases", lambda *_: tuple(self.known)),
            (rehearsal, "run_suites_in", self._suites),
            (permits, "admission_to_sandbox", self._admission),
            (resources, "login", lambda _: fleet.login),
        ):
            patch.setattr(room, name, value)
        shared = fleet.machines[0].root / "shared"
        shared.mkdir(exist_ok=True)
        dsn = f"postgresql://{postgres.OWNER}:{self.password}@{LOOPBACK}:{server.postgres_port}/{self.database}"
        (shared / "env").write_text(f"DSN='{dsn}'\nPSQL='{postgres.program('psql')}'\n")

    @contextmanager
    def _admission(self, *_: Any) -> Iterator[Admission]:
        yield ADMITTED

    def _suites(self, *_: Any) -> SuiteRuns:
        """Run what the test has as the suite of the version before, with the name of each test that fails."""
        failed = self.suite()
        usual = {"suite": "s", "classname": "shop", "seconds": 0}
        rows = [TestRow.model_validate({**usual, "name": name, "status": "failed"}) for name in failed]
        rows.append(TestRow.model_validate({**usual, "name": "is_there", "status": "passed"}))
        return SuiteRuns(tests=resources.store().put_bytes(rows_as_json(rows), "rows.json"), logs={})

    def built(self, version: str, forward: str = "", back: str = "", restore: str = RESTORE) -> Artifact:
        """Build a version, with its programs."""
        programs = {"AfterInstall": forward, "BeforeInstall": back, "ValidateService": restore}
        made = make_release(
            self.fleet, self.folder, version, hooks={event: _PSQL.format(sql) for event, sql in programs.items()}
        )
        bundle = resources.store().put_file(made.bundle, "bundle.tar.gz")
        changes = {"service": "shop", "version": version, "commit": made.commit, "bundle": bundle}
        return releases.artifact().model_copy(update=changes)

    def runs(self, version: str) -> None:
        """Have production run a version that a release brought there."""
        artifact = self.built(version)
        self.production = [RunningRelease(host="10.0.0.1", release=artifact.release, version=version)]
        self.known.append(
            SimpleNamespace(
                environment="production",
                release=artifact.release,
                version=version,
                artifact=artifact,
                commit=releases.commit(),
                smoked=(("/health", "status 200"),),
                loaded=(),
            )
        )

    def rehearse(self, artifact: Artifact, **step: Any) -> MigrationRehearsal:
        plain = releases.service().model_dump(mode="json")
        plain |= {"name": "shop", "health": {"port": self.fleet.health_port, "timeout": "PT20S"}}
        plain["smoke"] = [{"path": "/health"}]
        usual = {"name": "migrate", "title": "Change it", "when": "before", "estimate": "PT1M", "migrates": "shop"}
        command = {"command": {"script": "hooks/AfterInstall.sh"}}
        back = {"command": {"script": "hooks/BeforeInstall.sh"}}
        plain["runbook"] = [{**usual, "do": command, "way_back": back, **step}]
        plain["databases"] = {"shop": {"connection": "shop_test_db", "restore": {"script": "hooks/ValidateService.sh"}}}
        service = Service.model_validate(plain)
        deploy_root = make_release(self.fleet, self.folder, "0.0.1").deploy_root
        test = service.environments["test"].model_copy(update={"deploy_root": deploy_root})
        service = service.model_copy(update={"environments": {**service.environments, "test": test}})
        policy, board, _ = resources.catalogue_of("bike-shop")
        catalogue = ServiceCatalogue(policy, board, service)
        assets = AssetReport(hosts={"test": self.fleet.hosts, "production": ()}, target_groups={}, tools={})
        self.steps = rehearsal.Copies(catalogue, "test", artifact, assets).steps
        return rehearsal.Rehearsal(catalogue, "test", releases.plan(), artifact, assets).carry_out()

    def run(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(postgres.connect(self.server, self.database)) as opened, opened.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall()) if cursor.description else []


@pytest.fixture
def shop(server: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    with sshd_fleet(tmp_path) as fleet, running_task("quality.rehearse_migrations", monkeypatch):
        made = Shop(server, fleet, tmp_path, monkeypatch)
        with closing(postgres.connect(server)) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {made.database}")
            yield made
            cursor.execute(f"DROP DATABASE {made.database} WITH (FORCE)")


def test_a_change_is_done_proven_taken_back_and_done_again(shop: Shop) -> None:
    shop.runs("1.0.0")
    looked: list[list[tuple[Any, ...]]] = []

    def suite() -> list[str]:
        looked.append(shop.run("SELECT count(cents) FROM bikes"))
        shop.run("INSERT INTO bikes (name, price) VALUES ('of the suite', 7)")
        return []

    shop.suite = suite
    artifact = shop.built("1.1.0", EXPAND, BACK)
    for _ in range(2):  # another try begins with a new copy
        found = shop.rehearse(artifact)
        assert (found.bundle, found.steps) == (artifact.bundle.sha256, digest_of(migrating(shop.steps)))
        (before,) = found.before
        assert (before.version, before.smoked, before.tests) == ("1.0.0", 1, 1)
        assert [(one.table, one.before, one.after) for one in found.tables] == [("public.bikes", 50, 51)]
        assert found.notes == ()
        assert [*found.seconds][:2] == ["restore shop", "migrate"]
        assert {"take back migrate", "migrate again"} <= found.seconds.keys()
        assert shop.run("SELECT count(*), count(cents) FROM bikes") == [(51, 0)], "test has the change"
    assert looked == [[(0,)]] * 2, "the suites of the version before ran on the schema after"


@pytest.mark.parametrize(
    ("forward", "back", "failing", "said"),
    [
        pytest.param("SELECT 1 / 0;", "", (), "was not done on the restored copy: .*division by zero", id="fails"),
        pytest.param("DELETE FROM bikes WHERE price < 9;", "", (), "had 50 rows and has 42", id="loses"),
        pytest.param("ALTER TABLE bikes DROP COLUMN price;", "", (), "takes away public.bikes.price", id="contracts"),
        pytest.param(EXPAND, BACK, ("sells",), "1.0.0, which production runs, does not work on the schema", id="old"),
        pytest.param(EXPAND, "SELECT 1 / 0;", (), "was not taken back on the restored copy", id="back-fails"),
        pytest.param(EXPAND, "DELETE FROM bikes WHERE price = 1;", (), "way back of shop loses rows", id="back-loses"),
        pytest.param(EXPAND, "SELECT 1;", (), "was not done again on the restored copy", id="not-again"),
    ],
)
def test_a_change_that_is_not_proven_is_refused_with_what_was_found(
    shop: Shop, forward: str, back: str, failing: tuple[str, ...], said: str
) -> None:
    shop.runs("1.0.0")
    shop.suite = lambda: list(failing)
    with pytest.raises(QualityRejected, match=said):
        shop.rehearse(shop.built("1.1.0", forward, back))


def test_a_contraction_is_refused_while_production_runs_what_needs_it_and_told_of_afterwards(shop: Shop) -> None:
    shop.runs("1.0.0")
    contracts = shop.built("1.1.0", "ALTER TABLE bikes DROP COLUMN price;")
    with pytest.raises(PolicyViolation, match=r"versions before 1\.0\.1 need, and 10\.0\.0\.1 of production runs 1"):
        shop.rehearse(contracts, works_from="1.0.1", way_back="none")
    found = shop.rehearse(contracts, works_from="1.0.0", way_back="none")
    assert found.notes == ("shop: public.bikes.price is taken away",)
    assert "take back migrate" not in found.seconds


def test_what_no_release_brought_to_production_cannot_be_tried(shop: Shop) -> None:
    artifact = shop.built("1.1.0", EXPAND, BACK)
    found = shop.rehearse(artifact)
    assert (found.before, found.notes) == ((), (rehearsal.NOTHING_RUNS,))
    shop.production = [RunningRelease(host="10.0.0.1", release="0.9.0-000000000000", version="0.9.0")]
    with pytest.raises(PolicyViolation, match=r"Production runs 0\.9\.0-000000000000, and by the ledger no release"):
        shop.rehearse(artifact)
