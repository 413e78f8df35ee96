"""The Dag ``reconcile``: compares the releases on hosts, and their files, with the ledger.

Hosts are read before the ledger, because each change is recorded before a host shows it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.sdk import TriggerRule

from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.adapters.permits.issuer import Admission
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import PRODUCTION, Environment, Service
from interlock.domain.dag_names import dags_of_service
from interlock.domain.errors import AlreadyRecorded, LedgerBroken
from interlock.domain.hosts.released_files import differences
from interlock.domain.ledger import host_record
from interlock.domain.ledger import runs as ledger_runs
from interlock.domain.ledger.chain import INSTALLATION, Entry
from interlock.domain.ledger.findings import Finding
from interlock.domain.ledger.kinds import BASELINE_SEEN, ENVIRONMENT_ENTERED, FINDING
from interlock.domain.permits.fencing import place_of
from interlock.domain.records import Host
from interlock.locations import catalogue_folder
from interlock.stages.runtime import permits, resources
from interlock.stages.runtime.evidence import this_task
from interlock.stages.runtime.history import chains_of, ends_of_releases
from interlock.stages.runtime.taskflow import stage_task
from interlock.stages.strategies import fleets as hosts_of

from .findings import record_findings
from .reconcile_files import FileLists, new_findings, note_unread, sandbox_chain
from .watched_releases import WATCH_WITHOUT_END

if TYPE_CHECKING:
    from interlock.adapters.hosts.fleet import HostLook
    from interlock.adapters.ledger.ledger import Ledger

log = logging.getLogger(__name__)


class Fleet(NamedTuple):
    """The hosts of one environment of a service."""

    service: Service
    described: Environment
    hosts: tuple[Host, ...]


class RecordedReleases(NamedTuple):
    """The releases that a host may run, and the chain that allows them."""

    allowed: frozenset[str | None]
    chain: str


Looks = dict[tuple[str, str], "HostLook"]
"""The answers of hosts, by service and address."""
Records = dict[tuple[str, str], RecordedReleases]


@stage_task(task_display_name="Compare hosts with the ledger", trigger_rule=TriggerRule.ALL_DONE)
def check_hosts() -> int:
    """Ask every host which release it runs, and for digests of some of its files; compare both with the ledger.

    A production host that no release has changed yet is recorded once as a baseline. Each later change without a permit
    is a finding. So is a release that runs on a host before production, and that no release brought there last; and on
    each host a file that is not as it was released. Every file is compared at least once a day. A host that does not
    answer is not a finding. Returns the number of new findings.
    """
    services = load_catalogue(catalogue_folder()).services.values()
    found: list[Finding] = []
    with resources.ledger() as ledger:
        lists = FileLists(ledger)
        fleets = [
            Fleet(one, described, hosts_of.every_host(described))
            for one in services
            if (described := one.environments.get(PRODUCTION))
        ]
        if any(fleet.hosts for fleet in fleets):
            found += _compare_fleets(PRODUCTION, fleets, lists)
        new = record_findings(ledger, found)
        return new + record_findings(ledger, _compare_sandboxes(ledger, services, lists))


def _compare_fleets(environment: str, fleets: Sequence[Fleet], lists: FileLists) -> Iterator[Finding]:
    """Yield what hosts have that the ledger did not know before or after they were asked."""
    before = _read_records(environment, fleets)
    looks = _ask_fleets(environment, fleets, lists)
    after = _read_records(environment, fleets)
    for (service, host), look in looks.items():
        place, release = (service, host), look.state.current
        if place not in after:
            _record_baseline(environment, service, host, release)
            continue
        allowed = after[place].allowed | (before[place].allowed if place in before else frozenset())
        found = [
            *host_record.check_host(
                service=service,
                environment=environment,
                host=host,
                runs=release,
                allowed=allowed,
                source=after[place].chain,
            )
        ]
        if release is not None and release in allowed:
            found += _compare_files(environment, service, host, look, {"chain": after[place].chain}, len(allowed) == 1)
        if found:
            chain = _find_chain(service, host, release)
            yield from (finding.model_copy(update={"chain": chain}) for finding in found)


def _compare_files(
    environment: str, service: str, host: str, look: HostLook, about: Mapping[str, str], is_settled: bool
) -> list[Finding]:
    """Return the new findings of :func:`describe_files`."""
    note_unread(host, look)
    found = describe_files(environment, service, host, look, about, is_settled=is_settled)
    with resources.ledger() as ledger:
        return new_findings(ledger, service, found)


def describe_files(
    environment: str, service: str, host: str, look: HostLook, about: Mapping[str, str], *, is_settled: bool
) -> list[Finding]:
    """Return a finding for each file of a host that is not as it was released.

    :param is_settled: no release is being deployed there that would place files outside of its folder.
    """
    differ = [one for one in differences(look.asked, look.seen) if is_settled or not one.expected.placed]
    release = str(look.state.current)
    return [
        *host_record.check_files(
            service=service, environment=environment, host=host, release=release, found=differ, about=about
        )
    ]


def _compare_sandboxes(ledger: Ledger, services: Collection[Service], lists: FileLists) -> Iterator[Finding]:
    """Yield what hosts before production run that no release brought there last, and files that differ.

    A sandbox needs no permit; so what a release left there, and what releases since may have brought, is the record.
    """
    ends = ends_of_releases(ledger)
    for environment in sorted({name for one in services for name in one.environments} - {PRODUCTION}):
        fleets = [*_reachable_fleets(environment, services)]
        if not any(fleet.hosts for fleet in fleets):
            continue
        asked_at = ledger.now()
        looks = _ask_fleets(environment, fleets, lists)
        records = _read_sandboxes(ledger, environment, {service for service, _ in looks})
        for (service, host), look in looks.items():
            release, known = look.state.current, records.get(service)
            if known is not None and known.at < asked_at:  # otherwise a release came meanwhile: the next check sees it
                changed = host_record.check_host(
                    service=service,
                    environment=environment,
                    host=host,
                    runs=release,
                    allowed=known.allowed(host, _instance_of(fleets, service, host)) or {release},
                    source=known.chain,
                )
                yield from _not_told(ledger, changed, known.chain, ends)
            built = lists.built(service, release) if release is not None else None
            if built is not None:
                chain = sandbox_chain(ledger, built.chain, ends)
                differ = _compare_files(environment, service, host, look, {"built_by": built.chain}, is_settled=False)
                yield from (finding.model_copy(update={"chain": chain}) for finding in differ)


def _instance_of(fleets: Iterable[Fleet], service: str, address: str) -> str:
    hosts = (host for fleet in fleets if fleet.service.name == service for host in fleet.hosts)
    return next(host.instance_id for host in hosts if host.address == address)


def _read_sandboxes(ledger: Ledger, environment: str, services: Iterable[str]) -> dict[str, host_record.SandboxRecord]:
    """Return what the hosts of an environment before production may run, by service; those with a record of it."""
    found = {}
    for name in services:
        with suppress(LedgerBroken):  # check_ledger reports it
            entered = ledger.entries(place_of(environment, name), kind=ENVIRONMENT_ENTERED)
            if (record := host_record.sandbox_record(entered, ledger.entries, environment)) is not None:
                found[name] = record
    return found


def _not_told(ledger: Ledger, found: Iterable[Finding], chain: str, ends: Mapping[str, datetime]) -> Iterator[Finding]:
    """Yield findings about hosts before production that are in no chain yet: where they belong changes with time.

    :param chain: of the release that was deployed there last.
    """
    with suppress(LedgerBroken):
        known = [*ledger.entries(INSTALLATION, kind=FINDING), *ledger.entries(chain, kind=FINDING)]
        told = [one.payload.get("evidence") for one in known]
        where = sandbox_chain(ledger, chain, ends)
        yield from (one.model_copy(update={"chain": where}) for one in found if dict(one.evidence) not in told)


def _reachable_fleets(environment: str, services: Collection[Service]) -> Iterator[Fleet]:
    """Yield the fleets of a sandbox whose hosts can be found. A team's fault does not hide other fleets."""
    for service in (service for service in services if environment in service.environments):
        try:
            described = service.environments[environment]
            hosts = hosts_of.every_host(described)
            resources.login(described)
        except Exception as error:
            log.warning("Hosts of %s in %s cannot be compared: %s", service.name, environment, error)
        else:
            yield Fleet(service, described, hosts)


