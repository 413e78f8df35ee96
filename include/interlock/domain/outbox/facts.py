"""What is said of a release to other systems: a statement for each fact of its chain, in their order.

A statement has everything that is known by then, and not only what is new: a record that is made late, or again, is
whole. A fact whose chain is not signed yet is not told: what others read must be provable.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from operator import not_
from typing import Any, Literal

from pydantic import AwareDatetime, Field

from interlock.domain.calendars.stops import EVERYTHING
from interlock.domain.canonical import Later, Model, Sha256, canonical_bytes
from interlock.domain.catalogue import PRODUCTION, ChangeType, Identifier
from interlock.domain.catalogue.policy_file import RecordMode
from interlock.domain.dag_names import TRAINS, is_rollback
from interlock.domain.ledger import kinds
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.runs import CHAINS
from interlock.domain.permits.permit import BEGINS, utc_text
from interlock.domain.records import DefectLine
from interlock.domain.trains.arrivals import Arrival
from interlock.domain.trains.manifest import Manifest

from .delivery import Cursor

Event = Literal[
    "planned", "frozen", "decided", "begun", "wave", "verified", "backed_out", "closed", "contradiction", "stop"
]
"""What a statement is about."""
Phase = Literal["planned", "assessed", "scheduled", "implementing", "review", "closed", "cancelled"]
"""Where the change is; each system's file says which of its states that is. Nothing goes back to an earlier phase."""
PHASES: tuple[Phase, ...] = ("planned", "assessed", "scheduled", "implementing", "review", "closed", "cancelled")
MAX_TEXT = 4000


class Document(Model):
    """A file for the record: the bytes that were digested, and so can be compared."""

    name: str
    media_type: str = "application/json"
    content: bytes


class Part(Model):
    """A wave of the rollout, or a passenger of a train, as a task of the record."""

    name: str = Field(description="Unique in the release: wave-1, passenger-bike-shop")
    title: str
    text: str = ""
    done: bool = False
    failed: bool = False


class Change(Model):
    """A release as other systems see it: a change."""

    chain: str
    service: str
    version: str
    change_type: ChangeType
    template: Later[str] = Field(None, description="Of a standard change: the template of the policy")
    environment: str
    title: str
    summary: str
    description: str
    requested_by: str
    tickets: tuple[str, ...]
    commit: str
    previous: str = Field("", exclude_if=not_, description="Version that production ran when the release was planned")
    rolls_back: bool = Field(
        False, exclude_if=not_, description="It is a rollback to a version that was deployed before"
    )
    risk: int
    phase: Phase = "planned"
    plan: Later[Sha256] = Field(None, description="Digest of the frozen rollout plan")
    back_out: str = Field("", exclude_if=not_, description="What the release goes back to, in words")
    planned_at: AwareDatetime
    planned_start: AwareDatetime
    began: Later[AwareDatetime] = None
    ended: Later[AwareDatetime] = None
    outcome: Later[str] = Field(None, description="How the release ended: one of domain/records.ReleaseOutcome")
    reason: str = Field("", exclude_if=not_, description="Of the outcome")
    waves: tuple[Part, ...] = ()
    defects: tuple[DefectLine, ...] = Field((), exclude_if=not_, description="That its tests found, or that it fixes")


class Statement(Model):
    """A fact, and everything that is known of the release by then."""

    told: Cursor
    at: AwareDatetime
    event: Event
    text: str = Field(max_length=MAX_TEXT, description="The fact, for people, with the entry that proves it")
    change: Change
    documents: tuple[Document, ...] = ()
    done: bool = Field(False, description="Of a verification: it succeeded")
    before: tuple[Event, ...] = Field((), description="Earlier facts whose texts and documents this has, too")
    is_late: bool = Field(
        False, description="The release ended before it changed anything: a record that cannot go to this phase stays"
    )


def records_of(entries: Sequence[Entry]) -> Mapping[Identifier, RecordMode]:
    """Return which systems have a record of a release, or of a train; the last resolution of the policy counts.

    Of a passenger, those that have one of its train are left out. A rehearsal changes nothing that others know of, so
    no system has one.
    """
    found: Mapping[Identifier, RecordMode] = {}
    for entry in entries:
        if entry.kind == kinds.POLICY_RESOLVED:
            flow = entry.payload.get("flow")
            every = flow.get("records") or {} if isinstance(flow, Mapping) else {}
            on_train = entry.payload.get("on_train") or ()
            found = {name: mode for name, mode in every.items() if name not in on_train}
        if entry.kind == kinds.MANIFEST_FROZEN:
            found = entry.payload.get("records") or {}
        if entry.kind == kinds.PLAN_MADE and entry.payload.get("rehearsal"):
            return {}
    return found


