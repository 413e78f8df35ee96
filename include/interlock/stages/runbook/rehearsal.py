"""Rehearse the database changes of a release on a restored copy, before anybody is asked about it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic

from airflow.sdk import BaseHook

from interlock.adapters.hosts import smoke
from interlock.adapters.runbook.tables import read_tables
from interlock.domain.catalogue import PRODUCTION, ServiceCatalogue
from interlock.domain.catalogue.runbook_file import CommandStep
from interlock.domain.errors import PolicyViolation
from interlock.domain.ledger.kinds import MIGRATION_REHEARSED
from interlock.domain.outcome import rollback
from interlock.domain.outcome.deployments import DeployedRelease
from interlock.domain.quality.rows import TestRow, rows_from_json
from interlock.domain.records import (
    Artifact,
    AssetReport,
    MigrationRehearsal,
    RehearsedTable,
    RehearsedVersion,
    ReleasePlan,
    RunningRelease,
    StepDirection,
    TestDeployment,
)
from interlock.domain.runbook import rehearsal as rules
from interlock.domain.runbook.contract import refuse_contract
from interlock.domain.runbook.planning import planned_steps
from interlock.stages.environments.review import run_suites_in
from interlock.stages.runtime import permits, resources
from interlock.stages.runtime.taskflow import on_build_workers, stage_task
from interlock.stages.runtime.versions import deployed_releases
from interlock.stages.strategies import rolling

ENVIRONMENT = "test"
NOTHING_RUNS = "Production runs nothing that a release brought there, so no version before was tried."
_SAID = 500
"""So many of the last characters of what a program said a refusal quotes."""


@stage_task(
    task_display_name="Rehearse the database changes",
    evidence=MIGRATION_REHEARSED,
    execution_timeout=timedelta(hours=4),
    **on_build_workers(),
)
def rehearse_migrations(service: str, plan: ReleasePlan, artifact: Artifact, assets: AssetReport) -> MigrationRehearsal:
    """Change a restored copy of each database, prove that what production runs works on it, and take the change back.

    Test then has the copy with the change, for the quality review of the new version. Each try begins with a new copy.
    """
    catalogue = resources.catalogue_of(service)
    return Rehearsal(catalogue, ENVIRONMENT, plan, artifact, assets).carry_out()


def bring_databases(service: str, environment: str, artifact: Artifact, assets: AssetReport) -> None:
    """Give an environment between test and production a restored copy of each database, with the release's changes."""
    catalogue = resources.catalogue_of(service)
    if assets.hosts.get(environment):
        databases = Copies(catalogue, environment, artifact, assets)
        databases.restore()
        databases.change("forward")


