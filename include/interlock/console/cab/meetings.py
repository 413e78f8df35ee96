"""Minutes of the meetings of boards: written from the record, kept in the ledger, and sent as a file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import HTTPException, Query, Request, Response, status
from pydantic import Field

from interlock.adapters.catalogue.kept import kept_rules
from interlock.adapters.templates import render
from interlock.console.api.questions import readable_dags
from interlock.domain.cab.minutes import AskedMinutes, Minutes, minutes_in, minutes_of
from interlock.domain.canonical import Model
from interlock.domain.catalogue import Board, BoardBook
from interlock.domain.errors import AlreadyRecorded
from interlock.domain.ledger.chain import INSTALLATION
from interlock.domain.ledger.kinds import BOARD_MET
from interlock.locations import catalogue_folder

from .agenda import Agendas

LONGEST = timedelta(hours=24)
"""A meeting lasts so long at most."""


class KeptMinutes(Model):
    """Minutes that are on record."""

    id: str
    minutes: Minutes
    file: str = Field(description="Where the file is, below Airflow's address")


class MinutesCollection(Model):
    """The minutes of a board; the newest first."""

    minutes: tuple[KeptMinutes, ...]
    total_entries: int


def write_minutes(request: Request, user: GetUserDep, board: str, asked: AskedMinutes) -> KeptMinutes:
    """Write the minutes of a meeting: what was on record of each item when the meeting ended."""
    _, book = kept_rules(catalogue_folder())
    described, by, now = _board(book, board), str(user.get_name()), datetime.now(UTC)
    _refuse(asked, by, book, now)
    agendas: Agendas = request.app.state.agendas
    runs = [(one.dag_id, one.run_id) for one in asked.items]
    items = {(one.dag_id, one.run_id): one for one in agendas.items(user, only=runs)}
    if missing := [run for run in runs if run not in items]:
        raise HTTPException(
            status.HTTP_404_NOT_FOUND, f"The minutes were not written: {missing[0][0]} has no ballots of that run."
        )
    made = minutes_of((board, described.title), described.members, asked, items, by=by, now=now)
    with agendas.open_ledger() as ledger:
        try:
            ledger.append_once(INSTALLATION, BOARD_MET, made.model_dump(mode="json"), actor=by, key=made.key)
        except AlreadyRecorded as error:  # sent again: the answer to the first request was lost
            made = Minutes.model_validate(error.entry.payload)
    return _kept(made)


def _refuse(asked: AskedMinutes, by: str, book: BoardBook, now: datetime) -> None:
    if by not in book.names:
        raise HTTPException(
            status.HTTP_403_FORBIDDEN,
            "The minutes were not written: only people of board.yaml can write minutes. Next: ask a member of the "
            "board.",
        )
    if strangers := [one for one in asked.present if one not in book.names]:
        raise HTTPException(
            status.HTTP_422_UNPROCESSABLE_CONTENT,
            f"The minutes were not written: {', '.join(strangers)} is not in board.yaml. Next: name guests in a note.",
        )
    if not timedelta() <= now - asked.began_at <= LONGEST:
        raise HTTPException(
            status.HTTP_422_UNPROCESSABLE_CONTENT,
            "The minutes were not written: began_at must be within the last 24 hours.",
        )


def minutes(
    request: Request,
    user: GetUserDep,
    board: str,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> MinutesCollection:
    """Return the minutes of a board, without items that the reader may not read."""
    _board(kept_rules(catalogue_folder())[1], board)
    found = [one for one in _all(request, user) if one.board == board]
    return MinutesCollection(minutes=tuple(map(_kept, found[offset : offset + limit])), total_entries=len(found))


def minutes_file(request: Request, user: GetUserDep, id: str) -> Response:
    """Return minutes as a file, Markdown."""
    found = next((one for one in _all(request, user) if one.id == id), None)
    if found is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "There are no such minutes.")
    _, book = kept_rules(catalogue_folder())
    text = render("minutes.md.j2", minutes=found, names=book.names)
    name = f"minutes-{found.board}-{found.began_at:%Y-%m-%d}-{found.id}.md"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "X-Content-Type-Options": "nosniff"}
    return Response(text, media_type="text/markdown; charset=utf-8", headers=headers)


def _all(request: Request, user: Any) -> list[Minutes]:
    readable = readable_dags(user)
    agendas: Agendas = request.app.state.agendas
    with agendas.open_ledger() as ledger:
        found = minutes_in(ledger.entries(INSTALLATION, kind=BOARD_MET))
    return [
        one.model_copy(update={"items": tuple(item for item in one.items if item.run.partition("/")[0] in readable)})
        for one in found
    ]


def _kept(made: Minutes) -> KeptMinutes:
    return KeptMinutes(id=made.id, minutes=made, file=f"interlock/api/v1/minutes/{made.id}.md")


def _board(book: BoardBook, key: str) -> Board:
    if key not in book.boards:
        raise HTTPException(
            status.HTTP_404_NOT_FOUND, f"There is no such board in board.yaml. Boards: {', '.join(book.boards)}."
        )
    return book.boards[key]
