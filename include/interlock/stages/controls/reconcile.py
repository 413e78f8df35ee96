"""The Dag ``reconcile``: compares the ledger with Airflow's record, with itself, and with what the hosts run.

What contradicts it becomes a finding: in the chain of the release, which then gets no permit, or in the installation's.
Airflow and the hosts are read before the ledger: whatever is done is in the ledger before it shows elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import TriggerRule, get_current_context

from interlock.adapters.airflow.rest_api import AirflowApi
from interlock.adapters.catalogue.catalogue import dags_of_catalogue, digests_of, load_catalogue, load_rules
from interlock.adapters.permits.issuer import Admission
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import Environment, Findings, Service
from interlock.domain.dag_names import RELEASES, ROLLBACKS, TRAINS
from interlock.domain.errors import (
    AlreadyRecorded,
    CatalogueError,
    DeployError,
    LedgerBroken,
    TransientError,
)
from interlock.domain.ledger import interventions
from interlock.domain.ledger import reconcile as checks
from interlock.domain.ledger.chain import ENDED, INSTALLATION, Break, Entry, release_chain, unsigned_since
from interlock.domain.ledger.reconcile import BASELINE, FINDING, TOLD, Finding, RunSeen
from interlock.domain.permits.permit import SANDBOXES
from interlock.domain.records import Host
from interlock.locations import catalogue_folder
from interlock.stages.release.closure import QUESTIONS
from interlock.stages.runtime import permits, resources
from interlock.stages.runtime.catalogue import catalogue_digest
from interlock.stages.runtime.evidence import this_task
from interlock.stages.runtime.notices import notify
from interlock.stages.runtime.taskflow import stage_task, this_run
from interlock.stages.strategies import fleets as hosts_of
from interlock.stages.trains.passengers import ASK as ASK_TRAIN

if TYPE_CHECKING:
    from interlock.adapters.ledger.ledger import Ledger

log = logging.getLogger(__name__)
CATALOGUE, KEY = "catalogue.changed", "key.used"
"""Entries of the installation: what the catalogue's files are from then on, and the key that signs from then on."""
RECENT = timedelta(days=7)
"""So long after its end a release is still compared with Airflow's record."""
LOST = timedelta(days=31)
"""A release that has no end on record is looked at for so long: its Dag gives it 30 days."""
SEALING = timedelta(minutes=10)
"""So long a task may take, tries and all, from a decision's entry to the signed head after it."""
ASKING = QUESTIONS | {ASK_TRAIN}
"""The tasks of releases and of trains that ask people."""
SLICES = 288
"""All other chains are proven in so many parts, one with each look: with a look every five minutes, each once a day."""


def schedule(folder: Path) -> timedelta:
    """Return how often to look, by the policy; with a broken one, as often as by default."""
    try:
        return load_rules(folder)[0].findings.every
    except CatalogueError:
        return Findings().every


# --- releases --------------------------------------------------------------------------------------------------------


@stage_task(task_display_name="Compare releases with Airflow's record")
def check_releases() -> int:
    """Compare each release that is under way or ended recently with Airflow's record of it; return the new findings.

    Tasks marked or cleared by hand, answers that are gone, edited results, deleted runs, paused Dags, Dags of others
    with names of Interlock's, edited connections, a changed catalogue.
    """
    now = datetime.now(UTC)
    services = {dag_id: service for service in _services() for dag_id in checks.dags_of(service.name)}
    with resources.ledger() as ledger, resources.airflow_api() as api:
        ours, seen = _ours(ledger), api.dags()
        runs = _releases(ledger, api, ours, now)
        found, passing = _of_releases(ledger, api, runs, services)
        paused = [dag_id for dag_id in (*services, "emergency_stop") if dag_id in seen and seen[dag_id].is_paused]
        found += _of_pauses(api, paused, now - RECENT)
        found += checks.of_strangers({one: seen[one].place for one in ours if one in seen}, resources.home(), runs)
        new = _leave(ledger, found)
    if passing is not None:  # all else has been looked at; what this was about is looked at again
        raise passing
    return new


def _ours(ledger: Ledger) -> frozenset[str]:
    """Return the Dags that are Interlock's: by the catalogue's files, also broken ones, and by the ledger."""
    released = (run for chain in ledger.chains() if (run := checks.run_of(chain)))
    return dags_of_catalogue(catalogue_folder()) | {dag_id for dag_id, _ in released}


