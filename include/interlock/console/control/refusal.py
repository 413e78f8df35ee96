"""What happens to a request that no role allows: it is refused and recorded, or allowed with break-glass access."""

from __future__ import annotations

from functools import cache

from interlock.console.record.attempts import AttemptLog, Note, attempt_of
from interlock.locations import catalogue_folder

from .break_glass import BreakGlass
from .current_request import CurrentRequest
from .routes import RequestKind
from .rules import refusal

NO_ATTEMPTS = {RequestKind.LIST, RequestKind.OWN, RequestKind.PARSE, RequestKind.ELSEWHERE}
"""Requests that change no Dag: a refusal of them is not recorded as an attempt."""


class RefusedRequests:
    """Decides, and records what it refuses.

    :param note: records a refused attempt; it neither waits nor fails.
    """

    def __init__(self, glass: BreakGlass, note: Note) -> None:
        self._glass, self.note = glass, note

    def objection(self, user: str, asked: CurrentRequest, entity: str | None, dag_id: str, *, may_break: bool) -> str:
        """Say why a request is refused; empty: its user has break-glass access.

        :param may_break: the user has the role for break-glass access, or needs none.
        """
        matter = (user, entity, dag_id, may_break)
        if matter not in asked.decided:
            glass = self._glass.refusal if may_break else None
            why = glass(user, asked, entity, dag_id) if glass else refusal(entity, dag_id, asked.request_kind)
            asked.decided[matter] = why
            if why:
                self.refused(user, asked, entity, dag_id, "release control")
        return asked.decided[matter]

    def refused(self, user: str, asked: CurrentRequest, entity: str | None, dag_id: str, by: str) -> None:
        """Record an attempt, unless it would have changed nothing."""
        if asked.request_kind not in NO_ATTEMPTS and not asked.previews:
            self.note(attempt_of(user, asked, entity, dag_id, by))


@cache
def bench() -> RefusedRequests:
    """Return the only instance of this process, because it counts attempts."""
    return RefusedRequests(BreakGlass(catalogue_folder), AttemptLog().note)
