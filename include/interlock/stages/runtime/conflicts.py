"""Conflicts of the release or train that is being planned: found early, shown, and on record; they refuse nothing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import get_current_context

from interlock.adapters.calendars.conflicts import conflicts_of_release, conflicts_of_trains
from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.adapters.catalogue.trains import load_trains
from interlock.domain.board import decision as boards
from interlock.domain.board.voting import VotingRule, voting_rule
from interlock.domain.calendars.conflicts import Conflict, of_line, of_quorum
from interlock.domain.catalogue.train_file import Train
from interlock.domain.errors import ReleaseError
from interlock.domain.ledger.kinds import CONFLICTS_FOUND
from interlock.domain.records import PolicyInForce, ReleasePlan
from interlock.domain.trains.manifest import CONDUCTOR, PlannedRun
from interlock.locations import catalogue_folder
from interlock.stages.trains.passengers import running

from . import calendars, resources
from .evidence import chain_entries, record, this_chain

log = logging.getLogger(__name__)
SHOWN = "conflicts"
"""The XCom that says what a release or a train clashes with."""


def note_of_release(plan: ReleasePlan, in_force: PolicyInForce, *, by_train: bool) -> list[Conflict]:
    """Find what a planned release clashes with, and leave it in its chain and beside its task.

    :param by_train: it is a train's passenger: its board is the train's, and its departure is not in its own way.
    """
    if plan.rehearsal:
        return []
    folder = catalogue_folder()
    catalogue = load_catalogue(folder)
    trains = {} if by_train else load_trains(folder, catalogue.policy, catalogue.board).trains
    with resources.ledger() as ledger:
        found = conflicts_of_release(
            catalogue,
            calendars.calendars_now(catalogue.policy),
            ledger,
            trains,
            service=plan.service,
            environment=plan.target,
            start=plan.not_before or datetime.now(UTC),
            chain=this_chain(),
        )
    if not by_train:
        described = catalogue.services[plan.service]
        rule = voting_rule(
            catalogue.policy, catalogue.board, described, change_type=plan.change_type, risk=plan.risk.score
        )
        authors = boards.barred_authors(in_force.flow, plan, catalogue.board)
        found += of_quorum(rule, requester=plan.requested_by, barred=authors)
    _leave(found)
    return found


def note_of_train(
    train: Train, planned_run: PlannedRun, rule: VotingRule | None, authors: Sequence[str]
) -> list[Conflict]:
    """Find what a departure clashes with when boarding opens, if everybody boards.

    That is other trains, what each passenger clashes with, releases that are under way, and a board that cannot come to
    its quorum.

    :param authors: who will not vote for having written what boards, as far as that is known.
    """
    folder = catalogue_folder()
    catalogue = load_catalogue(folder)
    trains = load_trains(folder, catalogue.policy, catalogue.board).trains
    sharing = {name: one for name, one in trains.items() if set(one.services) & set(train.services)}
    held, sent = calendars.calendars_now(catalogue.policy), {train.name: planned_run.departure}
    with resources.ledger() as ledger:
        clashes = conflicts_of_trains(catalogue, held, ledger, sharing, datetime.now(UTC), sent=sent)
        found = [one for one in clashes if f"({train.name})" in one.what]
        for service in (name for name in train.services if name in catalogue.services):
            found += conflicts_of_release(
                catalogue,
                held,
                ledger,
                trains,
                service=service,
                environment=train.environment,
                start=planned_run.departure,
                chain="",
                train=train.name,
            )
            found += of_line(service, _running(service))
    named = (one.named.by for one in train.passengers if one.named is not None)
    found += of_quorum(rule, requester=CONDUCTOR, barred=[*named, *authors, planned_run.asked_by])
    found = list(dict.fromkeys(found))
    _leave(found)
    return found


def _running(service: str) -> list[str]:
    """Return the runs that release a service now; none if Airflow does not say: a conflict refuses nothing."""
    try:
        return running(service)
    except ReleaseError as error:
        log.warning("%s", error)
        return []


def _leave(found: Sequence[Conflict]) -> None:
    for one in found:
        log.warning("%s", one)
    said: list[dict[str, Any]] = [one.model_dump(mode="json") for one in found]
    record(CONFLICTS_FOUND, {"conflicts": said})
    get_current_context()["ti"].xcom_push(key=SHOWN, value=[str(one) for one in found])


def noted() -> list[str]:
    """Return what the running release clashes with, in words, as it was found when it was planned."""
    found = next((entry.payload for entry in reversed(chain_entries()) if entry.kind == CONFLICTS_FOUND), {})
    return [str(Conflict.model_validate(one)) for one in found.get("conflicts", ())]
