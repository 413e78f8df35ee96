"""Conflicts of the release or train that is being planned. They are shown and recorded, and refuse nothing."""

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
from interlock.domain.calendars.conflicts import Conflict, conflicts_in, of_line, of_quorum
from interlock.domain.catalogue.runbook_file import irreversible_of
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
"""The XCom key of the conflicts of a release or a train."""


def note_of_release(plan: ReleasePlan, in_force: PolicyInForce, *, by_train: bool) -> list[Conflict]:
    """Find the conflicts of a planned release, and leave them in its chain and in an XCom of its task.

    :param by_train: the release is a passenger: the board of its train votes, and its departure is no conflict.
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
            catalogue.policy,
            catalogue.board,
            described,
            change_type=plan.change_type,
            risk=plan.risk.score,
            irreversible=bool(irreversible_of(described.runbook)),
        )
        authors = boards.barred_authors(in_force.flow, plan, catalogue.board)
        found += of_quorum(rule, requester=plan.requested_by, barred=authors)
    leave(found)
    return found


def note_of_train(
    train: Train, planned_run: PlannedRun, rule: VotingRule | None, authors: Sequence[str]
) -> list[Conflict]:
    """Find the conflicts of a departure when boarding opens, as if all passengers boarded.

    They are other trains, the conflicts of each passenger, releases that are under way, and a board without a quorum.

    :param authors: the known authors of the passengers' commits, who do not vote.
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
    leave(found)
    return found


def _running(service: str) -> list[str]:
    """Return the runs that release a service now; none if Airflow does not answer, because conflicts refuse nothing."""
    try:
        return running(service)
    except ReleaseError as error:
        log.warning("%s", error)
        return []


def leave(found: Sequence[Conflict]) -> None:
    """Leave conflicts in the chain of the running release or train, and in an XCom of the task; the last ones count."""
    for one in found:
        log.warning("%s", one)
    said: list[dict[str, Any]] = [one.model_dump(mode="json") for one in found]
    record(CONFLICTS_FOUND, {"conflicts": said})
    get_current_context()["ti"].xcom_push(key=SHOWN, value=[str(one) for one in found])


def noted() -> list[str]:
    """Return the conflicts of the running release, in words, as they were found last."""
    return [str(one) for one in conflicts_in(chain_entries())]