def _of_releases(
    ledger: Ledger, api: AirflowApi, runs: Iterable[tuple[str, str]], services: Mapping[str, Service]
) -> tuple[list[Finding], TransientError | None]:
    """Return what contradicts the chains of releases, and what kept one from being looked at that may pass.

    What cannot be looked at is a finding, and keeps no other from being looked at.
    """
    found: list[Finding] = []
    passing: TransientError | None = None
    for dag_id, run_id in runs:
        try:
            found += _of_release(ledger, api, dag_id, run_id, services.get(dag_id))
        except TransientError as error:
            log.warning("%s, run %s, cannot be looked at now: %s", dag_id, run_id, error)
            passing = error
        except Exception as error:  # whatever it is: it must not hide the others
            log.exception("%s, run %s, cannot be looked at", dag_id, run_id)
            found.append(checks.not_looked_at(dag_id, run_id, error))
    return found, passing


def _services() -> tuple[Service, ...]:
    """Return the services; none while policy.yaml or board.yaml is broken: all else is looked at nevertheless."""
    try:
        return tuple(load_catalogue(catalogue_folder()).services.values())
    except CatalogueError as error:
        log.error("Releases cannot be compared with the catalogue, for it is broken: %s", error)
        return ()


def _releases(ledger: Ledger, api: AirflowApi, ours: Collection[str], now: datetime) -> list[tuple[str, str]]:
    """Return Dag and run of the releases to look at, by the ledger and by Airflow; what others call so is theirs."""
    runs = [run for beginning in (RELEASES, ROLLBACKS, TRAINS) for run in api.runs(beginning, now - RECENT)]
    known = [run for chain in _watched_chains(ledger, now) if (run := checks.run_of(chain))]
    return list(dict.fromkeys((*known, *(run for run in runs if run[0] in ours))))


def _watched_chains(ledger: Ledger, now: datetime) -> list[str]:
    """Return the chains of the releases that are under way or ended recently."""
    ended = _ended(ledger)
    return [
        chain
        for chain in ledger.chains()
        if (run := checks.run_of(chain)) and _is_watched(ledger, chain, run, ended, now)
    ]


def _is_watched(ledger: Ledger, chain: str, run: tuple[str, str], ended: Mapping[str, datetime], now: datetime) -> bool:
    if at := ended.get("/".join(run)):
        return at > now - RECENT
    try:
        last = ledger.last(chain)
    except LedgerBroken:
        return True
    return last is None or last.at > now - LOST


def _ended(ledger: Ledger) -> dict[str, datetime]:
    """Return when each release ended: Dag and run, and the instant."""
    return {str(entry.payload["run"]): entry.at for entry in ledger.entries(INSTALLATION, kind=ENDED)}


def _of_release(
    ledger: Ledger, api: AirflowApi, dag_id: str, run_id: str, service: Service | None
) -> Iterator[Finding]:
    """Yield what contradicts the chain of a release; a chain that does not hold is check_ledger's."""
    chain = release_chain(dag_id, run_id)
    seen = _seen(api, dag_id, run_id)
    try:
        entries = ledger.entries(chain)
    except LedgerBroken:
        return
    found = [*checks.of_run(seen, entries, ASKING), *checks.of_chain(entries)]
    found += checks.of_bundles(seen, resources.home())
    if entries:
        found += _interventions(ledger, api, dag_id, run_id, service, entries)
    if service is not None:
        found += checks.of_catalogue(entries, catalogue_digest(service.name))
    yield from (one.model_copy(update={"chain": chain if entries else INSTALLATION}) for one in found)


