"""One attempt to tell a system of a release: the record is looked up, made if there is none, and told what is new."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from interlock.domain.errors import ConditionUnmet, DeliveryRefused, ReleaseError
from interlock.domain.outbox.delivery import SETTLES_AFTER, Delivery, Remote
from interlock.domain.outbox.facts import Statement, gathered

from .system import System

log = logging.getLogger(__name__)

Keep = Callable[[Delivery], None]
"""Keeps how far a delivery is before it goes on; raises if another process has the delivery now."""


def _now() -> datetime:
    return datetime.now(UTC)


def deliver(
    delivery: Delivery,
    statements: Sequence[Statement],
    system: System,
    keep: Keep,
    *,
    now: Callable[[], datetime] = _now,
    settles_after: timedelta = SETTLES_AFTER,
) -> Delivery:
    """Tell a system everything of a release that it was not told yet; return how far that came, and keep it.

    It does not raise for what the system does: the delivery then has the error, and when to try again.

    :param statements: everything that is said of the release, in order.
    :param settles_after: how long a request without an answer may still take effect.
    """
    attempt = _Attempt(delivery, system, keep, now, settles_after)
    try:
        attempt.run(statements)
    except ReleaseError as error:
        log.warning("%s was not told of %s: %s", delivery.system, delivery.chain, error)
        attempt.keep(attempt.delivery.failed(error, now()))
    return attempt.delivery


class _Attempt:
    def __init__(
        self, delivery: Delivery, system: System, keep: Keep, now: Callable[[], datetime], settles_after: timedelta
    ) -> None:
        self.delivery, self._system, self._keep, self._now = delivery, system, keep, now
        self._settles_after = settles_after

    def keep(self, delivery: Delivery) -> None:
        self._keep(delivery)
        self.delivery = delivery

    def run(self, statements: Sequence[Statement]) -> None:
        new = [one for one in statements if not self.delivery.told.covers(one.told)]
        confirms = self.delivery.is_to_be_confirmed(self._now())
        is_over = bool(statements) and statements[-1].change.outcome is not None
        if not statements or not (new or self.delivery.intent or confirms):  # the system need not be asked
            self.keep(self.delivery.succeeded(self._now(), ended=is_over and not self.delivery.ended))
            return
        remote = self._looked_up()
        new = [one for one in statements if not self.delivery.told.covers(one.told)]
        # What was asked without an answer may still happen: it is done again only when it cannot any more.
        until = self.delivery.settles_at(self._now(), self._settles_after)
        if until is not None:
            self.keep(self.delivery.waits(until))
            return
        if remote is None:
            self.keep(self.delivery.intends("create", self.delivery.told, self._now()))
            remote = self._system.create(self.delivery.correlation, (new or statements)[0])
            self.delivery = self._with(remote)  # kept with what is written next
        if self._system.gathers and len(new) > 1:
            remote, new = self._told_at_once(remote, new)
        for statement in new:
            remote = self._changed(remote, statement)
        if confirms and not remote.told.covers(statements[-1].told):
            self._system.change(remote, statements[-1])  # a request that came late took it back
        ended = is_over and (bool(new) or not self.delivery.ended)
        self.keep(self.delivery.succeeded(self._now(), ended=ended, confirmed=confirms))

    def _changed(self, remote: Remote, statement: Statement) -> Remote:
        self.keep(self.delivery.intends("change", statement.told, self._now()))
        remote = self._system.change(remote, statement)
        self.delivery = self._with(remote)  # kept with what is written next
        return remote

    def _told_at_once(self, remote: Remote, new: Sequence[Statement]) -> tuple[Remote, list[Statement]]:
        """Tell statements with as few requests as it takes; return the record, and those that were not told.

        What keeps the last one back may not keep back those before it: they are told one by one then.
        """
        try:
            for statement in gathered(new):
                remote = self._changed(remote, statement)
        except (ConditionUnmet, DeliveryRefused) as error:
            log.info("%s is told of %s one by one: %s", self.delivery.system, self.delivery.chain, error)
            remote = self._looked_up() or remote
        return remote, [one for one in new if not self.delivery.told.covers(one.told)]

    def _with(self, remote: Remote) -> Delivery:
        return self.delivery.found(remote).model_copy(update={"intent": None, "attempts": 0})

    def _looked_up(self) -> Remote | None:
        """Return the record of the release, and withdraw those that a repeated request made beside it."""
        found = self._system.find(self.delivery.correlation)
        if not found:
            return None
        # Of several, the one that was told something is the one that people were shown.
        remote = next((one for one in found if one.reference == self.delivery.reference), found[0])
        for other in found:
            if other.reference != remote.reference:
                self._system.withdraw(other, remote)
        updated = self.delivery.found(remote)
        if self.delivery.intent is not None and self.delivery.intent.does == "create":
            updated = updated.model_copy(update={"intent": None})
        if updated != self.delivery:
            self.keep(updated)
        return remote
