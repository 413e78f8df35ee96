"""The wait for the approval of a release's change in systems that policy makes authorities, without a worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseOperator, Connection
from airflow.sdk.exceptions import TaskDeferred
from airflow.triggers.base import BaseTrigger, TriggerEvent

from interlock.adapters.catalogue.systems import load_systems
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import Policy, Service
from interlock.domain.change.policy import flows_of, time_limits_of
from interlock.domain.errors import GateRejected, ReleaseError
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import BOARD_DECIDED, RECORD_DECIDED
from interlock.domain.ledger.reading import plan_in
from interlock.domain.permits.objections import WHO_ELSE_APPROVES
from interlock.domain.permits.permit import utc_text
from interlock.domain.permits.withdrawal import called_off
from interlock.domain.records import Decision, RolloutPlan
from interlock.locations import catalogue_folder
from interlock.stages.runtime import resources
from interlock.stages.runtime.calendars import WAITS
from interlock.stages.runtime.evidence import chain_entries, record, refuse_void, this_chain
from interlock.stages.runtime.taskflow import keep_result, reasons_kept

from .authorities import Standing, standings, standings_by

if TYPE_CHECKING:
    from airflow.sdk import Context

    from interlock.adapters.ledger.ledger import Ledger

FIRST_LOOK, LONGEST_LOOK = 5.0, 60.0
"""Seconds between two looks at the change there: the first, and the longest, which is reached after some minutes."""


def asks_authorities(policy: Policy, service: Service) -> bool:
    """Tell whether a change type of a service needs an approval in another system."""
    return any("authority" in flow.records.values() for flow in flows_of(policy, service).values())


class AwaitAuthorities(BaseOperator):
    """Wait until the change of the release is approved in each system that policy makes an authority.

    Uses no worker slot. It reads the change there, and goes on as soon as it is approved. It ends the release if the
    change is rejected or cancelled there, or is not approved in time.

    :param service: the service's name.
    :param rollout: the frozen rollout plan.
    :param decision: the board's decision, which is the task's result, too.
    """

    template_fields: Sequence[str] = ("rollout", "decision")

    def __init__(self, *, service: str, rollout: Any, decision: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.service, self.rollout, self.decision = service, rollout, decision

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the changes; wait if one is not approved yet."""
        plan, decision = RolloutPlan.from_xcom(self.rollout), Decision.from_xcom(self.decision)
        with reasons_kept(), resources.one_ledger():
            refuse_void([plan, decision])
            entries = chain_entries()
            found = standings(plan, entries)
            self._record_if_decided(plan, found, self._until(entries))
            if any(one.why for one in found):
                self._wait(context, found, self._until(entries))
        return decision.to_xcom()

    def execute_again(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Read again. The event of the trigger only wakes the task."""
        self.log.info("Looking again: %s", event.get("why"))
        return self.execute(context)

    def _until(self, entries: Sequence[Entry]) -> datetime:
        policy, _, service = resources.catalogue_of(self.service)
        decided = next(one.at for one in reversed(entries) if one.kind == BOARD_DECIDED)
        return decided + time_limits_of(policy, service).record_approval

    def _record_if_decided(self, plan: RolloutPlan, found: Sequence[Standing], until: datetime) -> None:
        against = [one for one in found if one.why]
        rejected = [one for one in against if one.read is not None and one.read.rejected]
        if against and not rejected and datetime.now(UTC) < until:
            return
        if rejected:
            reason = " ".join(one.why for one in rejected)
        elif against:
            reason = f"Not approved until {utc_text(until)}: {' '.join(one.why for one in against)}"
        else:
            names = ", ".join(f"{one.read.number} in {one.system}" for one in found if one.read)
            reason = f"Approved: {names}." if names else "The policy names no authority for this release."
        decided = Decision(
            subject="record",
            digest=plan.digest,
            approved=not against,
            required=bool(found),
            expired=bool(against) and not rejected,
            reason=reason,
        )
        read = [one.read.to_xcom() for one in found if one.read is not None]
        record(RECORD_DECIDED, {**decided.to_xcom(), "read": read})
        if against:
            keep_result(decided)
            raise GateRejected(
                decided.reason,
                rule=f"change_types.{plan.change_type}.records of the policy",
                who=WHO_ELSE_APPROVES,
                next_step="trigger the release again",
            )

    def _wait(self, context: Context, found: Sequence[Standing], until: datetime) -> NoReturn:
        against = [one for one in found if one.why]
        named = [f"{one.read.number} in {one.system}" if one.read else one.system for one in against]
        why = f"the approval of {', '.join(named)}, until {utc_text(until)}. {' '.join(one.why for one in against)}"
        self.log.info("Waiting for %s Who can decide: %s", why, WHO_ELSE_APPROVES)
        context["ti"].xcom_push(key=WAITS, value=why)
        raise TaskDeferred(
            trigger=AuthorityTrigger(
                chain=this_chain(),
                known=digest_of(found),
                until=until,
                connection=resources.LEDGER,
            ),
            method_name="execute_again",
        )


def digest_of(found: Sequence[Standing]) -> str:
    """Return a digest of what authorities say. It changes with each answer there."""
    return sha256_of({one.system: [one.why, one.read.to_xcom() if one.read else None] for one in found})


class AuthorityTrigger(BaseTrigger):
    """Fire when an authority says something else of a release, when it was called off, or when the time is up.

    :param chain: of the release.
    :param known: what the authorities said, by :func:`digest_of`.
    :param until: when the time is up.
    :param connection: the Airflow connection of the ledger.
    """

    def __init__(self, *, chain: str, known: str, until: datetime, connection: str) -> None:
        super().__init__()
        self.chain, self.known, self.until, self.connection = chain, known, until, connection

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {"chain": self.chain, "known": self.known, "until": self.until, "connection": self.connection},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Read the ledger and the changes, less often the longer it takes."""
        wait = FIRST_LOOK
        while (left := (self.until - datetime.now(UTC)).total_seconds()) > 0:
            try:
                if why := await self._news():
                    yield TriggerEvent({"why": why})
                    return
            except ReleaseError as error:  # the task asks itself when the time is up
                self.log.warning("%s", error)
            await asyncio.sleep(min(left, wait))
            wait = min(LONGEST_LOOK, wait * 1.2)
        yield TriggerEvent({"why": "the time is up"})

    async def _news(self) -> str:
        from interlock.adapters.ledger.ledger import open_ledger  # not at the top: brings SQLAlchemy

        systems = (await asyncio.to_thread(load_systems, catalogue_folder())).systems
        names = {one.connection for one in systems.values()}
        connections = {name: await Connection.async_get(name) for name in names}
        with open_ledger(await Connection.async_get(self.connection)) as ledger:
            return await asyncio.to_thread(self._look, ledger, connections)

    def _look(self, ledger: Ledger, connections: Mapping[str, Any]) -> str:
        entries = ledger.entries(self.chain)
        if called_off(entries):
            return "the release was called off"
        plan = plan_in(entries)
        if plan is None:
            return ""
        found = tuple(standings_by(plan, entries, ledger, connections.__getitem__))
        return "an authority says something else" if digest_of(found) != self.known else ""