def _seen(api: AirflowApi, dag_id: str, run_id: str) -> RunSeen:
    now = datetime.now(UTC)
    run = api.run_if_any(dag_id, run_id)
    if run is None:
        return RunSeen(dag_id=dag_id, run_id=run_id, state=None, at=now)
    rows = api.task_instances(dag_id, run_id)
    tasks = [
        checks.Task(
            task_id=row["task_id"],
            map_index=row["map_index"],
            state=row["state"],
            tries=api.tries(dag_id, run_id, row["task_id"], row["map_index"]) if (row["try_number"] or 0) > 1 else (),
        )
        for row in rows
    ]
    results = [
        checks.HandedOn(task_id=one.task_id, map_index=one.map_index, value=value)
        for one in tasks
        if one.task_id not in ASKING and one.state in ("success", "failed")
        if (value := api.result(dag_id, run_id, one.task_id, one.map_index)) is not None
    ]
    given = [
        checks.Given(
            task_id=one.task_id,
            map_index=one.map_index,
            answered=one.answered,
            user=one.user,
            choice=one.choice,
            at=one.at,
        )
        for one in api.answers(dag_id, run_id)
    ]
    return RunSeen(
        dag_id=dag_id,
        run_id=run_id,
        state=str(run["state"]),
        bundles=tuple(one["bundle_name"] for one in run.get("dag_versions") or () if one.get("bundle_name")),
        tasks=tuple(tasks),
        given=tuple(given),
        handed_on=tuple(results),
        at=now,
    )


def _interventions(
    ledger: Ledger, api: AirflowApi, dag_id: str, run_id: str, service: Service | None, entries: Sequence[Entry]
) -> Iterator[Finding]:
    """Yield what was done by hand since the release began, by Airflow's audit log."""
    now, began = datetime.now(UTC), entries[0].at
    rows = interventions.settled(api.audit_log(began - interventions.SKEW, dag_id=dag_id), now)
    edits = api.audit_log(began, event_pattern="connection") if service else ()
    accounted = [
        interventions.refusal(entry.payload)
        for kind in (permits.REFUSED, "break_glass.used")  # the latter is a finding already
        for entry in ledger.entries(INSTALLATION, kind=kind)
    ]
    done = interventions.done_by_hand(rows, accounted, dag_id=dag_id, run_id=run_id)
    closed = next((entry.at for entry in entries if entry.kind == "release.closed"), now)
    connections = resources.connections_of(service) if service else ()
    edited = [row for row in interventions.connections_edited(edits, connections) if row.at < closed]
    for row in (*done, *edited):
        yield Finding(
            kind="by_hand", what=f"Airflow's audit log: {row}.", evidence={"row": row.model_dump(mode="json")}
        )


def _of_pauses(api: AirflowApi, dags: Iterable[str], since: datetime) -> Iterator[Finding]:
    """Yield the Dags that are paused, with who asked for it last."""
    for dag_id in dags:
        rows = [row for row in api.audit_log(since, dag_id=dag_id, event="patch_dag") if row.changes]
        by = f" {rows[-1]}." if rows else ""
        yield Finding(
            kind="dag_paused",
            what=f"The Dag {dag_id} is paused.{by}",
            evidence={"dag_id": dag_id, "row": rows[-1].model_dump(mode="json") if rows else f"{since:%Y-%m-%d}"},
            chain=INSTALLATION,
        )


# --- the ledger ------------------------------------------------------------------------------------------------------


@stage_task(task_display_name="Prove the ledger's chains", trigger_rule=TriggerRule.ALL_DONE)
def check_ledger() -> int:
    """Prove the chains of recent releases and of the installation, and a part of all others; return the new findings.

    What holds is signed up to its last entry, so that nothing can be cut off from there on. Entries that were there at
    the last look and have no signed head now had one, and it was removed.
    """
    now = datetime.now(UTC)
    looked = _last_look()
    found: list[Finding] = []
    with resources.ledger() as ledger:
        _note_what_holds(ledger)
        chains = ledger.chains()
        watched = [chain for chain in (INSTALLATION, *_watched_chains(ledger, now)) if chain in chains]
        others = [chain for chain in chains if chain not in watched and _is_due(chain, now)]
        for chain in (*watched, *others):
            if broken := ledger.check(chain, [resources.signer().public_key]):
                evidence = broken.model_dump(mode="json")
                found.append(Finding(kind="chain_broken", what=broken.sentence, evidence=evidence, chain=INSTALLATION))
                continue
            removed = [*_unsigned(ledger, chain, looked)] if chain in watched and looked is not None else []
            lacking = _unsealed(ledger, chain)
            found += [*removed, *_overdue(chain, lacking, now)]
            if not removed and lacking is None:  # what may have been written anew is not vouched for
                ledger.sign_head(chain, resources.signer())
        return _leave(ledger, found)


