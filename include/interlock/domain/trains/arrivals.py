"""The result of each passenger of a departure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import AwareDatetime, Field

from interlock.domain.canonical import Model
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import PASSENGER_ARRIVED, PASSENGER_DEPARTED, TRAIN_DEPARTED
from interlock.domain.records import Record

from .manifest import manifest_in


class Arrival(Record):
    """The result of each passenger of a departure."""

    train: str
    departure: AwareDatetime | None = None
    departed: bool
    reason: str = Field("", description="Why it did not depart")
    passengers: tuple[PassengerOutcome, ...] = ()

    @property
    def missing(self) -> tuple[PassengerOutcome, ...]:
        """The passengers on the manifest that did not arrive."""
        return tuple(one for one in self.passengers if one.boarded and one.outcome != "deployed")

    @property
    def without_passengers(self) -> str:
        """Say that it departed with nobody on board, and why each service stayed behind; empty: somebody was."""
        if not self.departed or any(one.boarded for one in self.passengers):
            return ""
        behind = "; ".join(f"{one.service}: {one.reason}" for one in self.passengers)
        return f"The train {self.train} departed without passengers. {behind}".rstrip()


class PassengerOutcome(Model):
    """The result of one passenger."""

    service: str
    version: str = ""
    boarded: bool = True
    outcome: str = Field(description="How its release ended; never begun; under way; not departed; or left behind")
    reason: str = ""
    run: str = Field("", description="Dag and run of its release")


Arrival.model_rebuild()


def arrival(train: str, entries: Sequence[Entry], reasons: Mapping[str, str], why_not: str) -> Arrival:
    """Return the result of a departure, by the train's chain.

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