def unsigned_in(entries: Sequence[Entry], signed: int) -> Entry | None:
    """Return the first entry that is not told before it is signed, and is not; none: all are.

    :param signed: as for :func:`statements`.
    """
    return next((entry for entry in entries if entry.kind in _SIGNED and entry.sequence > signed), None)


def statements(
    entries: Sequence[Entry], signed: int, stops: Sequence[Entry] = (), scopes: Collection[str] = ()
) -> tuple[Statement, ...]:
    """Return what is said of a release, in order; nothing before it was planned for production.

    :param entries: its chain, verified.
    :param signed: up to which entry the installation's key signed the chain.
    :param stops: emergency stops and their ends, from the installation's chain.
    :param scopes: what a stop names to concern the release: its service and business unit.
    """
    told = tuple(_told(entries, signed, stops, {EVERYTHING, *scopes}))
    if not told or told[-1].change.phase != "cancelled":
        return told
    # What was decided may need an approval in the other system that is not given any more.
    return tuple(one.model_copy(update={"is_late": one.change.phase != "cancelled"}) for one in told)


def gathered(said: Sequence[Statement], longest: int = MAX_TEXT) -> Iterator[Statement]:
    """Yield statements of a release as few ones, in order: each has the texts and documents of those before it.

    :param longest: characters of a text.
    """
    at_once: Statement | None = None
    for one in said:
        text = f"{at_once.text}\n\n{one.text}" if at_once else one.text
        if at_once is None or len(text) > longest:
            if at_once is not None:
                yield at_once
            at_once = one
            continue
        earlier = {"before": (*at_once.before, at_once.event), "documents": (*at_once.documents, *one.documents)}
        at_once = one.model_copy(update={"text": text, **earlier})
    if at_once is not None:
        yield at_once


def _told(
    entries: Sequence[Entry], signed: int, stops: Sequence[Entry], scopes: Collection[str]
) -> Iterator[Statement]:
    change: Change | None = None
    told = Cursor()
    for entry in _merged(entries, stops, scopes):
        if entry.kind in _SIGNED and entry.sequence > signed:
            return  # what comes later is told later, too
        own = entry.chain == entries[0].chain
        told = Cursor(entry.sequence, told.stop) if own else Cursor(told.entry, entry.sequence)
        if entry.kind == kinds.PLAN_MADE:
            if entry.payload["rehearsal"] or entry.payload["target"] != PRODUCTION:
                return
            change = _planned(entry)
        if entry.kind == kinds.MANIFEST_FROZEN:
            change = _of_train(entry)
        if change is not None and entry.kind in (kinds.QUALITY_JUDGED, kinds.PATH_JUDGED):
            change = _with_defects(change, entry)
        if change is None or (about := _ABOUT.get(entry.kind)) is None or (said := about(change, entry)) is None:
            continue
        event, text, change, documents = said
        proof = f"[Interlock, entry {entry.sequence} of {entry.chain}, sha256 {entry.hash[:16]}, {utc_text(entry.at)}]"
        text = f"{text[: MAX_TEXT - len(proof) - 1]}\n{proof}"
        done = entry.kind == kinds.VERIFICATION_JUDGED and bool(entry.payload["success"])
        yield Statement(told=told, at=entry.at, event=event, text=text, change=change, documents=documents, done=done)


def _merged(entries: Sequence[Entry], stops: Sequence[Entry], scopes: Collection[str]) -> Sequence[Entry]:
    """Return the entries of a release with the stops that were declared while it was under way, by time."""
    if not entries:
        return ()
    declared = {str(one.payload.get("id")): one.payload.get("scope") for one in stops if "scope" in one.payload}
    end = next((one.at for one in entries if one.kind in (kinds.RELEASE_CLOSED, kinds.TRAIN_ARRIVED)), None)
    concerned = [
        one
        for one in stops
        if declared.get(str(one.payload.get("id"))) in scopes
        and entries[0].at <= one.at
        and (end is None or one.at < end)
    ]
    # The order of a chain is that of its sequence; times may be equal.
    merged: list[Entry] = []
    for entry in entries:
        while concerned and concerned[0].at < entry.at:
            merged.append(concerned.pop(0))
        merged.append(entry)
    return (*merged, *concerned)


