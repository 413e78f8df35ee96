"""The minutes of a meeting of a board: written from the record, but for who was there and what was noted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from pydantic import AwareDatetime, Field, StringConstraints

from interlock.domain.canonical import Model, sha256_of
from interlock.domain.catalogue import UserName
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import BOARD_MET

from .agenda import AgendaItem, DemandSeen, SeatSeen, Settled
from .remarks import Said

MAX_ITEMS = 50
"""Of one meeting."""
Note = Annotated[str, StringConstraints(strip_whitespace=True, max_length=4000)]


class AskedItem(Model):
    """An item as the person who writes the minutes names it."""

    dag_id: str = Field(max_length=250)
    run_id: str = Field(max_length=250)
    seconds: int = Field(0, ge=0, le=86_400, description="For how long it was discussed")
    note: Note = ""


class AskedMinutes(Model):
    """What the person who writes the minutes says: everything else is read from the record."""

    began_at: AwareDatetime
    present: tuple[UserName, ...] = Field(max_length=100, description="User names of who was there")
    items: tuple[AskedItem, ...] = Field(min_length=1, max_length=MAX_ITEMS)
    note: Note = ""


class DiscussedItem(Model):
    """An item, and what was on record of it when the minutes were written."""

    run: str = Field(description="Dag and run")
    title: str
    digest: str = Field(description="Of what is voted on; empty: it was not in the ledger")
    risk: int | None
    seconds: int
    note: str
    votes: tuple[SeatSeen, ...] = Field(description="The votes that stood")
    open: tuple[str, ...] = Field(description="User names of the seats without a vote")
    demands: tuple[DemandSeen, ...]
    remarks: tuple[Said, ...]
    decision: Settled | None = Field(description="None: it was not decided")


class Minutes(Model):
    """The minutes of a meeting."""

    board: str = Field(description="The key of the board in board.yaml")
    title: str
    began_at: AwareDatetime
    ended_at: AwareDatetime
    by: str = Field(description="User name of who wrote them")
    present: tuple[str, ...] = Field(description="User names of who was there, by the word of who wrote the minutes")
    absent: tuple[str, ...] = Field(description="User names of the members who were not")
    items: tuple[DiscussedItem, ...]
    note: str

    @property
    def id(self) -> str:
        """What names them: the same board, beginning and writer have one set of minutes."""
        return sha256_of({"board": self.board, "began_at": self.began_at.isoformat(), "by": self.by})[:16]

    @property
    def key(self) -> str:
        """The key of their entry."""
        return f"{BOARD_MET}/{self.id}"


def minutes_of(
    board: tuple[str, str],
    members: Sequence[str],
    asked: AskedMinutes,
    items: Mapping[tuple[str, str], AgendaItem],
    *,
    by: str,
    now: AwareDatetime,
) -> Minutes:
    """Write the minutes of a meeting.

    :param board: its key and its title.
    :param items: each item that the writer named, by Dag and run.
    """
    present = tuple(dict.fromkeys(asked.present))
    return Minutes(
        board=board[0],
        title=board[1],
        began_at=asked.began_at,
        ended_at=now,
        by=by,
        present=present,
        absent=tuple(one for one in members if one not in present),
        items=tuple(_discussed(one, items[one.dag_id, one.run_id]) for one in asked.items),
        note=asked.note,
    )


def _discussed(asked: AskedItem, item: AgendaItem) -> DiscussedItem:
    return DiscussedItem(
        run=f"{item.dag_id}/{item.run_id}",
        title=item.title,
        digest=item.digest,
        risk=item.risk,
        seconds=asked.seconds,
        note=asked.note,
        votes=tuple(one for one in item.seats if one.choice),
        open=tuple(one.user for one in item.seats if not one.choice),
        demands=item.demands,
        remarks=item.remarks,
        decision=item.decision,
    )


def minutes_in(entries: Iterable[Entry]) -> list[Minutes]:
    """Return the minutes in the installation's chain, the newest first."""
    found = [Minutes.model_validate(one.payload) for one in entries if one.kind == BOARD_MET]
    return sorted(found, key=lambda one: (one.began_at, one.id), reverse=True)
