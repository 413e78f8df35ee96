"""What a host may run by the ledger, and the finding if it runs something else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from interlock.domain.hosts.released_files import Difference
from interlock.domain.records import Artifact, RolloutPlan

from .chain import Entry
from .findings import Finding
from .kinds import (
    ARTIFACT_BUILT,
    BACK_OUT_DONE,
    DEPLOYMENT_FAILED,
    HOST_RETURNED,
    PATH_DEPLOYED,
    PERMIT_USED,
    PLAN_MADE,
    ROLLOUT_FROZEN,
    TEST_DEPLOYED,
    WAVE_DEPLOYED,
)
from .reading import all_in, plan_in

Allowed = Mapping[str, frozenset[str | None]]
"""A host's address: the releases that it may run; None means no release."""
CHANGES_NO_RELEASE = ("inspect", "restart", "traffic", "step")
"""The purposes for which a host is reached without getting another release."""


def releases_allowed(entries: Iterable[Entry], environment: str) -> dict[str, frozenset[str | None]]:
    """Return what the hosts that a release touched may run, by its permits and by what it recorded.

    While a wave is under way, a host may run what it had or what it gets.
    """
    allowed: dict[str, frozenset[str | None]] = {}
    plan: RolloutPlan | None = None
    for entry in entries:
        if entry.kind == ROLLOUT_FROZEN:
            plan = plan_in([entry])
        elif plan is None or plan.environment != environment:
            continue
        elif entry.kind == PERMIT_USED:
            allowed |= _by_permit(entry.payload["permit"], plan, allowed)
        elif entry.kind in (WAVE_DEPLOYED, BACK_OUT_DONE, HOST_RETURNED):
            touched = [one for one in entry.payload["results"] if one["outcome"] != "untouched"]
            allowed |= {one["host"]: _by_result(one, plan, allowed) for one in touched}
    return allowed


class SandboxRecord(NamedTuple):
    """What the hosts of an environment before production may run.

    :ivar after: host and its instance: what the last deployment on record left there; a host whose result is not known
        is left out.
    :ivar brought: what releases may have brought since that left no result: they are under way, or were killed.
    :ivar chain: of the release of that last deployment.
    :ivar at: when the environment was entered last, or when that deployment was recorded, whichever is later.
    """

    after: Mapping[tuple[str, str], str | None]
    brought: frozenset[str | None]
    chain: str
    at: datetime

    def allowed(self, host: str, instance: str) -> frozenset[str | None] | None:
        """Return the releases that a host may run; None: the record does not know it."""
        place = (host, instance)
        return self.brought | {self.after[place]} if place in self.after else None


def sandbox_record(
    entered: Sequence[Entry], entries_of: Callable[[str], Sequence[Entry]], environment: str
) -> SandboxRecord | None:
    """Return what the hosts of an environment before production may run; None: no deployment there has a result.

    A sandbox needs no permit, but each task that changes it enters it first.

    :param entered: the entries ``environment.entered`` of its bookings.
    :param entries_of: returns the entries of a release's chain.
    """
    brought: set[str | None] = set()
    for entry in reversed(entered):
        chain = str(entry.payload["holder"])
        if entry.payload["purpose"] in CHANGES_NO_RELEASE:
            continue
        entries = entries_of(chain)
        results = [*_results_in_sandbox(entries, environment)]
        if results and results[-1].at >= entry.at:
            hosts = [one for each in results for one in each.payload["results"] if one["outcome"] != "untouched"]
            after = {(one["host"], one["instance_id"]): one for one in hosts}
            known = {place: one["after"] for place, one in after.items() if one["after"] or one["outcome"] != "failed"}
            return SandboxRecord(known, frozenset(brought), chain, max(entered[-1].at, results[-1].at))
        brought |= {one.release for one in all_in(entries, ARTIFACT_BUILT, Artifact)}
        # The rehearsal of database changes brings what production runs.
        brought |= {one["release"] for each in entries if each.kind == PLAN_MADE for one in each.payload["running"]}
    return None


