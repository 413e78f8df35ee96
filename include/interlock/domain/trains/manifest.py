"""Who boards a train: the manifest, frozen at the cut-off; its digest is what the board decides on.

A passenger boards if there is a version of it that is ready and that does not run already. A passenger that is not
ready stays behind, or the train waits or does not depart, as its file says; passengers that depend on one that stays
behind stay behind, too. A passenger with nothing new delays no other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, Field

from interlock.domain.canonical import Model, Sha256, sha256_of
from interlock.domain.catalogue import ChangeType, UserName
from interlock.domain.catalogue.train_file import Train
from interlock.domain.change.request import RISK_PREFIX
from interlock.domain.errors import PolicyViolation
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import MANIFEST_FROZEN, PASSENGER_ARRIVED, PASSENGER_DEPARTED, TRAIN_DEPARTED
from interlock.domain.records import Record, RolloutPlan

CONDUCTOR = "interlock_conductor"
"""The service account that asks for the passengers' releases. It is nobody: it decides on nothing."""


class Boarded(Model):
    """A passenger: exactly what is released of a service."""

    service: str
    version: str
    ref: str = Field(description="The tag or name by which it was found")
    commit: str = Field(pattern=r"^[0-9a-f]{40}$")
    replaces: str | None = Field(description="The version that was deployed last, by the ledger; none: none was")
    commits: int = Field(description="How many commits it adds to that")
    risk: int = Field(ge=0, le=100, description="By the policy's formula, when it boarded")
    answers: dict[str, bool] = Field(description="To the policy's risk questions")
    summary: str
    tickets: tuple[str, ...] = ()
    after: tuple[str, ...] = Field((), description="Passengers that arrive before it departs")
    why: str = Field(description="Why just this version boards, in words")
    authors: tuple[UserName, ...] = Field((), description="Who of the board book wrote it")
    by: UserName | None = Field(None, description="Who named this version in the train's file; none: a rule did")


class LeftBehind(Model):
    """A service of the train that is not on board."""

    service: str
    late: bool = Field(description="It should have been; false: there is nothing new of it")
    why: str


Found = Boarded | LeftBehind


class PlannedRun(Record):
    """When a train takes passengers and departs."""

    train: str
    departure: AwareDatetime
    cut_off: AwareDatetime
    asked_by: str = Field("", description="User name of who sent the train by hand; empty: the timetable did")
    conflicts: tuple[str, ...] = Field((), description="What clashes with it, in words")
    file: Sha256 | None = Field(
        None,
        description="Digest of the train's file when boarding opened; none: of before there was one",
        exclude_if=lambda digest: digest is None,  # as what was opened then is on record
    )


class Manifest(Record):
    """Who is on board of one departure of a train."""

    train: str
    title: str
    departure: AwareDatetime
    environment: str
    change_type: ChangeType
    passengers: tuple[Boarded, ...]
    left: tuple[LeftBehind, ...] = ()
    requested_by: tuple[str, ...] = Field(description="Who had a hand in who boards: none of them votes")
    excluded: tuple[str, ...] = Field((), description="Who else does not vote: the authors, if the policy says so")
    one_decision: bool = Field(description="The vote on it stands for votes on the passengers' plans")
    decide_by: AwareDatetime | None = Field(None, description="When silence becomes a rejection; none: nobody is asked")
    file: Sha256 = Field(description="Digest of the train's file")

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest's canonical JSON: what a ballot names."""
        return sha256_of(self)

    @property
    def barred(self) -> tuple[str, ...]:
        """Everybody who does not vote on it, beside the conductor."""
        return tuple(dict.fromkeys((*self.requested_by, *self.excluded)))

    def passenger(self, service: str) -> Boarded | None:
        """Return a passenger; None if the service is not on board."""
        return next((one for one in self.passengers if one.service == service), None)

    def why_left(self, service: str) -> str:
        """Say why a service is not on board."""
        return next((one.why for one in self.left if one.service == service), "it is not on the train")


class Lateness(Model):
    """What the train does about passengers who are not ready."""

    then: Literal["depart", "wait", "stop"]
    because: tuple[LeftBehind, ...] = ()


def when_late(train: Train, found: Sequence[Found]) -> Lateness:
    """Say what a train does at its cut-off: the strictest of what the rules of its late passengers say."""
    late = [one for one in found if isinstance(one, LeftBehind) and one.late]
    for rule in ("stop", "wait"):
        if because := tuple(one for one in late if train.when_late(one.service) == rule):
            return Lateness(then="stop" if rule == "stop" else "wait", because=because)
    return Lateness(then="depart", because=tuple(late))


def boarding(train: Train, found: Mapping[str, Found]) -> tuple[tuple[Boarded, ...], tuple[LeftBehind, ...]]:
    """Return who boards, in an order in which nobody comes before what they depend on, and who stays behind."""
    boarded: list[Boarded] = []
    left: dict[str, LeftBehind] = {}
    for service in in_order({one.service: one.after for one in train.passengers}):
        one = found[service]
        missed = [name for name in train.passenger(service).after if name in left and left[name].late]
        if isinstance(one, LeftBehind):
            left[service] = one
        elif missed:
            why = f"it depends on {', '.join(missed)}, which stays behind"
            left[service] = LeftBehind(service=service, late=True, why=why)
        else:
            boarded.append(one)
    return tuple(boarded), tuple(left.values())


def in_order(after: Mapping[str, Collection[str]]) -> list[str]:
    """Return services so that none comes before what it is after; otherwise as they are listed.

    :param after: each service, and what it is after; no circle, which a train's file refuses.
    """
    ordered: list[str] = []
    left = list(after)
    while left:
        service = next(name for name in left if not set(after[name]) & set(left))
        left.remove(service)
        ordered.append(service)
    return ordered


