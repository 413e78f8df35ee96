"""What Airflow or AWS does for a step of a runbook; what a restored copy of a database has, before and after a change.

Each kind is an :class:`Elsewhere`. The stage that does a step does not need to know which one it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol

from interlock.domain.canonical import Model


class Seen(Model):
    """What became of something that was begun.

    :param ended: whether it has ended; ``said``: what it said, and where it can be looked up.
    :param reason: why it failed; empty: it did not.
    """

    ended: bool
    said: str = ""
    reason: str = ""


class Elsewhere(Protocol):
    """One thing that Airflow or AWS can do."""

    once: bool
    """Whether beginning it again, with the same id, does not do it again."""

    shown_after: timedelta
    """How long it may take until something that was begun is shown."""

    def pin(self, pinned: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return what it is now: its version, its digest, and the like.

        :param pinned: what it was when the plan was frozen, whose version is looked at; none: the plan is frozen now.
        :raises AssetMissing: it is not there, or cannot be begun. :raises TransientError: there is no answer.
        """

    def begin(self, id: str, pinned: Mapping[str, str]) -> Seen | None:
        """Begin it, exactly as it was pinned; return what became of it, if that is known; none: it is not.

        :param id: of the step: 32 hexadecimal digits, the same in every try.
        :raises TransientError: it may be begun again.
        """

    def look(self, id: str, pinned: Mapping[str, str], since: datetime) -> Seen | None:
        """Return what became of it; none: it is not there, or not yet.

        :param since: when its beginning was recorded. :raises TransientError: there is no answer.
        """

    def stop(self, id: str, since: datetime) -> str:
        """Stop it, if that can be done: its time is over.

        :return: what goes on all the same, and who can end it; empty: nothing does.
        """
