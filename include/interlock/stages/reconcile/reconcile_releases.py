"""The Dag ``reconcile``: compares the chains of releases with Airflow's record of their runs.

Airflow is read before the ledger, because each step is recorded before Airflow shows it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, NamedTuple

from interlock.adapters.airflow.rest_api import AirflowApi
from interlock.adapters.airflow.watched_runs import WatchedRun, watched_runs
from interlock.adapters.catalogue.catalogue import dags_of_catalogue, load_catalogue
from interlock.domain.board.questions import asks_people
from interlock.domain.catalogue import Catalogue
from interlock.domain.change.amended import what_voids
from interlock.domain.dag_names import EMERGENCY_STOP, RELEASES, ROLLBACKS, TRAINS, dags_of_service
from interlock.domain.errors import CatalogueError, TransientError
from interlock.domain.ledger import airflow_record, interventions
from interlock.domain.ledger import runs as ledger_runs
from interlock.domain.ledger.airflow_record import RunSeen
from interlock.domain.ledger.chain import INSTALLATION, Break, Entry, release_chain
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
Run = tuple[str, str]
"""Dag and run."""
AT_ONCE = 20
"""So many releases are read together."""


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
    released = (run for chain in ledger.chains(CHAINS) if (run := ledger_runs.run_of(chain)))
    return dags_of_catalogue(catalogue_folder()) | {dag_id for dag_id, _ in released}


def _compare_releases(
    look: _Look, runs: Sequence[Run], services: Mapping[str, str]
) -> tuple[list[Finding], TransientError | None]:
    """Return the findings about releases, and a transient error if one could not be checked for now.

    A release that cannot be checked at all is a finding. The others are checked nevertheless.

    :param services: the service of each Dag.
    """
    found: list[Finding] = []
    passing: TransientError | None = None
    for begin in range(0, len(runs), AT_ONCE):
        together = runs[begin : begin + AT_ONCE]
        read = look.read_if_possible(together)
        for run in together:
            try:
                found += _compare_release(look, run, read.get(run) or look.read([run])[run], services.get(run[0]))
            except TransientError as error:
                log.warning("%s, run %s, could not be checked now: %s", *run, error)
                passing = error
            except Exception as error:  # the other releases are checked nevertheless
                log.exception("%s, run %s, could not be checked", *run)
                found.append(airflow_record.describe_failed_check(*run, error))
    return found, passing


class _Read(NamedTuple):
    """What Airflow's record has of a release, and its chain, which was read later.

    :param at: an instant before all of it was read.
    """

    at: datetime
    record: WatchedRun
    chain: tuple[Entry, ...] | Break


class _Look:
    """What is read for a look: what all releases have in common once, and their records some at a time."""

    def __init__(self, ledger: Ledger, api: AirflowApi, catalogue: Catalogue | None, runs: Iterable[Run]) -> None:
        self.ledger, self.api, self.catalogue = ledger, api, catalogue
        every = ledger.began(CHAINS)
        self._began = {chain: at for run in runs if (at := every.get(chain := release_chain(*run)))}
        self._first = min(self._began.values(), default=datetime.now(UTC))  # or none began
        self.refused = _Refused(ledger, self._first - interventions.MAX_CLOCK_SKEW)

    def read(self, runs: Sequence[Run]) -> dict[Run, _Read]:
        """Read some releases: first Airflow's record of them, then their chains."""
        at, chains = datetime.now(UTC), {run: release_chain(*run) for run in runs}
        records = watched_runs(self.api, {run: self._watched_from(chains[run], at) for run in runs})
        of_chains = self.ledger.whole(chains.values())
        return {run: _Read(at, records[run], of_chains[chains[run]]) for run in runs}

    def read_if_possible(self, runs: Sequence[Run]) -> dict[Run, _Read]:
        """Read some releases; none of them, if one cannot be read: then each has to be read alone."""
        try:
            return self.read(runs)
        except Exception as error:
            log.warning("%d releases could not be read together: %s", len(runs), error)
            return {}

    def _watched_from(self, chain: str, now: datetime) -> datetime:
        """Return from when on the audit log matters; without a chain, nothing in it does."""
        return self._began.get(chain, now) - interventions.MAX_CLOCK_SKEW

    @cached_property
    def edits(self) -> tuple[interventions.AuditRow, ...]:
        """Edits of connections since the first of the releases began."""
        return self.api.audit_log(self._first, event_pattern="connection")


