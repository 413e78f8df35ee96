"""Overtaking: a release goes before others of its service that it was requested after, as the policy allows.

Airflow runs one release of a service at a time, in the order of the requests. A release whose change type may overtake
others ends those before it that have not begun their rollout. They do not go on later: plan, conflicts, risk and
quality were judged against a production that they would not meet.

The overtaking is an entry of the overtaken release's chain. The database of the ledger writes either that entry or a
permit to change something, under the lock of the chain (``adapters/ledger/migrations/rightful.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pydantic import AwareDatetime, Field

from interlock.domain.canonical import Model
from interlock.domain.catalogue import ChangeType, Flow
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import BASELINE_MEASURED, PERMIT_ISSUED, RELEASE_OVERTAKEN
from interlock.domain.trigger_form import Form

OVERTAKEN_RULE = (
    "a release that was overtaken gets no permit, and one that has a permit to change hosts is not overtaken"
)


class Overtaking(Model):
    """A release of the same service went first."""

    release: str = Field(description="Dag and run of the overtaken release")
    change_type: ChangeType = Field(description="Of the overtaken release")
    by: str = Field(description="Dag and run of the release that goes first")
    by_change_type: ChangeType
    by_version: str
    requested_by: str = Field(description="User name of who requested the release that goes first")
    reason: str = Field(description="Its summary")
    rule: str = Field(description="The key of the policy that allows it, and the file")
    run: str = Field(description="Dag and run in which it was recorded")
    at: AwareDatetime

    @property
    def sentence(self) -> str:
        """Say which release overtook this one, and why that is allowed."""
        run = self.by.partition("/")[2]
        return (
            f"The {self.by_change_type} release {self.by_version} (run {run}), requested by {self.requested_by}, "
            f"overtook this {self.change_type} release: {self.reason.rstrip('.')}. Rule: {self.rule}."
        )


class OvertakingRequest(Form):
    """The form of ``overtake_releases``."""

    service: str = Field(description="The service whose releases are looked at.")


class QueuedRelease(Model):
    """A release that has not ended, in the queue of its service.

    :param begun: it changes its hosts, or may do so at any moment.
    :param called_off: it was withdrawn or overtaken.
    """

    dag_id: str
    run_id: str
    asked_at: AwareDatetime
    requested_by: str
    change_type: ChangeType
    version: str
    summary: str
    rehearsal: bool = False
    begun: bool = False
    called_off: bool = False

    @property
    def run(self) -> str:
        """Its Dag and run."""
        return f"{self.dag_id}/{self.run_id}"


def find_overtaken(
    queue: Iterable[QueuedRelease], flows: Mapping[ChangeType, Flow]
) -> Iterator[tuple[QueuedRelease, QueuedRelease]]:
    """Yield each release that is overtaken, with the first one that may overtake it.

    A rehearsal changes nothing in production, so it overtakes nothing.

    :param queue: the releases of one service.
    :param flows: of each change type, for this service.
    """
    in_order = sorted(queue, key=lambda one: one.asked_at)
    for place, ahead in enumerate(in_order):
        if ahead.begun or ahead.called_off:
            continue
        for later in in_order[place + 1 :]:
            goes_on = not (later.rehearsal or later.called_off)
            if goes_on and ahead.change_type in flows[later.change_type].overtakes:
                yield ahead, later
                break


def has_begun(entries: Iterable[Entry], *, rehearsal: bool = False) -> bool:
    """Tell by its chain whether a release changes its hosts, or may do so: it has a permit for it.

    :param rehearsal: it needs no permit, and begins when its baseline is measured.
    """
    return any(_permits_change(entry) or (rehearsal and entry.kind == BASELINE_MEASURED) for entry in entries)


def overtaking_in(entries: Sequence[Entry]) -> Overtaking | None:
    """Return by which release a release was overtaken; none: it was not, or it had a permit before."""
    for entry in entries:
        if _permits_change(entry):
            return None
        if entry.kind == RELEASE_OVERTAKEN:
            return Overtaking.model_validate(entry.payload)
    return None


def _permits_change(entry: Entry) -> bool:
    return entry.kind == PERMIT_ISSUED and entry.payload.get("permit", {}).get("purpose") != "inspect"
