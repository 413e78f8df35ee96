"""What a host may run by the ledger, and the finding if it runs something else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

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
            frozen = {key: value for key, value in entry.payload.items() if key != "digest"}
            plan = RolloutPlan.from_xcom(frozen)
        elif plan is None or plan.environment != environment:
            continue
        elif entry.kind == PERMIT_USED:
            allowed |= _by_permit(entry.payload["permit"], plan, allowed)
        elif entry.kind in (WAVE_DEPLOYED, BACK_OUT_DONE, HOST_RETURNED):
            touched = [one for one in entry.payload["results"] if one["outcome"] != "untouched"]
            allowed |= {one["host"]: _by_result(one, plan, allowed) for one in touched}
    return allowed


def _by_permit(permit: Mapping[str, Any], plan: RolloutPlan, allowed: Allowed) -> dict[str, frozenset[str | None]]:
    if permit["purpose"] in ("inspect", "restart", "traffic"):
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
            what=f"{host} of {environment} was changed without a permit: it runs {runs or 'no release'} of {service}, "
            f"but the ledger says {' or '.join(may)}.",
            evidence={
                "service": service,
                "environment": environment,
                "host": host,
                "runs": runs,
                "by_the_ledger": may,
                "chain": source,
            },
        )


def ran_before(entries: Iterable[Entry], host: str, runs: str | None) -> bool:
    """Tell whether a release, when it was planned, found the running release on a host; or was not planned yet."""
    planned = [entry.payload["running"] for entry in entries if entry.kind == PLAN_MADE]
    return not planned or any(one["host"] == host and one["release"] == runs for one in planned[-1])
