"""Approvals of a change in another system, where policy makes that system an authority: which of them count.

They are a primary record: who approved, when, and for which frozen plan. Only a person who approved with their own
account counts. An approval by a service account, or one that somebody else set, stands for nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from pydantic import AwareDatetime, Field

from interlock.domain.canonical import Model, Sha256
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.events import AnswerElsewhere
from interlock.domain.ledger.kinds import RECORD_ANSWERED
from interlock.domain.ledger.runs import CHAINS
from interlock.domain.records import Record, RolloutPlan


class Approver(Model):
    """An answer of one who was asked in the other system."""

    user: str = Field(description="User name there")
    state: str = Field(description="In the other system's words; approved and rejected count")
    set_by: str = Field(description="User name there of the account that set the state")
    at: AwareDatetime


class RecordRead(Record):
    """A change as it was read in an authority."""

    system: str
    number: str
    plan: str = Field(description="SHA-256 of the plan that the change names; empty: none")
    approved: bool = Field(description="The other system says that the change is approved")
    rejected: bool = Field(description="Somebody rejected it, or it was cancelled")
    answers: tuple[Approver, ...] = ()


def read_in_events(system: str, entries: Iterable[Entry], sources: Collection[str], plan: Sha256) -> RecordRead:
    """Return what a system said of a release in signed events: of each person, the last answer on a plan counts.

    Of answers at the same time, one that takes an approval back counts.

    :param entries: the release's chain; of the answers, those that the API server signed.
    :param sources: of events, in policy.yaml, that approve for the system now.
    """
    entries = tuple(entries)
    every = [
        AnswerElsewhere.model_validate({name: value for name, value in one.payload.items() if name != "envelope"})
        for one in entries
        if one.kind == RECORD_ANSWERED
    ]
    of_plan = [one for one in every if (one.system, one.plan) == (system, plan) and one.source in sources]
    last = {one.user: one for one in sorted(of_plan, key=lambda one: (one.at, one.state != "approved"))}
    states = {one.state for one in last.values()}
    return RecordRead(
        system=system,
        number=next((one.chain.removeprefix(CHAINS) for one in entries), ""),
        plan=plan,
        approved="approved" in states,
        rejected="rejected" in states,
        answers=tuple(Approver(user=one.user, state=one.state, set_by=one.set_by, at=one.at) for one in last.values()),
    )


def people_who_approved(
    read: RecordRead,
    *,
    service_accounts: Collection[str],
    people: Mapping[str, str],
    known: Collection[str],
    barred: Collection[str],
) -> tuple[str, ...]:
    """Return the people whose approvals count, each once, by their user names here.

    An approver who is not known here may be the requester under another name, and does not count.

    :param service_accounts: user names there that stand for nobody.
    :param people: user name there: user here, where they differ.
    :param known: users here: the people of ``board.yaml``.
    :param barred: users here who do not approve this release: its requester, and by policy its authors.
    """
    found = (
        people.get(one.user, one.user)
        for one in read.answers
        if one.state == "approved" and one.user and one.set_by == one.user and one.user not in service_accounts
    )
    return tuple(dict.fromkeys(name for name in found if name in known and name not in barred))


def asked_in(read: RecordRead) -> str:
    """Return the user names there of those who were asked and have not answered, for a sentence."""
    return ", ".join(dict.fromkeys(one.user for one in read.answers if one.state == "requested" and one.user))


def why_not_approved(
    read: RecordRead,
    plan: RolloutPlan,
    *,
    frozen_at: AwareDatetime,
    service_accounts: Collection[str],
    people: Mapping[str, str],
    known: Collection[str],
) -> str:
    """Say why the change in an authority does not approve a plan; empty: it does.

    :param service_accounts, people, known: as for :func:`people_who_approved`.
    """
    of = f"{read.number} in {read.system}"
    if read.rejected:
        who = ", ".join(one.user for one in read.answers if one.state == "rejected")
        return f"{of} was rejected or cancelled{f', by {who}' if who else ''}"
    if read.plan != plan.digest:
        named = f"the plan {read.plan[:12]}" if read.plan else "no plan"
        return f"{of} names {named}, but this is {plan.digest[:12]}"
    if not read.approved:
        asked = asked_in(read)
        return f"{of} is not approved{f'; asked there: {asked}' if asked else ''}"
    late = read.model_copy(update={"answers": tuple(one for one in read.answers if one.at >= frozen_at)})
    barred = {plan.requested_by, *plan.excluded}
    if not people_who_approved(late, service_accounts=service_accounts, people=people, known=known, barred=barred):
        return (
            f"{of} is approved, but no approval counts: none was given after the plan was frozen, by a person of "
            "board.yaml with their own account who is neither the requester nor an author of the release (if user "
            "names differ, people in systems.yaml has both)"
        )
    return ""
