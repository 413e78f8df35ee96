"""The decision on a train: the merged boards of all passengers vote on the digest of the frozen manifest."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import XComArg, chain, task_group

from interlock.adapters.templates import render
from interlock.adapters.trains.boarding import unusable
from interlock.domain.board import decision as boards
from interlock.domain.board import seats
from interlock.domain.board.questions import ASK_TRAIN_BOARD
from interlock.domain.board.voting import VotingRule
from interlock.domain.calendars.stops import refuse_stopped_release
from interlock.domain.catalogue import Catalogue
from interlock.domain.catalogue.train_file import Train
from interlock.domain.records import Decision
from interlock.domain.trains.ballots import train_rule
from interlock.domain.trains.manifest import CONDUCTOR, Manifest
from interlock.stages.approvals.ballots import AwaitBallots
from interlock.stages.approvals.decisions import settled
from interlock.stages.approvals.in_force import as_notice
from interlock.stages.approvals.people import ask_board, ballots, votes_on
from interlock.stages.runtime.conflicts import noted
from interlock.stages.runtime.evidence import refuse_void
from interlock.stages.runtime.permits import stops_now
from interlock.stages.runtime.taskflow import stage_task

from .common import POLL_INTERVAL, catalogue_now, train_now, without_file

if TYPE_CHECKING:
    from interlock.adapters.airflow.rest_api import Answer as Cast

MAX_VOTING_TIME = timedelta(days=30)


@stage_task(task_display_name="Prepare the ballots", words=ASK_TRAIN_BOARD)
def prepare_ballots(name: str, manifest: Manifest) -> list[dict[str, Any]]:
    """Prepare one ballot for each member of the boards who may vote on this manifest, or for their delegate.

    The vote is not requested if emergency stops hold back every passenger.
    """
    catalogue = catalogue_now()
    train = train_now(name, catalogue)
    rule = _rule(catalogue, train, manifest)
    if rule is None or manifest.decide_by is None:
        return []
    services = [catalogue.services[one.service] for one in manifest.passengers if one.service in catalogue.services]
    stops = {service.name: stops_now(service) for service in services}
    if stops and all(any(stop.until > manifest.departure for stop in found) for found in stops.values()):
        refuse_stopped_release([stop for found in stops.values() for stop in found], manifest.departure)
    body = as_notice(f"Emergency stop: {stop}" for found in stops.values() for stop in found) + render(
        "train_ballot.md.j2",
        train=train,
        manifest=manifest,
        board=rule,
        names=catalogue.board.names,
        titles={service: one.title for service, one in catalogue.services.items()},
        conflicts=noted(),
        left_out=seats.describe_exclusions(
            rule, asked_by=manifest.requested_by, authors=manifest.excluded, excluded=manifest.excluded
        ),
    )
    return ballots(
        rule,
        catalogue.board,
        f"Vote: {manifest.title}, {manifest.departure:%Y-%m-%d %H:%M} UTC",
        body,
        manifest.digest,
        until=manifest.decide_by,
        requester=CONDUCTOR,
        asked_by=manifest.requested_by,
        excluded=manifest.excluded,
    )


def count(manifest: Manifest, rule: VotingRule | None, *, expired: bool) -> Decision | None:
    """Count the ballots of this run from Airflow's record of them; None while the board is still open."""
    if rule is None:
        why = (
            f"The policy requires no vote on the manifest of a train with {manifest.change_type} changes."
            if manifest.passengers
            else "No service is on board."
        )
        return Decision(subject="board", digest=manifest.digest, approved=True, required=False, reason=why)
    votes = votes_on(ASK_TRAIN_BOARD, manifest.digest)
    in_time = [one for one in votes if one.at and (manifest.decide_by is None or one.at <= manifest.decide_by)]
    return boards.count_votes(
        rule,
        in_time,
        digest=manifest.digest,
        requester=CONDUCTOR,
        asked_by=manifest.requested_by,
        excluded=manifest.excluded,
        expired=expired,
    )