def _results_in_sandbox(entries: Iterable[Entry], environment: str) -> Iterator[Entry]:
    """Yield the entries with results of hosts of an environment before production."""
    target = ""
    for entry in entries:
        if entry.kind == ROLLOUT_FROZEN:
            target = str(entry.payload["environment"])
        of_plan = entry.kind in (WAVE_DEPLOYED, BACK_OUT_DONE) and target == environment
        of_review = entry.kind in (TEST_DEPLOYED, PATH_DEPLOYED, DEPLOYMENT_FAILED)
        if of_plan or (of_review and entry.payload["environment"] == environment):
            yield entry


def _by_permit(permit: Mapping[str, Any], plan: RolloutPlan, allowed: Allowed) -> dict[str, frozenset[str | None]]:
    if permit["purpose"] in CHANGES_NO_RELEASE:
        return {}
    before = plan.back_out.releases
    gets = {
        host: plan.release if permit["purpose"] in ("deploy", "return") else before.get(host)
        for host in permit["hosts"]
    }
    return {host: allowed.get(host, frozenset({before.get(host)})) | {release} for host, release in gets.items()}


def _by_result(result: Mapping[str, Any], plan: RolloutPlan, allowed: Allowed) -> frozenset[str | None]:
    """Return what one host may run after a wave or a back-out; both releases if its result is unknown."""
    host, after = result["host"], result["after"]
    if after is not None or result["outcome"] != "failed":
        return frozenset({after})
    return allowed.get(host, frozenset()) | {result["before"], plan.release, plan.back_out.releases.get(host)}


def check_host(
    *, service: str, environment: str, host: str, runs: str | None, allowed: Collection[str | None], source: str
) -> Iterator[Finding]:
    """Yield a finding if a host runs a release that no record brought there.

    :param source: the chain that says what it may run.
    """
    if runs not in allowed:
        may = sorted(release or "nothing" for release in allowed)
        yield Finding(
            kind="host_changed",
            what=f"{host} of {environment} runs {runs or 'no release'} of {service}, but the ledger says "
            f"{' or '.join(may)}. Who changed it, and when, is not known.",
            evidence={
                "service": service,
                "environment": environment,
                "host": host,
                "runs": runs,
                "by_the_ledger": may,
                "chain": source,
            },
        )


MAX_FILE_FINDINGS = 20
"""So many files of one release on one host become findings at most: a host may say that all of them differ."""


def check_files(
    *, service: str, environment: str, host: str, release: str, found: Iterable[Difference], about: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield a finding for each file that a host has otherwise than it was released.

    :param about: what else is evidence: the chain that says what the host runs.
    """
    for one in found:
        expected, seen = one.expected.in_words, one.seen.in_words
        yield Finding(
            kind="file_changed",
            what=f"{host} of {environment} runs {release} of {service}. At {one.expected.path} it has {seen}; released "
            f"was {expected}. Who changed it, and when, is not known.",
            evidence={
                "service": service,
                "environment": environment,
                "host": host,
                "release": release,
                "path": one.expected.path,
                "expected": expected,
                "found": seen,
                **about,
            },
        )


def new_file_findings(found: Iterable[Finding], known: Iterable[Entry]) -> list[Finding]:
    """Return the findings about files that are in no chain yet, up to a number for each release on each host.

    :param known: the findings that are recorded, in whichever chain.
    """
    recorded = [one.payload["evidence"] for one in known if one.payload.get("found") == "file_changed"]
    told = {_name(one) for one in recorded}
    counts = Counter(_place(one) for one in recorded)
    new: list[Finding] = []
    for finding in found:
        place = _place(finding.evidence)
        if _name(finding.evidence) not in told and counts[place] < MAX_FILE_FINDINGS:
            counts[place] += 1
            new.append(finding)
    return new


def _place(evidence: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(evidence.get(name) for name in ("service", "environment", "host", "release"))


def _name(evidence: Mapping[str, Any]) -> tuple[Any, ...]:
    return (*_place(evidence), *(evidence.get(name) for name in ("path", "expected", "found")))


def ran_before(entries: Iterable[Entry], host: str, runs: str | None) -> bool:
    """Tell whether a release, when it was planned, found the running release on a host; or was not planned yet."""
    planned = [entry.payload["running"] for entry in entries if entry.kind == PLAN_MADE]
    return not planned or any(one["host"] == host and one["release"] == runs for one in planned[-1])