# --- a passenger's release -------------------------------------------------------------------------------------------


def passenger_form(manifest: Manifest, one: Boarded, chain: str) -> dict[str, Any]:
    """Return the form with which the conductor asks for a passenger's release.

    :param chain: the train's chain in the ledger.
    """
    return {
        "ref": one.commit,
        "version": one.version,
        "change_type": manifest.change_type.value,
        "summary": one.summary,
        "tickets": list(one.tickets),
        **{RISK_PREFIX + key: True for key, yes in sorted(one.answers.items()) if yes},
        "train": chain,
    }


def passenger_run(train: str, departure: datetime) -> str:
    """Return the run id of the passengers' releases of a departure: asked for again, it is the same run."""
    return f"train__{train}__{departure:%Y-%m-%dT%H:%M:%S}"


def manifest_in(entries: Sequence[Entry]) -> Manifest | None:
    """Return the manifest that was frozen last, as the train's chain has it; None: none was, or it was not this.

    :param entries: of the train's chain.
    """
    frozen = next((entry.payload for entry in reversed(entries) if entry.kind == MANIFEST_FROZEN), None)
    if frozen is None:
        return None
    found = Manifest.from_xcom({name: value for name, value in frozen.items() if name != "digest"})
    return found if found.digest == frozen.get("digest") else None


def objection(
    manifest: Manifest | None, *, chain: str, service: str, version: str, commit: str, change_type: str, requester: str
) -> str:
    """Say why a release is none of a train's passengers; empty: it is.

    :param chain: the train's chain, as the release names it.
    :param commit: what is released, as a full commit id.
    :param requester: who asked for the release.
    """
    if requester != CONDUCTOR:
        return f"only {CONDUCTOR} asks for the releases of a train, and {requester} asked for this one"
    if manifest is None:
        return f"by the ledger {chain} froze no manifest"
    one = manifest.passenger(service)
    if one is None:
        return f"{service} is not on the manifest of {chain}: {manifest.why_left(service)}"
    if (one.version, one.commit) != (version, commit):
        return (
            f"the manifest of {chain} names {service} {one.version} at {one.commit[:12]}, and this is {version} at "
            f"{commit[:12]}"
        )
    if manifest.change_type.value != str(change_type):
        return f"the train's change type is {manifest.change_type.value}, and this is {change_type}"
    return ""


def refuse_stranger(why: str) -> None:
    """Raise a PolicyViolation unless there is no objection to a passenger."""
    if why:
        raise PolicyViolation(
            f"This release is no passenger of a train: {why}.",
            rule="a train's releases are what its frozen manifest names, and its conductor asks for them",
            who="whoever keeps the train's file",
            next_step="release it outside of the train, or let it board the next one",
        )


def objection_to_plan(manifest: Manifest | None, plan: RolloutPlan) -> str:
    """Say why a rollout plan is not of what its train's manifest names; empty: it is."""
    if plan.train is None:
        return ""
    if manifest is not None and manifest.digest != plan.train.manifest:
        return f"the train {plan.train.chain} froze another manifest than {plan.train.manifest[:12]}"
    return objection(
        manifest,
        chain=plan.train.chain,
        service=plan.service,
        version=plan.version,
        commit=plan.commit,
        change_type=plan.change_type,
        requester=plan.requested_by,
    )


# --- what became of a departure --------------------------------------------------------------------------------------


class Arrival(Record):
    """What became of each passenger of a departure."""

    train: str
    departure: AwareDatetime | None = None
    departed: bool
    reason: str = Field("", description="Why it did not depart")
    passengers: tuple[PassengerOutcome, ...] = ()

    @property
    def missing(self) -> tuple[PassengerOutcome, ...]:
        """Those on the manifest who did not arrive."""
        return tuple(one for one in self.passengers if one.boarded and one.outcome != "deployed")


class PassengerOutcome(Model):
    """What became of one passenger."""

    service: str
    version: str = ""
    boarded: bool = True
    outcome: str = Field(description="How its release ended; never begun; under way; not departed; or left behind")
    reason: str = ""
    run: str = Field("", description="Dag and run of its release")


def arrival(train: str, entries: Sequence[Entry], reasons: Mapping[str, str], why_not: str) -> Arrival:
    """Return what became of a departure, by the train's chain.

    :param reasons: service: why its task failed, of those who are not back.
    :param why_not: why the train did not depart, if it did not.
    """
    manifest = manifest_in(entries)
    back, gone = (
        {str(entry.payload["service"]): entry.payload for entry in entries if entry.kind == kind}
        for kind in (PASSENGER_ARRIVED, PASSENGER_DEPARTED)
    )
    departed = any(entry.kind == TRAIN_DEPARTED for entry in entries)
    if manifest is None:
        return Arrival(train=train, departed=False, reason=why_not)
    outcomes = []
    for one in manifest.passengers:
        came, left = back.get(one.service), gone.get(one.service)
        outcomes.append(
            PassengerOutcome(
                service=one.service,
                version=one.version,
                outcome=str(came["outcome"]) if came else "under way" if left else "not departed",
                reason=str(came["reason"]) if came else reasons.get(one.service, why_not),
                run=str((came or left or {}).get("run", "")),
            )
        )
    outcomes += [
        PassengerOutcome(service=one.service, boarded=False, outcome="left behind", reason=one.why)
        for one in manifest.left
    ]
    return Arrival(
        train=train,
        departure=manifest.departure,
        departed=departed,
        reason="" if departed else why_not,
        passengers=tuple(outcomes),
    )


Arrival.model_rebuild()