_Said = tuple[Event, str, Change, tuple[Document, ...]]


def _planned(entry: Entry) -> Change:
    plan = entry.payload
    commits = [str(one["subject"]) for one in plan["commits"]]
    lines = (
        f"{plan['summary']}",
        "",
        f"Version {plan['version']} (commit {plan['commit']['sha']}); in production: {plan['previous_version']}.",
        f"Requested by {plan['requested_by']}. Risk {plan['risk']['score']} of 100.",
        *([f"Tickets: {', '.join(plan['tickets'])}"] if plan["tickets"] else []),
        *([f"{plan['commit_count']} commits:", *(f"- {one}" for one in commits[:20])] if commits else []),
    )
    return Change(
        chain=entry.chain,
        service=plan["service"],
        version=plan["version"],
        change_type=plan["change_type"],
        template=plan["template"],
        environment=plan["target"],
        title=f"Release {plan['service']} {plan['version']} to {plan['target']}",
        summary=plan["summary"],
        description="\n".join(lines)[:MAX_TEXT],
        requested_by=plan["requested_by"],
        tickets=tuple(plan["tickets"]),
        commit=plan["commit"]["sha"],
        previous=plan["previous_version"] or "",
        rolls_back=is_rollback(entry.chain.removeprefix(CHAINS)),
        risk=plan["risk"]["score"],
        planned_at=entry.at,
        planned_start=max(datetime.fromisoformat(plan["not_before"]), entry.at) if plan["not_before"] else entry.at,
    )


def _of_train(entry: Entry) -> Change:
    """Return the change of a train: its passengers are the tasks."""
    manifest = Manifest.model_validate(entry.payload, extra="ignore")
    passengers = [(one, f"{one.service} {one.version}") for one in manifest.passengers]
    departs = utc_text(manifest.departure)
    lines = (
        f"The train {manifest.title} departs at {departs}, with one decision about all of it.",
        *(f"- {name}: {one.summary} (commit {one.commit}; in production: {one.replaces})" for one, name in passengers),
    )
    return Change(
        chain=entry.chain,
        service=manifest.train,
        version=departs,
        change_type=manifest.change_type,
        environment=manifest.environment,
        title=f"Train {manifest.title}, {departs}: {', '.join(name for _, name in passengers)}",
        summary="; ".join(f"{name}: {one.summary}" for one, name in passengers),
        description="\n".join(lines)[:MAX_TEXT],
        requested_by=", ".join(manifest.requested_by) or "the timetable",
        tickets=tuple(dict.fromkeys(ticket for one, _ in passengers for ticket in one.tickets)),
        commit="",
        risk=max((one.risk for one, _ in passengers), default=0),
        phase="assessed",
        plan=str(entry.payload["digest"]),
        back_out="Each passenger goes back to the version that it replaces.",
        planned_at=entry.at,
        planned_start=max(manifest.departure, entry.at),
        waves=tuple(Part(name=f"passenger-{one.service}", title=name, text=one.summary) for one, name in passengers),
    )


def _of_manifest(change: Change, entry: Entry) -> _Said:
    digest = str(change.plan)
    manifest = {name: value for name, value in entry.payload.items() if name != "digest"}
    text = f"Manifest frozen: {len(change.waves)} releases. SHA-256 of the manifest: {digest}."
    return "frozen", text, change, (Document(name=f"manifest-{digest[:12]}.json", content=canonical_bytes(manifest)),)


def _of_departure(change: Change, entry: Entry) -> _Said:
    change = _at(change, "implementing").model_copy(update={"began": entry.at})
    return "begun", "The train departed.", change, ()


def _of_passenger(change: Change, entry: Entry) -> _Said:
    told = entry.payload
    outcome, name = told.get("outcome"), f"{told['service']} {told['version']}"
    text = f"The release of {name} began: {told['run']}."
    if outcome is None:
        return "wave", text, change, ()
    text = f"{name} ended: {outcome.replace('_', ' ')}. {told['reason']}".rstrip()
    return "wave", text, _with_part(change, f"passenger-{told['service']}", text, failed=outcome != "deployed"), ()


