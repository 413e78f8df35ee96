"""The agenda of a board, with the reader's own rights: each item in a screenful, and the reader's own ballot on it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import HTTPException, Query, Request, status
from pydantic import Field, ValidationError

from interlock.adapters.catalogue.kept import kept_rules, kept_service, kept_train
from interlock.console.api.questions import is_for, readable_dags
from interlock.domain.board.voting import VotingRule
from interlock.domain.cab.agenda import AgendaItem, BallotSeen, in_order, on_agenda, release_item, train_item
from interlock.domain.canonical import Model
from interlock.domain.catalogue import BoardBook, ServiceCatalogue
from interlock.domain.change.amended import rule_in_force
from interlock.domain.dag_names import TRAINS, is_rollback
from interlock.domain.errors import CatalogueError, LedgerBroken
from interlock.domain.ledger.chain import Break, Entry, broken_by, release_chain
from interlock.domain.ledger.kinds import ROLLOUT_FROZEN
from interlock.domain.ledger.reading import plan_in
from interlock.domain.measures.facts import MeasuredRelease
from interlock.domain.paths import question_page, release_page
from interlock.domain.records import RolloutPlan
from interlock.domain.trains.ballots import train_rule
from interlock.domain.trains.manifest import manifest_in
from interlock.locations import catalogue_folder

from .ballots import Run, ballots_of_boards

log = logging.getLogger(__name__)
MAX_ALSO = 50


class OwnBallot(Model):
    """A ballot that the reader can cast, through Airflow's own API."""

    task_id: str
    map_index: int
    path: str = Field(description="Its page, below Airflow's address")


class AgendaEntry(AgendaItem):
    """An item of an agenda, for one reader."""

    mine: OwnBallot | None = Field(None, description="null: the reader has no ballot on it, or has cast it")
    may_remark: bool = Field(False, description="The reader can ask the requester something, or is the requester")
    path: str = Field(description="Its page, below Airflow's address")
    fault: str = Field("", description="Why its record cannot be read; empty: it can")


class BoardSeen(Model):
    """A board of board.yaml."""

    key: str
    title: str
    members: tuple[str, ...] = Field(description="User names")


class AgendaCollection(Model):
    """The agenda of a board; what ends first is first, then the riskiest."""

    items: tuple[AgendaEntry, ...]
    total_entries: int
    boards: tuple[BoardSeen, ...] = Field(description="All boards of board.yaml")
    names: dict[str, str] = Field(description="User name: name, of the people in board.yaml")
    user: str = Field(description="User name of the reader")
    at: datetime = Field(description="The time of this answer")


OpenLedger = Callable[[], AbstractContextManager[Any]]
Measured = Callable[[frozenset[str]], Sequence[MeasuredRelease]]


class Agendas:
    """What agendas are made of.

    :param open_ledger: opens the ledger.
    :param measured: the measured releases of some Dags.
    """

    def __init__(self, open_ledger: OpenLedger, measured: Measured) -> None:
        self.open_ledger, self._measured = open_ledger, measured

    def items(self, user: Any, also: Iterable[Run] = (), only: Iterable[Run] | None = None) -> list[AgendaEntry]:
        """Return the items with a ballot that is open, of the Dags that a user may read.

        :param also: further items, although their ballots are closed.
        :param only: these items and no others.
        :raises ReleaseError: the ledger or the catalogue cannot be read.
        """
        readable = readable_dags(user)
        wanted = {*also, *(only or ())}
        ballots = ballots_of_boards(readable, wanted)
        if only is not None:
            ballots = {run: each for run, each in ballots.items() if run in wanted}
        if not ballots:
            return []
        past: dict[str, list[MeasuredRelease]] = {}
        for one in self._measured(readable):
            past.setdefault(one.service, []).append(one)
        deployed = {service: last for service, each in past.items() if (last := _deployed_last(each))}
        with self.open_ledger() as ledger:
            chains = ledger.whole([release_chain(*run) for run in ballots])
            frozen = ledger.among([*deployed.values()], [ROLLOUT_FROZEN])
        running = {service: plan_in([one for one in frozen if one.chain == at]) for service, at in deployed.items()}
        return [
            _for(user, self._item(chains.get(release_chain(*run), ()), run, each, past, running), each)
            for run, each in ballots.items()
        ]

    def _item(
        self,
        entries: Sequence[Entry] | Break,
        run: Run,
        ballots: Sequence[BallotSeen],
        past: Mapping[str, Sequence[MeasuredRelease]],
        running: Mapping[str, RolloutPlan | None],
    ) -> tuple[AgendaItem, str]:
        """Return an item, and why its record cannot be read.

        :param running: service: the frozen plan of the release that production runs.
        """
        try:
            if isinstance(entries, Break):
                raise broken_by(entries)
            if run[0].startswith(TRAINS):
                return train_item(run, entries, ballots, rule=_rule_of_train(entries)), ""
            plan = plan_in(entries)
            releases = past.get(plan.service, ()) if plan else ()
            found = release_item(
                run,
                entries,
                ballots,
                rule=_rule(entries, plan) if plan else None,
                past=releases,
                runs=running.get(plan.service) if plan else None,
                rollback=is_rollback(run[0]),
            )
        except (LedgerBroken, CatalogueError, ValidationError) as error:
            log.exception("The item %s of an agenda cannot be read", run)
            # Of one item: the others are worth an answer.
            return release_item(run, (), ballots, rule=None), str(error)[:1000]
        return found, ""


