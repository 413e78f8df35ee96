"""What a host may run by the ledger, and the finding if it runs something else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from interlock.domain.hosts.released_files import Difference
from interlock.domain.records import RolloutPlan

from .chain import Entry
from .findings import Finding
from .kinds import (
    BACK_OUT_DONE,
    HOST_RETURNED,
    PERMIT_USED,
    PLAN_MADE,
    ROLLOUT_FROZEN,
    WAVE_DEPLOYED,
)
from .reading import plan_in

Allowed = Mapping[str, frozenset[str | None]]
"""A host's address: the releases that it may run; None means no release."""


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


def _by_permit(permit: Mapping[str, Any], plan: RolloutPlan, allowed: Allowed) -> dict[str, frozenset[str | None]]:
    if permit["purpose"] in ("inspect", "restart", "traffic", "step"):
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