def rule_now(manifest: Manifest) -> VotingRule | None:
    """Return the voting rule for a manifest, according to the current catalogue."""
    catalogue = catalogue_now()
    return _rule(catalogue, train_now(manifest.train, catalogue), manifest)


def _rule(catalogue: Catalogue, train: Train, manifest: Manifest) -> VotingRule | None:
    """Return the voting rule for a manifest. Passengers without a valid file do not depart, and have no rule.

    :raises PolicyViolation: no passenger has a valid file.
    """
    usable = [one for one in manifest.passengers if not unusable(catalogue, one.service)]
    if manifest.passengers and not usable:
        raise without_file(train.title, _unusable(catalogue, manifest))
    return train_rule(catalogue, train, usable) if usable else None


def _unusable(catalogue: Catalogue, manifest: Manifest) -> str:
    """Name the passengers without a valid file, and why; empty if all files are valid."""
    said = ((one.service, unusable(catalogue, one.service)) for one in manifest.passengers)
    return "; ".join(f"{service}: {why}" for service, why in said if why)


class AwaitTrainBoard(AwaitBallots):
    """Wait until the board has decided on the manifest or its deadline has passed, then close the open ballots.

    :param manifest: the frozen manifest.
    :param ballots: the prepared ballots; empty if no vote is required.
    """

    template_fields = ("manifest", "ballots")
    asks = ASK_TRAIN_BOARD

    def __init__(self, *, manifest: Any, ballots: Any, **kwargs: Any) -> None:
        super().__init__(ballots=ballots, **kwargs)
        self.manifest = manifest

    @property
    def frozen(self) -> Manifest:
        """The frozen manifest."""
        return Manifest.from_xcom(self.manifest)

    @property
    def decide_by(self) -> datetime | None:
        """The board's deadline; None if it needs no vote."""
        return self.frozen.decide_by

    def count(self, *, expired: bool) -> Decision | None:
        """Count the votes on the recorded manifest; None while the board is still open.

        The rule for a passenger with a broken file is not known. The file may be fixed until the deadline.
        """
        refuse_void([self.frozen])
        if self.decide_by is not None and not expired and _unusable(catalogue_now(), self.frozen):
            return None
        return count(self.frozen, rule_now(self.frozen), expired=expired)

    def next_look(self, cast: Sequence[Cast]) -> datetime | None:
        """Return when to count again without a new answer: soon, while a passenger's file is broken."""
        soon = datetime.now(UTC) + POLL_INTERVAL
        return min(self.decide_by or soon, soon) if _unusable(catalogue_now(), self.frozen) else self.decide_by

    def settled(self, decision: Decision) -> dict[str, Any]:
        """Record the decision with the rule by which it was made; raise GateRejected if the board rejected."""
        rule = rule_now(self.frozen)
        return settled(decision, board=rule and rule.model_dump(mode="json")).to_xcom()


@task_group(
    group_id="board",
    group_display_name="2 One decision",
    tooltip="One decision: the boards vote once, on the digest of the manifest",
)
def board_group(name: str, manifest: XComArg, within: timedelta | None) -> tuple[XComArg, EmptyOperator | None]:
    """Ask the boards and wait for them; return the decision, and the end of the ballots.

    :param within: the longest that the boards may take; None: no vote is ever required.
    """
    ballots = prepare_ballots(name, manifest)
    doc = "One ballot for each member of the boards, on the digest of the frozen manifest."
    over = ask_board(ballots, within, doc_md=doc)
    decision = AwaitTrainBoard(
        task_id="await_board",
        task_display_name="Wait for the board",
        manifest=manifest,
        ballots=ballots,
        retries=5,
        doc_md=AwaitTrainBoard.__doc__,
    )
    chain(manifest, ballots, decision)
    return decision.output, over