def _note_what_holds(ledger: Ledger) -> None:
    """Put on record which catalogue holds, file by file, if it is another than before; and the key that signs."""
    signer = resources.signer()
    key = {"key_id": signer.key_id, "public_key": signer.public_key.decode()}
    ledger.append(INSTALLATION, KEY, key, actor="interlock", key=f"{KEY}/{signer.key_id}")
    files = digests_of(catalogue_folder())
    before = ledger.entries(INSTALLATION, kind=CATALOGUE)
    if not before or before[-1].payload["files"] != files:
        told = {"files": files, "digest": sha256_of(files)}
        with suppress(AlreadyRecorded):  # another look was faster
            ledger.append_once(INSTALLATION, CATALOGUE, told, actor=this_task(), key=f"{CATALOGUE}/{len(before) + 1}")


def _last_look() -> datetime | None:
    """Return when the last look that succeeded began; None: there was none."""
    at: Any = get_current_context().get("prev_start_date_success")  # Airflow's stand-in for it, also for None
    return datetime.fromisoformat(at.isoformat()) if at else None


def _is_due(chain: str, now: datetime) -> bool:
    """Tell whether a chain is in the part that is proven with this look."""
    look = int(now.timestamp() // 300)
    return crc32(chain.encode()) % SLICES == look % SLICES


def _unsigned(ledger: Ledger, chain: str, looked: datetime) -> Iterator[Finding]:
    """Yield a finding if a chain is not signed up to what was there when it was last looked at, and signed."""
    signed = max((head.sequence for head in ledger.heads(chain)), default=0)
    lost = [entry for entry in ledger.entries(chain, after=signed) if entry.at < looked]
    if lost:
        yield Finding(
            kind="signature_gone",
            what=f"The chain {chain} was signed up to entry {lost[-1].sequence}, and is signed up to {signed} now: "
            "signed heads were removed.",
            evidence={"chain": chain, "signed_up_to": signed, "was": lost[-1].sequence},
            chain=INSTALLATION,
        )


class Lacking(NamedTuple):
    """A decision in a release's chain that is not signed; whoever made it signs it, and nobody else.

    :param at: when it was made.
    """

    where: Break
    at: datetime


def _unsealed(ledger: Ledger, chain: str) -> Lacking | None:
    if checks.run_of(chain) is None:
        return None
    entries = ledger.entries(chain)
    lacking = unsigned_since(chain, entries, ledger.heads(chain))
    return Lacking(lacking, entries[lacking.sequence - 1].at) if lacking is not None else None


def _overdue(chain: str, lacking: Lacking | None, now: datetime) -> Iterator[Finding]:
    """Yield a finding if a decision has not been signed for longer than a task may take."""
    if lacking is not None and lacking.at < now - SEALING:
        evidence = lacking.where.model_dump(mode="json")
        yield Finding(kind="seal_missing", what=lacking.where.sentence, evidence=evidence, chain=INSTALLATION)


# --- hosts -----------------------------------------------------------------------------------------------------------


class Fleet(NamedTuple):
    """The hosts of one environment of a service."""

    service: Service
    described: Environment
    hosts: tuple[Host, ...]


class OnRecord(NamedTuple):
    """What a host may run, and the chain that says so."""

    allowed: frozenset[str | None]
    chain: str


Runs = dict[tuple[str, str], str | None]
"""Service and host's address: the release that the host says it runs."""
Records = dict[tuple[str, str], OnRecord]


@stage_task(task_display_name="Compare hosts with the ledger", trigger_rule=TriggerRule.ALL_DONE)
def check_hosts() -> int:
    """Ask every host beyond the sandboxes what it runs, and compare it with what releases brought there.

    A host that no release has touched is recorded once with what it runs, as a baseline; from then on any change
    without a permit is a finding. A host that cannot be asked is none. Returns the number of new findings.
    """
    services = load_catalogue(catalogue_folder()).services.values()
    found: list[Finding] = []
    for environment in sorted({name for one in services for name in one.environments} - SANDBOXES):
        fleets = [
            Fleet(one, described, hosts_of.every_host(described))
            for one in services
            if (described := one.environments.get(environment))
        ]
        if any(fleet.hosts for fleet in fleets):
            found += _of_fleets(environment, fleets)
    with resources.ledger() as ledger:
        return _leave(ledger, found)


def _of_fleets(environment: str, fleets: Sequence[Fleet]) -> Iterator[Finding]:
    """Yield the hosts of an environment that run what the ledger knew neither before nor after they were asked."""
    before = _on_record(environment, fleets)
    runs = _ask(environment, fleets)
    after = _on_record(environment, fleets)
    for (service, host), release in runs.items():
        place = (service, host)
        if place not in after:
            _take_as_baseline(environment, service, host, release)
            continue
        allowed = after[place].allowed | (before[place].allowed if place in before else frozenset())
        for finding in checks.of_host(
            service=service,
            environment=environment,
            host=host,
            runs=release,
            allowed=allowed,
            source=after[place].chain,
        ):
            yield finding.model_copy(update={"chain": _chain_for(service, host, release)})


def _ask(environment: str, fleets: Sequence[Fleet]) -> Runs:
    hosts = [host for fleet in fleets for host in fleet.hosts]
    digest = sha256_of({fleet.service.name: catalogue_digest(fleet.service.name) for fleet in fleets})
    logins = [resources.login(fleet.described) for fleet in fleets]

    async def ask_all(admission: Admission) -> Runs:
        asked = (_ask_fleet(fleet, login, admission) for fleet, login in zip(fleets, logins, strict=True))
        return {place: release for fleet in await asyncio.gather(*asked) for place, release in fleet.items()}

    with permits.admission_to_watch(environment, hosts, digest) as admission:
        return asyncio.run(ask_all(admission))


async def _ask_fleet(fleet: Fleet, login: Any, admission: Admission) -> Runs:
    """Ask the hosts of one service; if one of them cannot be asked, the others are asked one by one."""
    from interlock.adapters.hosts import fleet as ssh_hosts  # not at the top: see rolling.py

    async def ask(hosts: Sequence[Host]) -> Runs:
        running = await ssh_hosts.read_running(hosts, fleet.described.deploy_root, login=login, admission=admission)
        return {(fleet.service.name, one.host): one.release for one in running}

    with suppress(DeployError):
        return await ask(fleet.hosts)
    runs: Runs = {}
    for host in fleet.hosts:
        try:
            runs |= await ask([host])
        except DeployError as error:
            log.warning("%s (%s) cannot be asked what it runs: %s", host.address, host.name, error)
    return runs


def _on_record(environment: str, fleets: Sequence[Fleet]) -> Records:
    """Return what hosts may run by the newest release that touched them, or by the baseline if that is newer."""
    found: Records = {}
    with resources.ledger() as ledger:
        ended = _ended(ledger)
        baselines = {
            (one.payload["service"], one.payload["host"]): one
            for one in ledger.entries(INSTALLATION, kind=BASELINE)
            if one.payload["environment"] == environment
        }
        chains = [chain for chain in ledger.chains() if checks.run_of(chain)]
        for fleet in fleets:
            places = {(fleet.service.name, host.address) for host in fleet.hosts}
            found |= _of_chains(ledger, environment, places, _newest(chains, fleet.service, ended), baselines)
    return found


def _newest(
    chains: Sequence[str], service: Service, ended: Mapping[str, datetime]
) -> list[tuple[str, datetime | None]]:
    """Return the chains of a service's releases and when each ended, the newest first; those under way before all."""
    dags = checks.dags_of(service.name)
    runs = {chain: run for chain in chains if (run := checks.run_of(chain)) and run[0] in dags}
    dated = [(chain, ended.get("/".join(run))) for chain, run in runs.items()]
    return sorted(dated, key=lambda one: one[1] or datetime.max.replace(tzinfo=UTC), reverse=True)


def _of_chains(
    ledger: Ledger,
    environment: str,
    places: Collection[tuple[str, str]],
    chains: Sequence[tuple[str, datetime | None]],
    baselines: Mapping[tuple[str, str], Entry],
) -> Records:
    found: Records = {}
    for chain, ended in chains:
        found |= {
            place: OnRecord(frozenset({one.payload["release"]}), INSTALLATION)
            for place in set(places) - set(found)
            if (one := baselines.get(place)) and ended and one.at > ended
        }
        if not set(places) - set(found):
            return found
        with suppress(LedgerBroken):  # check_ledger says so
            touched = checks.releases_allowed(ledger.entries(chain), environment)
            found |= {
                (service, host): OnRecord(touched[host], chain)
                for service, host in set(places) - set(found)
                if host in touched
            }
    left = {place: baselines[place] for place in set(places) - set(found) if place in baselines}
    return found | {place: OnRecord(frozenset({one.payload["release"]}), INSTALLATION) for place, one in left.items()}


def _take_as_baseline(environment: str, service: str, host: str, release: str | None) -> None:
    seen = {"service": service, "environment": environment, "host": host, "release": release}
    log.warning("%s of %s runs %s; no release has touched it: this is its baseline", host, environment, release)
    with resources.ledger() as ledger, suppress(AlreadyRecorded):
        ledger.append_once(
            INSTALLATION, BASELINE, seen, actor=this_task(), key=f"{BASELINE}/{service}/{environment}/{host}"
        )


def _chain_for(service: str, host: str, release: str | None) -> str:
    """Return the chain of the release under way during which a host was changed; else the installation's.

    A release that found the host so when it was planned may be what is to mend it.
    """
    with resources.ledger() as ledger:
        ended = _ended(ledger)
        for chain in ledger.chains():
            run = checks.run_of(chain)
            if run is None or run[0] not in checks.dags_of(service) or "/".join(run) in ended:
                continue
            with suppress(LedgerBroken):
                entries = ledger.entries(chain)
                if entries[-1].at > datetime.now(UTC) - LOST and not checks.ran_before(entries, host, release):
                    return chain
    return INSTALLATION


# --- findings --------------------------------------------------------------------------------------------------------


def _leave(ledger: Ledger, found: Iterable[Finding]) -> int:
    """Put findings on record that are not there yet, and sign; return how many were new."""
    new: dict[str, list[Entry]] = {}
    for finding in found:
        chain = finding.chain or INSTALLATION
        with suppress(AlreadyRecorded):
            entry = ledger.append_once(chain, FINDING, finding.payload, actor=this_task(), key=finding.key)
            new.setdefault(chain, []).append(entry)
            log.warning("Finding in %s: %s", chain, finding.what)
    for chain, entries in new.items():
        with suppress(LedgerBroken):  # a chain that does not hold is not signed; that it does not is a finding
            ledger.sign_head(chain, resources.signer(), seals=entries[-1])
    return sum(map(len, new.values()))


@stage_task(task_display_name="Tell people", trigger_rule=TriggerRule.ALL_DONE)
def tell_people() -> list[str]:
    """Send one mail about the findings that nobody has been told of, whoever left them, to those the policy names."""
    now = datetime.now(UTC)
    with resources.ledger() as ledger:
        told = {(one.payload["chain"], one.payload["key"]) for one in ledger.entries(INSTALLATION, kind=TOLD)}
        new: list[Entry] = []
        for chain in (INSTALLATION, *_watched_chains(ledger, now)):
            with suppress(LedgerBroken):
                new += [one for one in ledger.entries(chain, kind=FINDING) if (chain, one.key) not in told]
        if not new:
            return []
        same = sha256_of({"told": [one.hash for one in new]})[:32]
        subject = f"{len(new)} finding{'s' if len(new) > 1 else ''} about releases: {'/'.join(this_run())}"
        to = notify(subject, checks.mail_text(new), same=same)
        for one in new:
            about = {"chain": one.chain, "key": one.key, "to": list(to)}
            ledger.append(INSTALLATION, TOLD, about, actor=this_task(), key=f"{TOLD}/{one.hash}")
        ledger.sign_head(INSTALLATION, resources.signer())
    return list(to)


def reconcile_tasks() -> None:
    """Look at releases, ledger and hosts, then tell people; the run fails if one of them could not be looked at.

    One after the other, whatever became of the one before: releases need the workers more than this does.
    """
    releases, ledger, hosts = check_releases(), check_ledger(), check_hosts()
    all_looked_at = EmptyOperator(
        task_id="all_looked_at",
        task_display_name="All was looked at",
        doc_md="Succeeds if releases, ledger and hosts could be looked at: telling people does not hide a failure.",
    )
    releases >> ledger >> hosts >> tell_people()
    [releases, ledger, hosts] >> all_looked_at
