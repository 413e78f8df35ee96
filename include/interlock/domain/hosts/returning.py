"""Hosts that were down during a rollout and have returned: which release they missed, and whether they may get it now.

Nothing new is decided: a host gets what the release deployed to all other hosts, by the frozen plan, the decision on it
and the released bytes, all proven again from the release's own chain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from interlock.domain.canonical import Model
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import (
    BOARD_DECIDED,
    FINDING,
    HOST_RETURNED,
    RELEASE_CLOSED,
    WAVE_DEPLOYED,
)
from interlock.domain.ledger.reading import all_in, last_in, plan_in
from interlock.domain.permits.objections import Objection
from interlock.domain.records import Decision, Host, Outcome, RolloutPlan, WaveReport
from interlock.domain.rollout.pace import tolerated

_WHO = "the release manager"
_AGAIN = "release the version again, as a standard change"


class LeftOut(Model):
    """A release that was deployed, and the hosts that it could not reach."""

    chain: str
    plan: RolloutPlan
    hosts: tuple[Host, ...]


def left_out(entries: Sequence[Entry]) -> LeftOut | None:
    """Return the hosts that a release could not reach and has not been brought to since; none if there are none.

    A host that was reached and failed is not among them: what is wrong with it is for people to find out.

    :param entries: the release's chain, proven.
    """
    plan, closed = plan_in(entries), last_in(entries, RELEASE_CLOSED, Outcome)
    if plan is None or closed is None or closed.outcome != "deployed":
        return None
    waves = all_in(entries, WAVE_DEPLOYED, WaveReport)
    borne = tolerated(plan, waves)
    last = {result.instance_id: result for wave in waves for result in wave.results}
    tried = {one["instance_id"] for entry in entries if entry.kind == HOST_RETURNED for one in entry.payload["results"]}
    lost = {instance for instance in borne - tried if last[instance].after is None}
    hosts = tuple(host for host in plan.hosts if host.instance_id in lost)
    return LeftOut(chain=entries[-1].chain, plan=plan, hosts=hosts) if hosts else None


class Found(Model):
    """What is found just before such a host is brought to its release, each from its primary record."""

    broken: str = ""
    bundle: str | None = None
    marked: str = ""
    overtaken: str = ""
    stops: tuple[str, ...] = ()
    freezes: tuple[str, ...] = ()


def objections_to(missed: LeftOut, entries: Sequence[Entry], found: Found) -> tuple[Objection, ...]:
    """Return every reason against bringing hosts to the release that they missed; none: a permit may be given.

    :param entries: the release's chain.
    """
    return tuple(_objection(*one) for one in (*_of_chain(missed.plan, entries, found), *_of_now(missed, found)))


def _of_chain(plan: RolloutPlan, entries: Sequence[Entry], found: Found) -> Iterator[tuple[str, str]]:
    if found.broken:
        yield found.broken, "the chain of the release proves its decisions and must be intact"
    decided = last_in(entries, BOARD_DECIDED, Decision)
    if decided is None or not decided.approved or decided.digest != plan.digest:
        yield "The recorded decision does not approve this plan.", "only an approved plan is deployed"
    closed = last_in(entries, RELEASE_CLOSED, Outcome)
    if closed is None or closed.outcome != "deployed":
        yield "The release was not deployed.", "a returning host gets the release that the other hosts run"
    for entry in (entry for entry in entries if entry.kind == FINDING):
        yield f"The release has a finding: {entry.payload.get('what')}", "a release with a finding gets no permit"


def _of_now(missed: LeftOut, found: Found) -> Iterator[tuple[str, str]]:
    if found.bundle != missed.plan.bundle.sha256:
        yield "The bundle is not the approved one.", "only the approved artifact is deployed"
    if found.marked:
        yield found.marked, "a version that is marked bad is not deployed"
    if found.overtaken:
        yield found.overtaken, "a returning host gets the last release of its environment"
    for stop in found.stops:
        yield f"Emergency stop: {stop}", "an emergency stop halts all rollouts in its scope"
    for freeze in found.freezes:
        yield f"Calendar: {freeze}", "no changes are made while a calendar closes the environment"


def _objection(what: str, rule: str) -> Objection:
    return Objection(what=what, rule=rule, who=_WHO, next_step=_AGAIN)
