"""What board members ask back about a plan that waits for their votes, and what the requester answers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Annotated

from pydantic import AwareDatetime, Field, StringConstraints

from interlock.domain.canonical import Model, Sha256
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import BOARD_DISCUSSED

MAX_LENGTH = 4000
MAX_REMARKS = 200
"""On one plan: a longer discussion needs a meeting."""
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_LENGTH)]


class Remark(Model):
    """A question of a board member to the requester, or an answer of the requester. It is no vote."""

    user: str = Field(description="User name of the person who wrote it")
    text: Text
    digest: Sha256 = Field(description="Of the plan or the manifest that the board votes on")


class Said(Model):
    """A remark as it is on record."""

    user: str
    text: str
    at: AwareDatetime


def remarks_in(entries: Iterable[Entry]) -> tuple[Said, ...]:
    """Return the remarks in a release's or a train's chain, in their order."""
    return tuple(
        Said(user=str(one.payload["user"]), text=str(one.payload["text"]), at=one.at)
        for one in entries
        if one.kind == BOARD_DISCUSSED
    )


def told(user: str, requesters: Collection[str], voters: Iterable[str], before: Sequence[Said]) -> tuple[str, ...]:
    """Return who is told of a remark: the requesters; of a requester's remark, the people who asked.

    :param voters: everybody who has a ballot, who are told if the requester writes first.
    """
    if user not in requesters:
        return tuple(dict.fromkeys(requesters))
    asked = dict.fromkeys(one.user for one in before if one.user not in requesters)
    return tuple(one for one in (asked or dict.fromkeys(voters)) if one != user)