def _ask_fleets(environment: str, fleets: Sequence[Fleet], lists: FileLists) -> Looks:
    hosts = [host for fleet in fleets for host in fleet.hosts]
    digest = sha256_of({one.service.name: resources.catalogue_of(one.service.name).digest for one in fleets})
    logins = [resources.login(fleet.described) for fleet in fleets]

    async def ask_all(admission: Admission) -> Looks:
        asked = (_ask_fleet(fleet, login, admission, lists) for fleet, login in zip(fleets, logins, strict=True))
        return {place: look for fleet in await asyncio.gather(*asked) for place, look in fleet.items()}

    with permits.admission_to_watch(environment, hosts, digest) as admission:
        looks = asyncio.run(ask_all(admission))
    lists.forget()
    return looks


async def _ask_fleet(fleet: Fleet, login: Any, admission: Admission, lists: FileLists) -> Looks:
    """Ask the hosts of a service. A host that does not answer is logged."""
    from interlock.adapters.hosts import fleet as ssh_hosts  # not at the top: see rolling.py

    service = fleet.service
    looks: Looks = {}
    choose = partial(lists.choose, service)
    root = fleet.described.deploy_root
    answers = await ssh_hosts.look_at_hosts(fleet.hosts, root, choose, login=login, admission=admission)
    for host in fleet.hosts:
        answer = answers[host.address]
        if isinstance(answer, Exception):
            log.warning("%s (%s) does not answer what it runs: %s", host.address, host.name, answer)
        else:
            looks[service.name, host.address] = answer
    return looks


