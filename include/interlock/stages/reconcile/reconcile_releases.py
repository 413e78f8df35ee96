"""The Dag ``reconcile``: compares the chains of releases with Airflow's record of their runs.

Airflow is read before the ledger, because each step is recorded before Airflow shows it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING

from interlock.adapters.airflow.rest_api import AirflowApi
from interlock.adapters.airflow.watched_run import WatchedRun, watched_run
from interlock.adapters.catalogue.catalogue import dags_of_catalogue, load_catalogue
from interlock.domain.board.questions import asks_people
from interlock.domain.catalogue import Catalogue
from interlock.domain.change.amended import what_voids
from interlock.domain.dag_names import EMERGENCY_STOP, RELEASES, ROLLBACKS, TRAINS, dags_of_service
from interlock.domain.errors import CatalogueError, LedgerBroken, TransientError
from interlock.domain.ledger import airflow_record, interventions
from interlock.domain.ledger import runs as ledger_runs
from interlock.domain.ledger.airflow_record import RunSeen
from interlock.domain.ledger.chain import INSTALLATION, Entry, release_chain
from interlock.domain.ledger.findings import Finding
from interlock.domain.ledger.kinds import ATTEMPT_REFUSED, BREAK_GLASS_USED, RELEASE_CLOSED
from interlock.domain.ledger.runs import CHAINS
from interlock.locations import catalogue_folder
from interlock.stages.runtime import resources
from interlock.stages.runtime.taskflow import stage_task

from .findings import record_findings
from .reconcile_overtakings import find_missed_overtakings
from .watched_releases import WATCH_AFTER_END, watched_chains

if TYPE_CHECKING:
    from interlock.adapters.ledger.ledger import Ledger

log = logging.getLogger(__name__)


@stage_task(task_display_name="Compare releases with Airflow's record")
def check_releases() -> int:
    """Compare each release that is in progress or ended recently with Airflow's records; return the new findings.

    Detects tasks that were marked or cleared manually, missing answers, edited results, deleted runs, paused Dags,
    foreign Dags with names of Interlock's Dags, edited connections, a changed catalogue, and releases that should have
    overtaken others.
    """
    now = datetime.now(UTC)
    catalogue = _load_catalogue()
    services = {dag_id: name for name in (catalogue.services if catalogue else ()) for dag_id in dags_of_service(name)}
    with resources.ledger() as ledger, resources.airflow_api() as api:
        ours, seen = _find_own_dags(ledger), api.dags()
        runs = _find_releases(ledger, api, ours, now)
        found, passing = _compare_releases(_Look(ledger, api, catalogue, runs), runs, services)
        paused = [dag_id for dag_id in (*services, EMERGENCY_STOP) if dag_id in seen and seen[dag_id].is_paused]
        found += _find_paused_dags(api, paused, now - WATCH_AFTER_END)
        found += find_missed_overtakings(ledger, api, {*services.values()}, runs, now)
        found += airflow_record.check_replaced_dags(
            {one: seen[one].place for one in ours if one in seen}, resources.home(), runs
        )
        new = record_findings(ledger, found)
    if passing is not None:  # all others were checked; Airflow tries this again
        raise passing
    return new


def _find_own_dags(ledger: Ledger) -> frozenset[str]:
    """Return Interlock's own Dags, according to the catalogue's files (also broken ones) and the ledger."""
    released = (run for chain in ledger.chains() if (run := ledger_runs.run_of(chain)))
    return dags_of_catalogue(catalogue_folder()) | {dag_id for dag_id, _ in released}


def _compare_releases(
    look: _Look, runs: Iterable[tuple[str, str]], services: Mapping[str, str]
) -> tuple[list[Finding], TransientError | None]:
    """Return the findings about releases, and a transient error if one could not be checked for now.

    A release that cannot be checked at all is a finding. The others are checked nevertheless.

    :param services: the service of each Dag.
    """
    found: list[Finding] = []
    passing: TransientError | None = None
    for dag_id, run_id in runs:
        try:
            found += _compare_release(look, dag_id, run_id, services.get(dag_id))
        except TransientError as error:
            log.warning("%s, run %s, could not be checked now: %s", dag_id, run_id, error)
            passing = error
        except Exception as error:  # the other releases are checked nevertheless
            log.exception("%s, run %s, could not be checked", dag_id, run_id)
            found.append(airflow_record.describe_failed_check(dag_id, run_id, error))
    return found, passing


class _Look:
    """What all releases of a look have in common, read once."""

    def __init__(
        self, ledger: Ledger, api: AirflowApi, catalogue: Catalogue | None, runs: Iterable[tuple[str, str]]
    ) -> None:
        self.ledger, self.api, self.catalogue = ledger, api, catalogue
        every = ledger.began(CHAINS)
        self._began = {chain: at for run in runs if (at := every.get(chain := release_chain(*run)))}

    def began(self, chain: str) -> datetime:
        """Return when a chain began; without one, an instant after which nothing matters."""
        return self._began.get(chain) or datetime.now(UTC)

    @cached_property
    def accounted(self) -> list[interventions.Refusal]:
        """What was refused or done by break-glass access, which is a finding already."""
        kinds = (ATTEMPT_REFUSED, BREAK_GLASS_USED)
        entries = (entry for kind in kinds for entry in self.ledger.entries(INSTALLATION, kind=kind))
        return [interventions.refusal(entry.payload) for entry in entries]

    @cached_property
    def edits(self) -> tuple[interventions.AuditRow, ...]:
        """Edits of connections since the first of the releases began."""
        first = min(self._began.values(), default=datetime.now(UTC))  # or none began
        return self.api.audit_log(first, event_pattern="connection")


def _load_catalogue() -> Catalogue | None:
    """Return the catalogue; none while policy.yaml or board.yaml is broken. Everything else is checked nevertheless."""
    try:
        return load_catalogue(catalogue_folder())
    except CatalogueError as error:
        log.error("Releases could not be compared with the catalogue, because the catalogue is invalid: %s", error)
        return None


def _find_releases(ledger: Ledger, api: AirflowApi, ours: Collection[str], now: datetime) -> list[tuple[str, str]]:
    """Return Dag and run of the releases to check, from the ledger and Airflow. Dags of other teams are left out."""
    runs = [run for beginning in (RELEASES, ROLLBACKS, TRAINS) for run in api.runs(beginning, now - WATCH_AFTER_END)]
    known = [run for chain in watched_chains(ledger, now) if (run := ledger_runs.run_of(chain))]
    return list(dict.fromkeys((*known, *(run for run in runs if run[0] in ours))))


def _compare_release(look: _Look, dag_id: str, run_id: str, service: str | None) -> Iterator[Finding]:
    """Yield what contradicts the chain of a release. check_ledger reports broken chains."""
    chain = release_chain(dag_id, run_id)
    now = datetime.now(UTC)
    record = watched_run(look.api, dag_id, run_id, look.began(chain) - interventions.MAX_CLOCK_SKEW)
    seen = _seen(look.api, record, dag_id, run_id, now)
    try:
        entries = look.ledger.entries(chain)
    except LedgerBroken:
        return
    found = [*airflow_record.check_run(seen, entries, asks_people), *airflow_record.check_decisions(entries)]
    found += airflow_record.check_bundles(seen, resources.home())
    if entries:
        found += _find_interventions(look, record, dag_id, run_id, service, entries)
    if service is not None and look.catalogue is not None:
        of_service = look.catalogue.of(service)
        found += airflow_record.check_catalogue(entries, partial(what_voids, catalogue=of_service))
    yield from (one.model_copy(update={"chain": chain if entries else INSTALLATION}) for one in found)


def _seen(api: AirflowApi, record: WatchedRun, dag_id: str, run_id: str, now: datetime) -> RunSeen:
    if record.state is None:
        return RunSeen(dag_id=dag_id, run_id=run_id, state=None, at=now)
    asked = any(asks_people(task.task_id) for task in record.tasks)
    answers = api.answers(dag_id, run_id, answered=True) if asked else ()
    return RunSeen(
        dag_id=dag_id,
        run_id=run_id,
        state=record.state,
        bundles=record.bundles,
        tasks=tuple(
            airflow_record.Task(
                task_id=one.task_id,
                map_index=one.map_index,
                state=one.state,
                tries=one.tries if len(one.tries) > 1 else (),
            )
            for one in record.tasks
        ),
        answered=frozenset((one.task_id, one.map_index) for one in answers),
        votes=tuple(one.vote() for one in answers),
        handed_on=tuple(
            airflow_record.HandedOn(task_id=one.task_id, map_index=one.map_index, value=one.result)
            for one in record.tasks
            if not asks_people(one.task_id) and one.state in ("success", "failed") and one.result is not None
        ),
        at=now,
    )


def _find_interventions(
    look: _Look, record: WatchedRun, dag_id: str, run_id: str, service: str | None, entries: Sequence[Entry]
) -> Iterator[Finding]:
    """Yield the manual changes since the release began, from Airflow's audit log."""
    now, began = datetime.now(UTC), entries[0].at
    rows = interventions.settled(record.audit, now)
    done = interventions.done_by_hand(rows, look.accounted, dag_id=dag_id, run_id=run_id)
    closed = next((entry.at for entry in entries if entry.kind == RELEASE_CLOSED), now)
    described = look.catalogue.services.get(service) if service and look.catalogue else None
    connections = resources.connections_of(described) if described else ()
    edits = [row for row in look.edits if began < row.at < closed]
    for row in (*done, *interventions.connections_edited(edits, connections)):
        yield Finding(
            kind="by_hand", what=f"Airflow's audit log: {row}.", evidence={"row": row.model_dump(mode="json")}
        )


def _find_paused_dags(api: AirflowApi, dags: Iterable[str], since: datetime) -> Iterator[Finding]:
    """Yield the paused Dags, with the last person who paused each."""
    for dag_id in dags:
        rows = [row for row in api.audit_log(since, dag_id=dag_id, event="patch_dag") if row.changes]
        by = f" {rows[-1]}." if rows else ""
        yield Finding(
            kind="dag_paused",
            what=f"The Dag {dag_id} is paused.{by}",
            evidence={"dag_id": dag_id, "row": rows[-1].model_dump(mode="json") if rows else f"{since:%Y-%m-%d}"},
            chain=INSTALLATION,
        )
