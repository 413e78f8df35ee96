"""Who boards a train: the manifest, frozen at the cut-off; its digest is what the board decides on.

A passenger boards if there is a version of it that is ready and that does not run already. A passenger that is not
ready stays behind, or the train waits or does not depart, as its file says; passengers that depend on one that stays
behind stay behind, too. A passenger with nothing new delays no other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from operator import not_
from typing import Literal

from pydantic import AwareDatetime, Field

from interlock.domain.canonical import Later, Model, Sha256, sha256_of
from interlock.domain.catalogue import ChangeType, Identifier, UserName
from interlock.domain.catalogue.policy_file import RecordMode
from interlock.domain.catalogue.train_file import Train
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import MANIFEST_FROZEN, PLAN_MADE
from interlock.domain.records import Record

CONDUCTOR = "interlock_conductor"
"""The service account that requests the passengers' releases. It is not a person and cannot decide."""


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
    by: UserName | None = Field(
        None, description="The person who named this version in the train's file; none: a rule selected it"
    )
    artifact: Later[Sha256] = Field(None, description="Digest of the artifact that its own pipeline built; none: ours")


class LeftBehind(Model):
    """A service of the train that is not on board."""

    service: str
    late: bool = Field(description="It should have boarded; false: it has no new version")
    why: str


Found = Boarded | LeftBehind


class PlannedRun(Record):
    """When boarding opens and closes, and when the train departs."""

    train: str
    departure: AwareDatetime
    cut_off: AwareDatetime
    asked_by: str = Field(
        "", description="User name of the person who triggered the departure; empty: the timetable did"
    )
    conflicts: tuple[str, ...] = Field((), description="Its scheduling conflicts, in words")
    file: Later[Sha256] = Field(
        None, description="Digest of the train's file when boarding opened; none: of before there was one"
    )


class Manifest(Record):
    """The passengers of one departure of a train."""

    train: str
    title: str
    departure: AwareDatetime
    environment: str
    change_type: ChangeType
    passengers: tuple[Boarded, ...]
    left: tuple[LeftBehind, ...] = ()
    requested_by: tuple[str, ...] = Field(description="People who influenced who boards; they do not vote")
    excluded: tuple[str, ...] = Field(
        (), description="Further people who do not vote: the authors, if the policy says so"
    )
    one_decision: bool = Field(description="The vote on the manifest replaces the votes on the plans of the passengers")
    decide_by: AwareDatetime | None = Field(
        None, description="Time after which a missing answer is a rejection; none: no vote is required"
    )
    file: Sha256 = Field(description="Digest of the train's file")
    records: dict[Identifier, RecordMode] = Field(
        {},
        exclude_if=not_,
        description="Systems that have one change of the train, with the passengers as its tasks, and none of each",
    )

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest's canonical JSON: what a ballot names."""
        return sha256_of(self)

    @property
    def barred(self) -> tuple[str, ...]:
        """All people who do not vote on it, in addition to the conductor."""
        return tuple(dict.fromkeys((*self.requested_by, *self.excluded)))

    def passenger(self, service: str) -> Boarded | None:
        """Return a passenger; None if the service is not on board."""
        return next((one for one in self.passengers if one.service == service), None)

    def why_left(self, service: str) -> str:
        """Return why a service is not on board."""
        return next((one.why for one in self.left if one.service == service), "it is not on the train")


class Lateness(Model):
    """How the train treats passengers that are not ready."""

    then: Literal["depart", "wait", "stop"]
    because: tuple[LeftBehind, ...] = ()


def resolve_lateness(train: Train, found: Sequence[Found]) -> Lateness:
    """Say what a train does at its cut-off: the strictest of what the rules of its late passengers say."""
    late = [one for one in found if isinstance(one, LeftBehind) and one.late]
    for rule in ("stop", "wait"):
        if because := tuple(one for one in late if train.when_late(one.service) == rule):
            return Lateness(then="stop" if rule == "stop" else "wait", because=because)
    return Lateness(then="depart", because=tuple(late))


def boarding(train: Train, found: Mapping[str, Found]) -> tuple[tuple[Boarded, ...], tuple[LeftBehind, ...]]:
    """Return who boards, each passenger after its dependencies, and who stays behind."""
    boarded: list[Boarded] = []
    left: dict[str, LeftBehind] = {}
    for service in sort_services({one.service: one.after for one in train.passengers}):
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


def sort_services(after: Mapping[str, Collection[str]]) -> list[str]:
    """Return services so that each comes after its dependencies; otherwise in the listed order.

    :param after: each service, and its dependencies; without circles, which a train's file refuses.
    """
    ordered: list[str] = []
    left = list(after)
    while left:
        service = next(name for name in left if not set(after[name]) & set(left))
        left.remove(service)
        ordered.append(service)
    return ordered


def manifest_in(entries: Sequence[Entry]) -> Manifest | None:
    """Return the manifest that was frozen last, as the train's chain has it; None: none was, or it was not this.

    :param entries: of the train's chain.
    """
    frozen = next((entry.payload for entry in reversed(entries) if entry.kind == MANIFEST_FROZEN), None)
    if frozen is None:
        return None
    found = Manifest.from_xcom({name: value for name, value in frozen.items() if name != "digest"})
    return found if found.digest == frozen.get("digest") else None


def services_in(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield the service of a release by its chain, or those of a train's passengers; none before they are known."""
    for entry in entries:
        if entry.kind == PLAN_MADE:
            yield str(entry.payload["service"])
        elif entry.kind == MANIFEST_FROZEN:
            yield from (str(passenger["service"]) for passenger in entry.payload["passengers"])