def _read_records(environment: str, fleets: Sequence[Fleet]) -> Records:
    """Return the releases that hosts may run: by the newest release that changed them, or by a newer baseline."""
    found: Records = {}
    with resources.ledger() as ledger:
        ended = ends_of_releases(ledger)
        baselines = {
            (one.payload["service"], one.payload["host"]): one
            for one in ledger.entries(INSTALLATION, kind=BASELINE_SEEN)
            if one.payload["environment"] == environment
        }
        chains = ledger.chains(ledger_runs.CHAINS)
        for fleet in fleets:
            places = {(fleet.service.name, host.address) for host in fleet.hosts}
            found |= _read_chains(ledger, environment, places, _newest_chains(chains, fleet.service, ended), baselines)
    return found


def _newest_chains(
    chains: Sequence[str], service: Service, ended: Mapping[str, datetime]
) -> list[tuple[str, datetime | None]]:
    """Return the chains of a service's releases and when each ended, the newest first; those under way before all."""
    dags = dags_of_service(service.name)
    runs = {chain: run for chain in chains if (run := ledger_runs.run_of(chain)) and run[0] in dags}
    dated = [(chain, ended.get("/".join(run))) for chain, run in runs.items()]
    return sorted(dated, key=lambda one: one[1] or datetime.max.replace(tzinfo=UTC), reverse=True)


def _read_chains(
    ledger: Ledger,
    environment: str,
    places: Collection[tuple[str, str]],
    chains: Sequence[tuple[str, datetime | None]],
    baselines: Mapping[tuple[str, str], Entry],
) -> Records:
    found: Records = {}
    for chain, ended in chains:
        found |= {
            place: RecordedReleases(frozenset({one.payload["release"]}), INSTALLATION)
            for place in set(places) - set(found)
            if (one := baselines.get(place)) and ended and one.at > ended
        }
        if not set(places) - set(found):
            return found
        with suppress(LedgerBroken):  # check_ledger reports it
            touched = host_record.releases_allowed(ledger.entries(chain), environment)
            found |= {
                (service, host): RecordedReleases(touched[host], chain)
                for service, host in set(places) - set(found)
                if host in touched
            }
    left = {place: baselines[place] for place in set(places) - set(found) if place in baselines}
    return found | {
        place: RecordedReleases(frozenset({one.payload["release"]}), INSTALLATION) for place, one in left.items()
    }


def _record_baseline(environment: str, service: str, host: str, release: str | None) -> None:
    seen = {"service": service, "environment": environment, "host": host, "release": release}
    log.warning(
        "%s of %s runs %s. No release has changed it yet, so this is recorded as its baseline",
        host,
        environment,
        release,
    )
    with resources.ledger() as ledger, suppress(AlreadyRecorded):
        ledger.append_once(
            INSTALLATION, BASELINE_SEEN, seen, actor=this_task(), key=f"{BASELINE_SEEN}/{service}/{environment}/{host}"
        )


def _find_chain(service: str, host: str, release: str | None) -> str:
    """Return the chain of the release under way when a host was changed; otherwise the installation's.

    A release that was planned after the change may be the fix, so it does not get the finding.
    """
    with resources.ledger() as ledger:
        ended = ends_of_releases(ledger)
        for chain in [chain for run, chain in chains_of(ledger, service).items() if run not in ended]:
            with suppress(LedgerBroken):
                entries = ledger.entries(chain)
                if entries[-1].at > datetime.now(UTC) - WATCH_WITHOUT_END and not host_record.ran_before(
                    entries, host, release
                ):
                    return chain
    return INSTALLATION