def _for(user: Any, found: tuple[AgendaItem, str], ballots: Sequence[BallotSeen]) -> AgendaEntry:
    item, fault = found
    own = next((one for one in ballots if one.open and is_for(user, one.people)), None)
    return AgendaEntry(
        **{name: getattr(item, name) for name in AgendaItem.model_fields},
        mine=OwnBallot(
            task_id=own.task_id,
            map_index=own.map_index,
            path=question_page(item.dag_id, item.run_id, own.task_id, own.map_index),
        )
        if own
        else None,
        may_remark=item.open and bool(item.digest) and may_remark(user, item),
        path=release_page(item.dag_id, item.run_id),
        fault=fault,
    )


def may_remark(user: Any, item: AgendaItem) -> bool:
    """Tell whether a person has a ballot on an item, cast or not, or requested it."""
    return user.get_name() in item.requested_by or any(is_for(user, one.people) for one in item.ballots)


def _rule(entries: Sequence[Entry], plan: RolloutPlan) -> VotingRule | None:
    catalogue = kept_service(catalogue_folder(), plan.service)
    described = ServiceCatalogue(catalogue.policy, catalogue.board, catalogue.services[plan.service])
    return rule_in_force(described, plan, entries)


def _rule_of_train(entries: Sequence[Entry]) -> VotingRule | None:
    manifest = manifest_in(entries)
    if manifest is None:
        return None
    catalogue, train = kept_train(catalogue_folder(), manifest.train)
    usable = [one for one in manifest.passengers if one.service in catalogue.services]
    return train_rule(catalogue, train, usable) if usable else None


def _deployed_last(releases: Iterable[MeasuredRelease]) -> str:
    """Return the chain of the release that production runs; empty: none does, or it is not known."""
    deployed = [one for one in releases if one.is_deployment and one.ended_at is not None]
    if not deployed:
        return ""
    last = max(deployed, key=lambda one: (one.ended_at, one.run))
    return release_chain(*last.run.split("/", 1))


def boards_of(book: BoardBook) -> tuple[BoardSeen, ...]:
    """Return the boards of board.yaml."""
    return tuple(BoardSeen(key=key, title=one.title, members=one.members) for key, one in book.boards.items())


def parsed_runs(named: Iterable[str]) -> set[Run]:
    """Return Dag and run of each name such as ``release_bike_shop/manual__…``."""
    each = (one.partition("/") for one in named)
    return {(dag_id, run_id) for dag_id, _, run_id in each if dag_id and run_id}


def agenda(
    request: Request,
    user: GetUserDep,
    board: Annotated[str, Query(max_length=100, description="The key of a board in board.yaml; empty: all")] = "",
    also: Annotated[
        list[Annotated[str, Query(max_length=600)]],
        Query(max_length=MAX_ALSO, description="Dag and run, with / between them, of items shown although closed"),
    ] = [],  # noqa: B006 (FastAPI copies it)
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> AgendaCollection:
    """Return what waits for the votes of a board, and what of it the reader can do."""
    _, book = kept_rules(catalogue_folder())
    if board and board not in book.boards:
        raise HTTPException(
            status.HTTP_404_NOT_FOUND,
            f"There is no board {board!r} in board.yaml. Boards: {', '.join(book.boards)}.",
        )
    agendas: Agendas = request.app.state.agendas
    found = in_order(one for one in agendas.items(user, parsed_runs(also)) if on_agenda(one, board, book))
    return AgendaCollection(
        items=tuple(found[offset : offset + limit]),
        total_entries=len(found),
        boards=boards_of(book),
        names=book.names,
        user=str(user.get_name()),
        at=datetime.now(UTC),
    )