def _of_arrival(change: Change, entry: Entry) -> _Said:
    came = Arrival.model_validate(entry.payload, extra="ignore")
    lost = "; ".join(f"{one.service} {one.version}: {one.outcome.replace('_', ' ')}" for one in came.missing)
    outcome = "deployed" if came.departed and not lost else "failed" if came.departed else "rejected"
    reason = f"Not arrived: {lost}." if lost and came.departed else came.reason
    phase: Phase = "closed" if change.began is not None else "cancelled"
    ended = {"phase": phase, "ended": entry.at, "outcome": outcome, "reason": reason}
    text = f"The train {'arrived' if came.departed else 'did not depart'}. {reason}".rstrip()
    return "closed", text, change.model_copy(update=ended), ()


def _with_defects(change: Change, entry: Entry) -> Change:
    """Return a change with the defects of a quality report; of a defect that several reports have, the last counts."""
    found = {one.id: one for one in change.defects}
    for row in entry.payload.get("defects") or ():
        one = DefectLine.model_validate(row)
        found[one.id] = one
    return change.model_copy(update={"defects": tuple(found.values())})


def _of_plan(change: Change, entry: Entry) -> _Said:
    return "planned", f"Planned: {change.title}, a {change.change_type} change.", change, ()


def _of_frozen(change: Change, entry: Entry) -> _Said:
    digest = str(entry.payload["digest"])
    plan = {name: value for name, value in entry.payload.items() if name != "digest"}
    waves = tuple(
        Part(name=f"wave-{number}", title=f"Wave {number} of {len(plan['waves'])}", text=_listed(wave))
        for number, wave in enumerate(plan["waves"], 1)
    )
    start = datetime.fromisoformat(plan["not_before"]) if plan["not_before"] else entry.at
    versions = sorted({str(one) for one in plan["back_out"]["versions"].values()})
    change = _at(change, "assessed").model_copy(
        update={
            "plan": digest,
            "waves": waves,
            "planned_start": max(start, entry.at),
            "back_out": f"Every changed host goes back to the version that it ran before: {', '.join(versions)}.",
        }
    )
    hosts = sum(len(wave) for wave in plan["waves"])
    decide = f" Votes count until {utc_text(datetime.fromisoformat(plan['decide_by']))}." if plan["decide_by"] else ""
    text = f"Rollout plan frozen: {hosts} hosts in {len(waves)} waves. SHA-256 of the plan: {digest}.{decide}"
    return "frozen", text, change, (Document(name=f"rollout-plan-{digest[:12]}.json", content=canonical_bytes(plan)),)


def is_train(chain: str) -> bool:
    """Tell whether a chain is that of a train."""
    return chain.startswith(f"{CHAINS}{TRAINS}")


def _listed(hosts: Sequence[Mapping[str, Any]]) -> str:
    names = [str(one["name"]) for one in hosts]
    more = f" and {len(names) - 50} more" if len(names) > 50 else ""
    return f"Hosts: {', '.join(names[:50])}{more}."


_SUBJECTS = {
    kinds.PLAN_DECIDED: "Senior management on the release plan",
    kinds.ACCEPTANCE_DECIDED: "Functional acceptance",
    kinds.BOARD_DECIDED: "Board on the frozen rollout plan",
}


def _of_decision(change: Change, entry: Entry) -> _Said | None:
    decision = entry.payload
    on_rollout = entry.kind == kinds.BOARD_DECIDED
    if not (decision["required"] or on_rollout):
        return None
    votes = [f"{vote['user']}: {vote['choice']}" for vote in decision["votes"] if vote.get("user")]
    result = "approved" if decision["approved"] else "not approved"
    if not decision["required"]:
        result = "approved: the policy requires no vote"
    subject = "Board on the manifest of the train" if is_train(entry.chain) else _SUBJECTS[entry.kind]
    text = f"{subject}: {result}. {decision['reason']} Decided on SHA-256 {decision['digest']}."
    if votes:
        text += f" Votes: {'; '.join(votes)}."
    if not on_rollout:
        return "decided", text, change, ()
    name = f"board-decision-{str(decision['digest'])[:12]}.json"
    document = Document(name=name, content=canonical_bytes(entry))
    return "decided", text, _at(change, "scheduled") if decision["approved"] else change, (document,)


def _of_permit(change: Change, entry: Entry) -> _Said | None:
    permit = entry.payload["permit"]
    if permit["purpose"] not in BEGINS or change.began is not None:
        return None
    change = _at(change, "implementing").model_copy(update={"began": entry.at})
    return "begun", f"Implementation began, with the permit {permit['id']}.", change, ()


