"""The Dag ``reconcile``: compares the chains of releases with Airflow's record of their runs.

Airflow is read before the ledger, because each step is recorded before Airflow shows it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from interlock.adapters.airflow.rest_api import AirflowApi
from interlock.adapters.catalogue.catalogue import dags_of_catalogue, load_catalogue
from interlock.domain.board.questions import asks_people
from interlock.domain.catalogue import Service
from interlock.domain.change.effective import what_changed
from interlock.domain.dag_names import EMERGENCY_STOP, RELEASES, ROLLBACKS, TRAINS, dags_of_service
from interlock.domain.errors import CatalogueError, LedgerBroken, TransientError
from interlock.domain.ledger import airflow_record, interventions
from interlock.domain.ledger import runs as ledger_runs
from interlock.domain.ledger.airflow_record import RunSeen
from interlock.domain.ledger.chain import INSTALLATION, Entry, release_chain
from interlock.domain.ledger.findings import Finding
from interlock.domain.ledger.kinds import ATTEMPT_REFUSED, BREAK_GLASS_USED, RELEASE_CLOSED
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
    services = {dag_id: service for service in _load_services() for dag_id in dags_of_service(service.name)}
    with resources.ledger() as ledger, resources.airflow_api() as api:
        ours, seen = _find_own_dags(ledger), api.dags()
        runs = _find_releases(ledger, api, ours, now)
        found, passing = _compare_releases(ledger, api, runs, services)
        paused = [dag_id for dag_id in (*services, EMERGENCY_STOP) if dag_id in seen and seen[dag_id].is_paused]
        found += _find_paused_dags(api, paused, now - WATCH_AFTER_END)
        found += find_missed_overtakings(ledger, api, {one.name for one in services.values()}, runs, now)
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
    ledger: Ledger, api: AirflowApi, runs: Iterable[tuple[str, str]], services: Mapping[str, Service]
) -> tuple[list[Finding], TransientError | None]:
    """Return the findings about releases, and a transient error if one could not be checked for now.

    A release that cannot be checked at all is a finding. The others are checked nevertheless.
    """
    found: list[Finding] = []
    passing: TransientError | None = None
    for dag_id, run_id in runs:
        try:
            found += _compare_release(ledger, api, dag_id, run_id, services.get(dag_id))
        except TransientError as error:
            log.warning("%s, run %s, could not be checked now: %s", dag_id, run_id, error)
            passing = error
        except Exception as error:  # the other releases are checked nevertheless
            log.exception("%s, run %s, could not be checked", dag_id, run_id)
            found.append(airflow_record.describe_failed_check(dag_id, run_id, error))
    return found, passing


def _load_services() -> tuple[Service, ...]:
    """Return the services; none while policy.yaml or board.yaml is broken. Everything else is checked nevertheless."""
    try:
        return tuple(load_catalogue(catalogue_folder()).services.values())
    except CatalogueError as error:
        log.error("Releases could not be compared with the catalogue, because the catalogue is invalid: %s", error)
        return ()


def _find_releases(ledger: Ledger, api: AirflowApi, ours: Collection[str], now: datetime) -> list[tuple[str, str]]:
    """Return Dag and run of the releases to check, from the ledger and Airflow. Dags of other teams are left out."""
    runs = [run for beginning in (RELEASES, ROLLBACKS, TRAINS) for run in api.runs(beginning, now - WATCH_AFTER_END)]
    known = [run for chain in watched_chains(ledger, now) if (run := ledger_runs.run_of(chain))]
    return list(dict.fromkeys((*known, *(run for run in runs if run[0] in ours))))


def _compare_release(
    ledger: Ledger, api: AirflowApi, dag_id: str, run_id: str, service: Service | None
) -> Iterator[Finding]:
    """Yield what contradicts the chain of a release. check_ledger reports broken chains."""
    chain = release_chain(dag_id, run_id)
    seen = _read_run(api, dag_id, run_id)
    try:
        entries = ledger.entries(chain)
    except LedgerBroken:
        return
    found = [*airflow_record.check_run(seen, entries, asks_people), *airflow_record.check_decisions(entries)]
    found += airflow_record.check_bundles(seen, resources.home())
    if entries:
        found += _find_interventions(ledger, api, dag_id, run_id, service, entries)
    if service is not None:
        catalogue = resources.catalogue_of(service.name)
        found += airflow_record.check_catalogue(entries, partial(what_changed, catalogue=catalogue))
    yield from (one.model_copy(update={"chain": chain if entries else INSTALLATION}) for one in found)


def _read_run(api: AirflowApi, dag_id: str, run_id: str) -> RunSeen:
    now = datetime.now(UTC)
    run = api.run_if_any(dag_id, run_id)
    if run is None:
        return RunSeen(dag_id=dag_id, run_id=run_id, state=None, at=now)
    rows = api.task_instances(dag_id, run_id)
    tasks = [
        airflow_record.Task(
            task_id=row["task_id"],
            map_index=row["map_index"],
            state=row["state"],
            tries=api.tries(dag_id, run_id, row["task_id"], row["map_index"]) if (row["try_number"] or 0) > 1 else (),
        )
        for row in rows
    ]
    results = [
        airflow_record.HandedOn(task_id=one.task_id, map_index=one.map_index, value=value)
        for one in tasks
        if not asks_people(one.task_id) and one.state in ("success", "failed")
        if (value := api.result(dag_id, run_id, one.task_id, one.map_index)) is not None
    ]
    answers = [one for one in api.answers(dag_id, run_id) if one.answered]
    return RunSeen(
        dag_id=dag_id,
        run_id=run_id,
        state=str(run["state"]),
        bundles=tuple(one["bundle_name"] for one in run.get("dag_versions") or () if one.get("bundle_name")),
        tasks=tuple(tasks),
        answered=frozenset((one.task_id, one.map_index) for one in answers),
        votes=tuple(one.vote() for one in answers),
        handed_on=tuple(results),
        at=now,
    )


def _find_interventions(
    ledger: Ledger, api: AirflowApi, dag_id: str, run_id: str, service: Service | None, entries: Sequence[Entry]
) -> Iterator[Finding]:
    """Yield the manual changes since the release began, from Airflow's audit log."""
    now, began = datetime.now(UTC), entries[0].at
    rows = interventions.settled(api.audit_log(began - interventions.MAX_CLOCK_SKEW, dag_id=dag_id), now)
    edits = api.audit_log(began, event_pattern="connection") if service else ()
    accounted = [
        interventions.refusal(entry.payload)
        for kind in (ATTEMPT_REFUSED, BREAK_GLASS_USED)  # BREAK_GLASS_USED is a finding already
        for entry in ledger.entries(INSTALLATION, kind=kind)
    ]
    done = interventions.done_by_hand(rows, accounted, dag_id=dag_id, run_id=run_id)
    closed = next((entry.at for entry in entries if entry.kind == RELEASE_CLOSED), now)
    connections = resources.connections_of(service) if service else ()
    edited = [row for row in interventions.connections_edited(edits, connections) if row.at < closed]
    for row in (*done, *edited):
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