class _Refused:
    """What was refused or done by break-glass access, which is on record already.

    Read again for later rows of the audit log, because the guard records a refusal after Airflow has its row.

    :param since: what is older accounts for no row that is looked at.
    """

    def __init__(self, ledger: Ledger, since: datetime) -> None:
        self._ledger, self._since = ledger, since
        self._read = dict.fromkeys((ATTEMPT_REFUSED, BREAK_GLASS_USED), 0)
        self._found: list[interventions.Refusal] = []

    def until_now(self) -> Sequence[interventions.Refusal]:
        """Return all of it that is on record now."""
        for kind, after in self._read.items():
            new = self._ledger.entries(INSTALLATION, kind=kind, after=after, since=self._since)
            self._found += [interventions.refusal(entry.payload) for entry in new]
            self._read[kind] = new[-1].sequence if new else after
        return self._found


def _load_catalogue() -> Catalogue | None:
    """Return the catalogue; none while policy.yaml or board.yaml is broken. Everything else is checked nevertheless."""
    try:
        return load_catalogue(catalogue_folder())
    except CatalogueError as error:
        log.error("Releases could not be compared with the catalogue, because the catalogue is invalid: %s", error)
        return None


def _find_releases(ledger: Ledger, api: AirflowApi, ours: Collection[str], now: datetime) -> list[Run]:
    """Return Dag and run of the releases to check, from the ledger and Airflow. Dags of other teams are left out."""
    runs = [run for beginning in (RELEASES, ROLLBACKS, TRAINS) for run in api.runs(beginning, now - WATCH_AFTER_END)]
    known = [run for chain in watched_chains(ledger, now) if (run := ledger_runs.run_of(chain))]
    return list(dict.fromkeys((*known, *(run for run in runs if run[0] in ours))))


def _compare_release(look: _Look, run: Run, read: _Read, service: str | None) -> Iterator[Finding]:
    """Yield what contradicts the chain of a release. check_ledger reports broken chains."""
    if isinstance(read.chain, Break):
        return
    seen, entries = _seen(read, run), read.chain
    found = [*airflow_record.check_run(seen, entries, asks_people), *airflow_record.check_decisions(entries)]
    found += airflow_record.check_bundles(seen, resources.home())
    if entries:
        found += _find_interventions(look, read, run, service, entries)
    if service is not None:
        found += _find_changed_rules(look, run, service, entries)
    chain = release_chain(*run) if entries else INSTALLATION
    yield from (one.model_copy(update={"chain": chain}) for one in found)


def _find_changed_rules(look: _Look, run: Run, service: str, entries: Sequence[Entry]) -> list[Finding]:
    """Return a finding if the rules of a release changed while it was in progress.

    The chain was read after the catalogue, so the release may have begun with rules that were edited in between: both
    are read again, the catalogue first.
    """
    if not _differ(look.catalogue, service, entries):
        return []
    look.catalogue = _load_catalogue()
    again = look.ledger.whole([chain := release_chain(*run)])[chain]
    return [] if isinstance(again, Break) else _differ(look.catalogue, service, again)


def _differ(catalogue: Catalogue | None, service: str, entries: Sequence[Entry]) -> list[Finding]:
    """Return a finding if a release in progress began with other rules than a catalogue's."""
    if catalogue is None or service not in catalogue.services:
        return []
    return [*airflow_record.check_catalogue(entries, partial(what_voids, catalogue=catalogue.of(service)))]


def _seen(read: _Read, run: Run) -> RunSeen:
    (dag_id, run_id), record = run, read.record
    if record.state is None:
        return RunSeen(dag_id=dag_id, run_id=run_id, state=None, at=read.at)
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
        answered=frozenset((one.task_id, one.map_index) for one in record.answers),
        votes=tuple(one.vote() for one in record.answers),
        handed_on=tuple(
            airflow_record.HandedOn(task_id=one.task_id, map_index=one.map_index, value=one.result)
            for one in record.tasks
            if not asks_people(one.task_id) and one.state in ("success", "failed") and one.result is not None
        ),
        at=read.at,
    )


def _find_interventions(
    look: _Look, read: _Read, run: Run, service: str | None, entries: Sequence[Entry]
) -> Iterator[Finding]:
    """Yield the manual changes since the release began, from Airflow's audit log."""
    began, (dag_id, run_id) = entries[0].at, run
    rows = interventions.settled(read.record.audit, read.at)  # what was refused of them is on record by now
    done = interventions.done_by_hand(rows, (), dag_id=dag_id, run_id=run_id)
    if done:  # what was refused is read only then: there may be much of it
        done = interventions.done_by_hand(done, look.refused.until_now(), dag_id=dag_id, run_id=run_id)
    closed = next((entry.at for entry in entries if entry.kind == RELEASE_CLOSED), read.at)
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
