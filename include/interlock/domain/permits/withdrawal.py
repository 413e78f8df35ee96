"""Withdrawing a release: its requester or a release manager ends it, with a reason, until it is verified.

The withdrawal is an entry of the release's chain. From then on no task of the release does anything but end it, and it
gets no permit. What it has changed by then is backed out. A release whose verification succeeded is not withdrawn any
more: its tasks would not back it out. The order of the chain decides which of the two came first.

A release that another one overtook (:mod:`.overtaking`) ends in the same way: both are called off.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import AwareDatetime, Field

from interlock.domain.canonical import Model
from interlock.domain.errors import CalledOff, PolicyViolation, RequestRefused
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import RELEASE_REQUESTED, RELEASE_WITHDRAWN, RUN_ASKED, VERIFICATION_JUDGED
from interlock.domain.trigger_form import MULTILINE, Form, Reason, read_form

from .overtaking import Overtaking, overtaking_in
from .permit import RELEASE_MANAGER

_FORM = "the person who triggered withdraw_release"


class Withdrawal(Model):
    """Somebody ended a release before it was verified."""

    release: str = Field(description="Dag and run of the release")
    by: str = Field(description="User name of who withdrew it")
    role: Literal["requester", "release_manager"]
    reason: Reason
    run: str = Field(description="Dag and run in which it was asked for")
    at: AwareDatetime

    @property
    def sentence(self) -> str:
        """Say who withdrew the release, and why."""
        role = "who requested it" if self.role == "requester" else "a release manager"
        said = f"{self.by}, {role}, withdrew the release: {self.reason}"
        return said if said.endswith((".", "!", "?")) else f"{said}."


class WithdrawalRequest(Form):
    """The form of a withdrawal."""

    service: str = Field(description="The service whose release or rollback you withdraw.")
    run: str = Field(
        "",
        max_length=300,
        title="Release",
        description="The run id of the release, as Airflow shows it on the page of the run, or its version. Leave "
        "empty if only one release of the service is under way.",
    )
    reason: Reason = Field(
        description="Why you withdraw the release. The reason is sent to its requester and recorded in the ledger.",
        json_schema_extra=MULTILINE,
    )


class ReleaseUnderWay(Model):
    """A release or a rollback that has not ended, as its chain has it."""

    dag_id: str
    run_id: str
    requested_by: str = ""
    version: str = Field("", description="Empty: its run has not begun, or a rollback's version is not chosen yet")
    verified: bool = False
    withdrawn: Withdrawal | None = None
    overtaken: Overtaking | None = None

    def __str__(self) -> str:
        """Say which one it is."""
        version = f"{self.version}, " if self.version else ""
        return f"{version}run {self.run_id} of {self.dag_id}, requested by {self.requested_by or 'an unknown user'}"


def parse_withdrawal(form: Mapping[str, Any], services: Collection[str]) -> WithdrawalRequest:
    """Read the form; RequestRefused with every field that is wrong.

    :param services: those of the catalogue.
    """
    request = read_form(WithdrawalRequest, form, "the withdrawal")
    if request.service not in services:
        raise RequestRefused(
            f"There is no service {request.service!r}: there is {', '.join(sorted(services))}.",
            who=_FORM,
            next_step="correct the service and trigger it again",
        )
    return request


def describe_release(dag_id: str, run_id: str, entries: Sequence[Entry]) -> ReleaseUnderWay:
    """Return what the chain of a release that has not ended says of it."""
    asked = next((entry.payload for entry in entries if entry.kind == RUN_ASKED), {})
    requested = next((entry.payload for entry in entries if entry.kind == RELEASE_REQUESTED), {})
    return ReleaseUnderWay(
        dag_id=dag_id,
        run_id=run_id,
        requested_by=str(asked.get("user") or requested.get("requested_by") or ""),
        version=str(requested.get("version") or ""),
        verified=any(map(_is_verified, entries)),
        withdrawn=withdrawal_in(entries),
        overtaken=overtaking_in(entries),
    )


def find_release(request: WithdrawalRequest, under_way: Sequence[ReleaseUnderWay]) -> ReleaseUnderWay:
    """Return the release that is to be withdrawn; RequestRefused if there is none, or if several fit.

    :param under_way: those of its service.
    """
    wanted = request.run
    found = [one for one in under_way if wanted in ("", one.run_id, f"{one.dag_id}/{one.run_id}", one.version)]
    if len(found) == 1:
        return found[0]
    known = f" Under way: {'; '.join(map(str, under_way))}." if under_way else ""
    which = f" with the run or version {wanted}" if wanted else ""
    how_many = f"{len(found)} releases" if found else "no release"
    raise RequestRefused(
        f"{request.service} has {how_many}{which} under way.{known}",
        rule="a withdrawal is of one release that has not ended",
        who=_FORM,
        next_step="enter the run id of one of these releases" if under_way else "there is nothing to withdraw",
    )


def role_of(release: ReleaseUnderWay, by: str, *, manages: bool) -> Literal["requester", "release_manager"]:
    """Return in which role a person withdraws a release; PolicyViolation if they may not.

    :param manages: whether they are a release manager.
    """
    if by and by == release.requested_by:
        return "requester"
    if manages:
        return "release_manager"
    raise PolicyViolation(
        f"{by or 'An unknown user'} cannot withdraw this release: {release}.",
        rule="a release is withdrawn by the person who requested it, or by a release manager",
        who=f"{release.requested_by or 'the requester'}, and users with the role release_manager",
        next_step="ask one of them to trigger withdraw_release; if it is your turn to answer, reject the release",
    )


def refuse_too_late(release: ReleaseUnderWay) -> None:
    """Raise a PolicyViolation if a release cannot be withdrawn any more."""
    for how, called_off in (("withdrawn", release.withdrawn), ("overtaken", release.overtaken)):
        if called_off is None:
            continue
        raise PolicyViolation(
            f"This release is {how} already: {release}. {called_off.sentence}",
            rule="a release is withdrawn or overtaken once",
            who="this cannot be changed",
            next_step="wait until its run has ended; the tab Release of the run shows the outcome",
        )
    if release.verified:
        raise PolicyViolation(
            f"This release cannot be withdrawn any more: {release}. Its verification succeeded.",
            rule="a release is withdrawn until its verification has succeeded",
            who=RELEASE_MANAGER,
            next_step="to go back to the version before, roll the service back",
        )


def withdrawal_in(entries: Iterable[Entry]) -> Withdrawal | None:
    """Return the withdrawal of a release by its chain; none: there is none, or it came after the verification."""
    for entry in entries:
        if _is_verified(entry):
            return None
        if entry.kind == RELEASE_WITHDRAWN:
            return Withdrawal.model_validate(entry.payload)
    return None


def _is_verified(entry: Entry) -> bool:
    return entry.kind == VERIFICATION_JUDGED and entry.payload.get("success") is True


def called_off(entries: Sequence[Entry]) -> Withdrawal | Overtaking | None:
    """Return how a release was called off by its chain; none: it was not. A withdrawal counts before an overtaking."""
    return withdrawal_in(entries) or overtaking_in(entries)


def refuse_called_off(entries: Sequence[Entry]) -> None:
    """Raise CalledOff if a release was withdrawn or overtaken: its tasks do nothing any more but end it.

    :param entries: of its chain.
    """
    if how := called_off(entries):
        raise CalledOff(
            how.sentence,
            rule="a release that was withdrawn or overtaken changes nothing and asks nobody any more",
            who="this cannot be changed",
            next_step="the release ends, and what it changed is backed out; to release the version, trigger it again",
        )