class Copies:
    """The databases of an environment before production, and the release's changes of them."""

    def __init__(self, catalogue: ServiceCatalogue, environment: str, artifact: Artifact, assets: AssetReport) -> None:
        self.service, self.environment, self.artifact = catalogue.service, environment, artifact
        self.hosts = assets.hosts[environment]
        planned = planned_steps(self.service, self.hosts, rehearsal=True)
        self.steps = tuple(step.model_copy(update={"left_out": ""}) for step in planned if step.migrates)
        self.names = tuple(dict.fromkeys(step.migrates for step in self.steps if step.migrates))
        self.seconds: dict[str, float] = {}

    def restore(self) -> None:
        """Replace each database by a restored copy."""
        for name in self.names:
            with self.timed(f"restore {name}"):
                self._run(self.service.databases[name].restore, f"The restored copy of {name} was not made", "restore")

    def change(self, direction: StepDirection, round: int = 1) -> None:
        """Do the steps that change databases, or take them back in reverse order."""
        for step in self.steps if direction == "forward" else reversed(self.steps):
            action = step.action(direction)
            if action is not None and action.command is not None:
                back = direction == "back"
                again = "" if round == 1 else " again"
                with self.timed(f"{'take back ' if back else ''}{step.name}{again}"):
                    done = "taken back on" if back else f"done{again} on"
                    self._run(action.command, f"“{step.title}” was not {done} the restored copy")

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Note how long something takes."""
        began = monotonic()
        yield
        self.seconds[what] = round(monotonic() - began, 2)

    def _run(self, command: CommandStep, otherwise: str, key: str = "") -> None:
        """Run a program of the bundle on a host of the environment.

        :raises QualityRejected: it failed. :raises HostUnreachable: another try may go on, with a new copy.
        """
        from interlock.adapters.hosts import step_run  # not at the top: see rolling.py

        here = next((host for host in self.hosts if host.name == command.host), self.hosts[0])
        described = self.service.environments[self.environment]
        # Never the name of an earlier run, which the host would answer for: each try changes a new copy.
        seconds = int(command.timeout.total_seconds())
        program = step_run.Program(secrets.token_hex(16), command.script, seconds, command.runas)
        with (
            permits.admission_to_sandbox(self.service, self.environment) as admission,
            rolling.deployment_of(self.service, self.environment, self.artifact) as deployment,
        ):
            login = resources.login(described)
            run = asyncio.run(step_run.run_step(here, program, deployment, login=login, admission=admission))
        if not run.outcome:
            said = f" It said: {run.said.strip()[-_SAID:]}" if run.said.strip() else ""
            raise rules.rejected(f"{otherwise}: {here.name}: {run.why}.{said}", key)


class Rehearsal(Copies):
    """A rehearsal on test, with what production runs."""

    def __init__(
        self,
        catalogue: ServiceCatalogue,
        environment: str,
        plan: ReleasePlan,
        artifact: Artifact,
        assets: AssetReport,
    ) -> None:
        super().__init__(catalogue, environment, artifact, assets)
        self.plan, self.target_group = plan, assets.target_groups.get(environment)
        running = rolling.what_runs(catalogue, PRODUCTION, assets.hosts.get(PRODUCTION, ()))
        refuse_contract(self.steps, {PRODUCTION: running})
        self.before = releases_of(self.service.name, running)

    def carry_out(self) -> MigrationRehearsal:
        """Restore, change, prove what production runs, take back, compare, and change again."""
        contracts = any(step.works_from for step in self.steps)
        self.restore()
        first = self._look()
        self.change("forward")
        forward = self._look(first)
        notes = [] if self.before else [NOTHING_RUNS]
        for name in self.names:
            notes += rules.judge_forward(name, first[name], forward[name], contracts=contracts)
        proven = [self._prove(release, "on the schema after the change") for release in self.before]
        if all(step.way_back is not None for step in self.steps):
            before = self._look(first)
            self.change("back")
            after = self._look(first)
            for name in self.names:
                notes += rules.judge_back(name, first[name], forward[name], before[name], after[name])
            for release in self.before:
                self._prove(release, "after the change was taken back", suites=False)
            self.change("forward", round=2)
            again = self._look(first)
            for name in self.names:
                rules.judge_forward(name, after[name], again[name], contracts=contracts)
        last = self._look(first)
        return MigrationRehearsal(
            environment=self.environment,
            bundle=self.artifact.bundle.sha256,
            steps=rules.digest_of(self.steps),
            before=tuple(proven),
            tables=tuple(
                RehearsedTable(
                    database=name,
                    table=table,
                    before=rows.count,
                    after=last[name][table].count if table in last[name] else None,
                )
                for name in self.names
                for table, rows in first[name].items()
            ),
            notes=tuple(dict.fromkeys(notes)),
            seconds=self.seconds,
        )

    def _look(self, of: dict[str, rules.Tables] | None = None) -> dict[str, rules.Tables]:
        """Return what the tables of each database have."""
        found: dict[str, rules.Tables] = {}
        for name in self.names:
            connection = BaseHook.get_connection(self.service.databases[name].connection)
            found[name] = read_tables(connection, of[name] if of else None)
        return found

    def _prove(self, release: DeployedRelease, moment: str, *, suites: bool = True) -> RehearsedVersion:
        """Deploy what production runs to the environment, and send it its smoke requests; run its suites.

        :raises QualityRejected: it does not work.
        """
        with self.timed(f"{release.version} {moment}"):
            with permits.admission_to_sandbox(self.service, self.environment) as admission:
                results = rolling.deploy(
                    self.hosts,
                    self.service,
                    self.environment,
                    release.artifact,
                    target_group=self.target_group,
                    admission=admission,
                )
            if failed := [f"{one.host}: {one.error}" for one in results if one.outcome in ("failed", "untouched")]:
                raise rules.rejected(
                    f"{release.version}, which production runs, does not start {moment}: {'; '.join(failed)}."
                )
            checks = {(check.path, smoke.expectation(check)): check for check in self.service.smoke}
            described = rollback.limit_checks(self.service, release, checks)
            smoked = asyncio.run(smoke.smoke(self.hosts, described.smoke, described.health.port))
            tests: tuple[TestRow, ...] = ()
            rows = release.artifact.tests
            if suites:
                urls = tuple(f"http://{host.address}:{described.health.port}" for host in self.hosts)
                there = TestDeployment(environment=self.environment, results=results, base_urls=urls)
                at_its_commit = self.plan.model_copy(update={"commit": release.commit})
                rows = run_suites_in(self.service.name, at_its_commit, there).tests
                tests = rows_from_json(TestRow, resources.store().get_bytes(rows))
            rules.refuse_broken(release.version, smoked, tests, moment)
        passed = sum(one.status == "passed" for one in tests)
        return RehearsedVersion(
            release=release.release, version=release.version, smoked=len(smoked), tests=passed, rows=rows
        )


def releases_of(service: str, running: Sequence[RunningRelease]) -> tuple[DeployedRelease, ...]:
    """Return the releases that production's hosts run, as the ledger has them.

    :raises PolicyViolation: one runs what no release brought there, so its artifact is not known.
    """
    names = {host.release: host.version or "" for host in running if host.release}
    found = {name: _of_ledger(service, name, version) for name, version in names.items()}
    if unknown := sorted(name for name, release in found.items() if release is None):
        raise PolicyViolation(
            f"Production runs {', '.join(unknown)}, and by the ledger no release brought it there. It cannot be proven "
            "to work on the schema after the change of the database.",
            rule=rules.RULE,
            who=rules.WHO,
            next_step="first release a version that changes no database, then trigger this release again",
        )
    return tuple(release for release in found.values() if release is not None)


def _of_ledger(service: str, name: str, version: str) -> DeployedRelease | None:
    known = reversed(deployed_releases(service, version))
    return next((one for one in known if (one.environment, one.release) == (PRODUCTION, name)), None)