def _of_wave(change: Change, entry: Entry) -> _Said:
    report = entry.payload
    results = report["results"]
    failed = [
        f"{one['host']}: {one['error'] or one['outcome']}" for one in results if one["after"] != report["release"]
    ]
    text = f"{len(results) - len(failed)} of {len(results)} hosts run {report['release']}."
    if failed:
        text += f" Not: {'; '.join(failed[:20])}."
    change = _with_part(change, f"wave-{report['number']}", text, failed=bool(failed))
    return "wave", f"Wave {report['number']}: {text}", change, ()


def _with_part(change: Change, name: str, text: str, *, failed: bool) -> Change:
    """Return a change with a part of it done."""
    done = {"done": True, "failed": failed}
    waves = (
        one.model_copy(update={"text": f"{one.text} {text}", **done}) if one.name == name else one
        for one in change.waves
    )
    return change.model_copy(update={"waves": tuple(waves)})


def _of_verification(change: Change, entry: Entry) -> _Said:
    result = "production behaves as before" if entry.payload["success"] else "production does not behave as before"
    return "verified", f"Verified: {result}.", _at(change, "review"), ()


def _of_back_out(change: Change, entry: Entry) -> _Said:
    report = entry.payload
    verified = "every host answers with its earlier version" if report["verified"] else "NOT every host could be proven"
    return "backed_out", f"Backed out: {verified}. Reason: {report['because']}", _at(change, "review"), ()


def _of_end(change: Change, entry: Entry) -> _Said:
    outcome = entry.payload
    phase: Phase = "closed" if change.began is not None else "cancelled"
    if PHASES.index(change.phase) < PHASES.index("closed"):
        change = change.model_copy(update={"phase": phase, "ended": entry.at})
    change = change.model_copy(update={"outcome": outcome["outcome"], "reason": outcome["reason"]})
    text = f"The release ended: {outcome['outcome'].replace('_', ' ')}. Stage: {outcome['stage']}. {outcome['reason']}"
    return "closed", text, change, ()


def _of_finding(change: Change, entry: Entry) -> _Said:
    return "contradiction", f"Finding: {entry.payload.get('what')} The release gets no permit.", change, ()


def _of_stop(change: Change, entry: Entry) -> _Said:
    stop = entry.payload
    if entry.kind == kinds.EMERGENCY_STOP_LIFTED:
        return "stop", f"Emergency stop {stop['id']} lifted by {entry.actor}.", change, ()
    text = f"Emergency stop of {stop['scope']} by {stop['by']}, until {stop['until']}: {stop['reason']}"
    return "stop", text, change, ()


def _at(change: Change, phase: Phase) -> Change:
    """Return the change in a phase, unless it is further already."""
    if PHASES.index(phase) <= PHASES.index(change.phase):
        return change
    return change.model_copy(update={"phase": phase})


_ABOUT: Mapping[str, Callable[[Change, Entry], _Said | None]] = {
    kinds.PLAN_MADE: _of_plan,
    kinds.ROLLOUT_FROZEN: _of_frozen,
    kinds.MANIFEST_FROZEN: _of_manifest,
    kinds.TRAIN_DEPARTED: _of_departure,
    kinds.PASSENGER_DEPARTED: _of_passenger,
    kinds.PASSENGER_ARRIVED: _of_passenger,
    kinds.TRAIN_ARRIVED: _of_arrival,
    **dict.fromkeys(_SUBJECTS, _of_decision),
    kinds.PERMIT_ISSUED: _of_permit,
    kinds.WAVE_DEPLOYED: _of_wave,
    kinds.VERIFICATION_JUDGED: _of_verification,
    kinds.BACK_OUT_DONE: _of_back_out,
    kinds.RELEASE_CLOSED: _of_end,
    kinds.FINDING: _of_finding,
    kinds.EMERGENCY_STOP_DECLARED: _of_stop,
    kinds.EMERGENCY_STOP_LIFTED: _of_stop,
}
_SIGNED = frozenset(
    {kinds.ROLLOUT_FROZEN, kinds.MANIFEST_FROZEN, kinds.BOARD_DECIDED, kinds.RELEASE_CLOSED, kinds.TRAIN_ARRIVED}
)
"""Facts that are told when the head of their chain is signed."""
