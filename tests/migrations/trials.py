"""One trial: a pair of versions is rehearsed, and then released with a fault at one of its steps.

The ledger, the permits, the host, its programs and the databases are real ones, and the code that does a step and takes
it back is the product's. A task that is killed is one that ends at that point without doing anything further.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow.sdk.execution_time.context import set_current_context

from interlock.adapters.ledger.ledger import Ledger
from interlock.adapters.runbook.tables import read_tables
from interlock.adapters.signing.signing import load_signer
from interlock.domain.catalogue import Service
from interlock.domain.errors import HeldBack, HostUnreachable, QualityRejected, ReleaseError
from interlock.domain.ledger.kinds import ROLLOUT_FROZEN
from interlock.domain.records import BackOutPlan, RolloutPlan, StepDirection
from interlock.domain.runbook.planning import planned_steps
from interlock.domain.runbook.rehearsal import judge_back, judge_forward
from interlock.estate.settings import LOOPBACK, Settings
from interlock.estate.stack import postgres
from interlock.stages.runbook import once
from interlock.stages.runtime import permits
from tests import runbook_worker
from tests.factories import releases
from tests.sshd import Fleet, make_release
from tests.task_instance import task_instance

from . import alembic_runs
from .pairs import LOSSES, Pair, Sql, make_pair, statements_of_schema

FAULTS = (
    "none",
    "killed before the intent",
    "killed after the intent",
    "killed before the result",
    "program killed",
    "database session ended",
    "program fails",
    "refused",
    "verification fails",
    "way back killed before the intent",
    "way back killed after the intent",
    "way back killed before the result",
    "way back's program killed",
    "rehearsal: loss",
)
_POINTS = {"before the intent": "_once", "after the intent": "_act", "before the result": "_act"}
_HOOK = """#!/bin/sh
[ -n "$INTERLOCK_STEP" ] || exit 0
. "$INTERLOCK_SHARED/env"
echo $$ >"$INTERLOCK_SHARED/pid"
exec {0}
"""
_ENV_PY = """
from alembic import context
context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
"""


class Killed(BaseException):
    """A task ends here, as if it had been killed."""


class Trial:
    """A pair, its database, and the release that changes it."""

    def __init__(self, server: Settings, ledger: Ledger, fleet: Fleet, folder: Path, seed: str, number: int) -> None:
        self.server, self.ledger, self.fleet, self.number = server, ledger, fleet, number
        self.of = random.Random(f"{seed}/{number}/trial")
        self.fault = FAULTS[number % len(FAULTS)]
        self.tool = ("sql", "sql", "alembic")[number // len(FAULTS) % 3]
        self.loss = LOSSES[number // len(FAULTS) % len(LOSSES)] if self.fault == "rehearsal: loss" else ""
        self.pair: Pair = make_pair(f"{seed}/{number}", self.loss)
        self.database, self.folder = f"pair_{number}", folder / f"{number}"
        self.folder.mkdir()
        self.password = (postgres.secrets_folder(server) / "postgres_owner").read_text().strip()
        self.shared = fleet.machines[0].root / "shared"
        self.shared.mkdir(exist_ok=True)

    def run(self) -> str:
        """Return what is wrong; empty: nothing."""
        with self._databases():
            wrong = self._rehearse()
            return wrong if wrong or self.loss else self._release()

    # --- the databases -----------------------------------------------------------------------------------------------

    @contextmanager
    def _databases(self) -> Iterator[None]:
        with closing(postgres.connect(self.server)) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {self.database}")
            try:
                with self._session(self.database) as sql:
                    for statement in statements_of_schema(self.pair):
                        sql(statement)
                    for table in self.pair.tables:
                        for id in range(1, self.of.randint(5, 40)):
                            self.pair.insert(sql, table, id, new=False)
                cursor.execute(f"CREATE DATABASE {self.database}_copy TEMPLATE {self.database}")
                yield
            finally:
                for name in (self.database, f"{self.database}_copy"):
                    cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    @contextmanager
    def _session(self, database: str) -> Iterator[Sql]:
        with closing(postgres.connect(self.server, database)) as connection, connection.cursor() as cursor:

            def sql(statement: str, *values: Any) -> list[tuple[Any, ...]]:
                cursor.execute(statement, values or None)
                return list(cursor.fetchall()) if cursor.description else []

            yield sql

    # --- the programs of the release ---------------------------------------------------------------------------------

    def _statements(self, direction: StepDirection) -> list[str]:
        found = list(self.pair.forward if direction == "forward" else self.pair.back)
        if direction == "forward" and self.fault == "program fails":
            found.append("SELECT 1 / 0")
        waits = "back" if self.fault.startswith("way back") else "forward"
        if direction == waits and ("program killed" in self.fault or "session ended" in self.fault):
            # Long only in the release, of which the rehearsal's copy knows nothing.
            wait = f"SELECT pg_sleep(CASE WHEN current_database() = '{self.database}' THEN 30 ELSE 0 END)"
            found.insert(self.of.randint(1, len(found)), wait)
        return found

    def _hooks(self) -> dict[str, str]:
        """Return the programs: forward as AfterInstall, and back as BeforeInstall."""
        if self.tool == "sql":
            files = {}
            for direction in ("forward", "back"):
                files[direction] = self.folder / f"{direction}.sql"
                files[direction].write_text(";\n".join(self._statements(direction)) + ";\n")
            psql = postgres.program("psql")
            return {
                event: _HOOK.format(f'"{psql}" -q -1 -v ON_ERROR_STOP=1 -f "{files[direction]}" "$PAIR_DSN"')
                for event, direction in (("AfterInstall", "forward"), ("BeforeInstall", "back"))
            }
        (self.folder / "versions").mkdir()
        (self.folder / "env.py").write_text(_ENV_PY)
        (self.folder / "script.py.mako").write_text("")
        (self.folder / "alembic.ini").write_text(f"[alembic]\nscript_location = {self.folder}\n")
        upgrade, downgrade = self._statements("forward"), self._statements("back")
        (self.folder / "versions" / "one.py").write_text(
            "from alembic import op\nrevision, down_revision = 'one', None\n"
            f"def upgrade():\n    for one in {upgrade!r}:\n        op.get_bind().exec_driver_sql(one)\n"
            f"def downgrade():\n    for one in {downgrade!r}:\n        op.get_bind().exec_driver_sql(one)\n"
        )
        run = f'"{sys.executable}" -S "{alembic_runs.__file__}" "{self.server.state / "alembic"}" "{self.folder}"'
        return {
            event: _HOOK.format(f'{run} {direction} "$PAIR_DSN" "$INTERLOCK_SHARED/pid"')
            for event, direction in (("AfterInstall", "forward"), ("BeforeInstall", "back"))
        }

    def _environment(self, shared: Path, database: str) -> None:
        dsn = f"postgresql://{postgres.OWNER}:{self.password}@{LOOPBACK}:{self.server.postgres_port}/{database}"
        shared.mkdir(exist_ok=True)
        (shared / "env").write_text(f"export PAIR_DSN='{dsn}'\n")

    # --- the rehearsal -----------------------------------------------------------------------------------------------

    def _rehearse(self) -> str:
        """Rehearse on the copy as the product does; say what was judged wrongly."""
        self.hooks = self._hooks()
        copy, pair = f"{self.database}_copy", self.pair
        kept = dict(pair.kept)
        self._environment(self.folder / "shared", copy)
        connection = SimpleNamespace(
            conn_id="copy",
            host=LOOPBACK,
            port=self.server.postgres_port,
            login=postgres.OWNER,
            password=self.password,
            schema=copy,
            extra_dejson={},
        )
        try:
            first = read_tables(connection)
            if self._program("AfterInstall"):
                return "" if self.fault == "program fails" else f"the program failed on the copy: {self.said}"
            forward = read_tables(connection, first)
            judge_forward("shop", first, forward, contracts=False)
            with self._session(copy) as sql:
                pair.works(sql, new=False)
            before = read_tables(connection, first)
            if self._program("BeforeInstall"):
                return f"the way back failed on the copy: {self.said}"
            judge_back("shop", first, forward, before, read_tables(connection, first))
        except QualityRejected as error:
            return "" if self.loss else f"the rehearsal refused a good change: {error}"
        finally:
            pair.kept = kept
        return f"the rehearsal did not see that it {self.loss}" if self.loss else ""

    def _program(self, event: str) -> int:
        """Run a program of the release beside the host, on the copy."""
        environment = {**os.environ, "INTERLOCK_STEP": "rehearsal", "INTERLOCK_SHARED": str(self.folder / "shared")}
        ran = subprocess.run(
            ["/bin/sh", "-c", self.hooks[event]], env=environment, capture_output=True, text=True, check=False
        )
        self.said = ran.stderr.strip()[-400:]
        return ran.returncode

    # --- the release -------------------------------------------------------------------------------------------------

    def _release(self) -> str:
        """Do the step with the fault, and what follows from it; say what is wrong afterwards."""
        self._environment(self.shared, self.database)
        self._freeze()
        point = self.fault.removeprefix("way back ").removeprefix("killed ")
        back_is_hit = self.fault.startswith("way back")
        done = self._step("forward", "" if back_is_hit else point)
        with self._session(self.database) as sql:
            if self.pair.is_forward(sql) is not done:
                return f"after the step, the change is {self.pair.is_forward(sql)} instead of {done}"
            if done:  # the waves are under way: both versions run
                self.pair.works(sql, new=True)
            self.pair.works(sql, new=False)
            if done and (back_is_hit or self.fault == "verification fails"):
                taken = self._step("back", point if back_is_hit else "")
                if self.pair.is_forward(sql) is taken:
                    return f"after the way back, the change is {self.pair.is_forward(sql)}"
                self.pair.works(sql, new=False)
            elif not done and self.fault != "refused":
                self._step("back", "")
                if self.pair.is_forward(sql) is not False:
                    return "after the way back of a step that failed, the change is not gone"
                self.pair.works(sql, new=False)
            lost = self.pair.lost(sql)
        return f"lost: {', '.join(lost[:5])}" if lost else ""

    def _freeze(self) -> None:
        deployment = make_release(self.fleet, self.folder, f"1.1.{self.number}", hooks=self.hooks)
        plain = releases.service().model_dump(mode="json")
        plain |= {"name": "shop", "health": deployment.health.model_dump(mode="json")}
        plain["environments"]["production"]["deploy_root"] = deployment.deploy_root
        command = {"command": {"script": "hooks/AfterInstall.sh", "timeout": "PT60S"}}
        back = {"command": {"script": "hooks/BeforeInstall.sh", "timeout": "PT60S"}}
        step = {"name": "migrate", "title": "Migrate", "when": "before", "estimate": "PT1M", "migrates": "shop"}
        plain["runbook"] = [{**step, "do": command, "way_back": back}]
        plain["databases"] = {"shop": {"connection": "copy", "restore": {"script": "hooks/ValidateService.sh"}}}
        service = Service.model_validate(plain)
        (host,) = self.fleet.hosts
        self.plan: RolloutPlan = releases.rollout(
            service="shop",
            commit=deployment.commit,
            bundle=releases.blob().model_copy(update={"sha256": deployment.sha256}),
            waves=((host,),),
            target_group=None,
            back_out=BackOutPlan(releases={host.address: None}, versions={host.address: None}, on_hosts=True),
            runbook=planned_steps(service, [host], rehearsal=False),
        )
        self.run_id = f"manual__{self.database}"
        key = (self.server.state / "trial_key").as_uri()
        frozen = {**self.plan.to_xcom(), "digest": self.plan.digest}
        chain = f"release/release_shop/{self.run_id}"
        entry = self.ledger.append(chain, ROLLOUT_FROZEN, frozen, actor="freeze_plan", key=ROLLOUT_FROZEN)
        self.ledger.sign_head(chain, load_signer(key), seals=entry)
        runbook_worker.replace(
            {
                "state": str(self.server.state),
                "port": self.server.postgres_port,
                "key": key,
                "login": json.loads(json.dumps(asdict(self.fleet.login), default=str)),
                "bundle": str(deployment.bundle),
                "service": service.model_dump(mode="json"),
                "plan": self.plan.to_xcom(),
            }
        )

    def _step(self, direction: StepDirection, point: str) -> bool:
        """Do the step, as Airflow would: a task that was killed, or whose host was silent, is tried again."""
        for attempt in (1, 2, 3):
            hit = point if attempt == 1 else ""
            try:
                with _dying(hit), _refusing(hit), self._killing(hit):
                    return self._try(direction, attempt)
            except (Killed, HostUnreachable):
                continue
            except ReleaseError:
                return False
        return False

    def _try(self, direction: StepDirection, attempt: int) -> bool:
        task = "implementation.step_1" if direction == "forward" else "verification.back_step_1"
        context: Any = {
            "ti": task_instance("release_shop", task, try_number=attempt),
            "dag_run": SimpleNamespace(dag_id="release_shop", run_id=self.run_id, run_after=datetime.now(UTC)),
            "params": {},
        }
        with set_current_context(context):
            return once.carry_out("shop", self.plan, self.plan.steps[0], direction).outcome == "done"

    @contextmanager
    def _killing(self, point: str) -> Iterator[None]:
        """Kill the program, or its session, when it is in the middle of its change."""
        if point not in ("program killed", "'s program killed", "database session ended"):
            yield
            return
        over = threading.Event()

        def kill() -> None:
            with self._session("postgres") as sql:
                while not over.wait(0.1):
                    where = "FROM pg_stat_activity WHERE datname = %s AND query LIKE '%%pg_sleep(CASE%%'"
                    if not sql(f"SELECT pid {where} AND state = 'active'", self.database):
                        continue
                    if "session" not in point:
                        with suppress(ProcessLookupError):
                            os.kill(int((self.shared / "pid").read_text()), 9)
                    sql(f"SELECT pg_terminate_backend(pid) {where}", self.database)
                    return

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            yield
        finally:
            over.set()
            killer.join()

    def close(self) -> None:
        """Remove what the trial left on the host and in its folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def _dying(point: str) -> Iterator[None]:
    name = _POINTS.get(point, "")
    if not name:
        yield
        return
    real = getattr(once, name)

    def dying(*given: Any) -> Any:
        if point == "before the result":
            real(*given)
        raise Killed

    setattr(once, name, dying)
    try:
        yield
    finally:
        setattr(once, name, real)


@contextmanager
def _refusing(point: str) -> Iterator[None]:
    """Refuse the permit, as an emergency stop does."""
    real = permits.refuse_unproven

    def refuse(*_: Any, **__: Any) -> None:
        raise HeldBack("No permit: Emergency stop: everything.")

    if point == "refused":
        permits.refuse_unproven = refuse
    try:
        yield
    finally:
        permits.refuse_unproven = real


def tally(counts: Mapping[str, int]) -> str:
    """Return a line for each kind of trial."""
    return "\n".join(f"  {count:5} {kind}" for kind, count in sorted(counts.items()))


def seconds_since(began: float) -> str:
    """Return for how long something has run."""
    return f"{time.monotonic() - began:.0f} s"
