"""Answers on record: which answers of people came in at Airflow's API, so that one written past it shows.

Airflow keeps answers as rows of a database, which its owner can write. What came in at the API is in the release's
chain, too, from the moment in which it came; an answer that is not there was not given.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from .canonical import Model, Sha256
from .ledger import Entry

GIVEN = "answer.given"
SKEW = timedelta(minutes=1)
"""Between an answer's entry and its time by Airflow's record: machines' clocks, and a slow database."""


class GivenAnswer(Model):
    """What somebody answered to a question of a release."""

    user: str
    task_id: str
    map_index: int
    choice: str
    comment: str = ""
    conditions: str = ""

    def __str__(self) -> str:
        """Say who answered what to what."""
        return f"{self.user}'s answer “{self.choice}” to {self.task_id}[{self.map_index}]"


def is_witnessed(answer: GivenAnswer, at: datetime | None, entries: Iterable[Entry], *, digest: Sha256) -> bool:
    """Say whether an answer came in at the API: just this, at about this time, and after what it is about was frozen.

    :param at: when it was given, by Airflow's record.
    :param entries: the release's chain, in order.
    :param digest: of what it is about; a plan that was frozen after an answer was not what was answered to.
    """
    found = False
    for entry in entries:
        if entry.kind in ("rollout.frozen", "manifest.frozen") and entry.payload.get("digest") == digest:
            found = False
        elif entry.kind == GIVEN and entry.actor == answer.user:
            same = entry.payload == answer.model_dump(mode="json")
            found = found or (same and at is not None and abs(entry.at - at) <= SKEW)
    return found
