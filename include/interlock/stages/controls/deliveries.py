"""The Dags ``deliver_records`` and ``retry_deliveries``: other systems are told of releases, from the outbox.

No release waits for them, and nothing that they meet stops one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from airflow.sdk import BaseHook, BaseOperator, Connection, Context, Param
from airflow.triggers.base import BaseTrigger, TriggerEvent

from interlock.adapters.catalogue.catalogue import load_service
from interlock.adapters.catalogue.systems import load_systems
from interlock.adapters.templates import escape
from interlock.domain.errors import CatalogueError, ReleaseError
from interlock.domain.outbox.delivery import Delivery
from interlock.domain.outbox.retrying import RetryRequest, chain_named, parse_retry
from interlock.domain.trigger_form import fields_of
from interlock.locations import catalogue_folder
from interlock.stages.runtime import resources
from interlock.stages.runtime.notices import notify, page_address
from interlock.stages.runtime.requests import entered, form_params, requester
from interlock.stages.runtime.taskflow import reasons_kept, stage_task

log = logging.getLogger(__name__)

POLL = 5.0
"""Seconds between two looks at the outbox, by the triggerer."""
LASTS = timedelta(hours=6)
"""A run ends after this time, so that it does not use an old version of the Dag for ever; the next one begins."""
AFTER_FAILURE = timedelta(minutes=1)
"""The next look after one at which a system could not be asked: its account is missing or wrong."""
AT_A_TIME = timedelta(minutes=5)
"""So long a task delivers before it gives its worker back; what is left follows at once."""


def schedule(folder: Path) -> str | None:
    """Return the schedule: a run at any time, if there is a system to be told."""
    try:
        return "@continuous" if load_systems(folder).systems else None
    except CatalogueError:
        return None


class DueTrigger(BaseTrigger):
    """Fire when something is to be delivered, or when the time is up.

    :param systems: the systems of systems.yaml.
    :param until: when the time is up.
    :param connection: the Airflow connection of the ledger.
    :param after: not before this time; None: at once.
    """

    def __init__(self, *, systems: list[str], until: datetime, connection: str, after: datetime | None = None) -> None:
        super().__init__()
        self.systems, self.until, self.connection, self.after = systems, until, connection, after

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {"systems": self.systems, "until": self.until, "connection": self.connection, "after": self.after},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look at the outbox every few seconds."""
        from interlock.adapters.ledger.deliveries import Outbox  # not at the top: brings SQLAlchemy
        from interlock.adapters.ledger.ledger import open_ledger

        if self.after is not None:
            await asyncio.sleep(max(0.0, (min(self.after, self.until) - datetime.now(UTC)).total_seconds()))
        while datetime.now(UTC) < self.until:
            try:
                with open_ledger(await Connection.async_get(self.connection)) as ledger:
                    outbox = Outbox(ledger)
                    while datetime.now(UTC) < self.until:
                        if await asyncio.to_thread(outbox.has_work, self.systems):
                            yield TriggerEvent({"why": "something is to be delivered"})
                            return
                        await asyncio.sleep(POLL)
            except ReleaseError as error:
                self.log.warning("%s", error)
                await asyncio.sleep(POLL)
        yield TriggerEvent({"why": "the time is up"})


class DeliverRecords(BaseOperator):
    """Tell all systems what is due; wait without a worker while nothing is."""

    def execute(self, context: Context) -> None:
        """Deliver, then wait for more."""
        self._deliver(datetime.now(UTC) + LASTS)

    def execute_again(self, context: Context, event: dict[str, Any], until: str) -> None:
        """Deliver what the triggerer has seen."""
        self.log.info("Looking again: %s", event.get("why"))
        self._deliver(datetime.fromisoformat(until))

    def _deliver(self, until: datetime) -> None:
        with reasons_kept(), resources.one_ledger():
            systems, failed = deliver_all()
        if datetime.now(UTC) < until and systems:
            after = datetime.now(UTC) + AFTER_FAILURE if failed else None
            trigger = DueTrigger(systems=systems, until=until, connection=resources.LEDGER, after=after)
            self.defer(trigger=trigger, method_name="execute_again", kwargs={"until": until.isoformat()})


def deliver_all() -> tuple[list[str], list[str]]:
    """Tell each system of the catalogue what is due. One that fails does not keep others back.

    :return: the systems; and those that could not even be asked, such as without a connection in Airflow.
    """
    from interlock.adapters.ledger.ledger import open_ledger
    from interlock.adapters.outbox.registry import open_system
    from interlock.adapters.outbox.runs import deliver_due

    described = load_systems(catalogue_folder()).systems
    keys = [resources.signer().public_key] if described else []
    failed = []
    for name, one in described.items():
        try:
            with (
                closing(open_system(one, BaseHook.get_connection(one.connection), site=page_address(""))) as system,
                open_ledger(BaseHook.get_connection(resources.LEDGER), connections=one.parallel + 1) as ledger,
            ):
                until = datetime.now(UTC) + AT_A_TIME
                done = deliver_due(name, system, ledger, scopes_of, keys, parallel=one.parallel, until=until)
        except Exception:
            log.exception("%s was not told anything", name)
            failed.append(name)
            continue
        log.info("%s: %s releases are up to date, %s are tried again", name, done.told, done.failing)
        tell_people(name, done.refused)
    return sorted(described), failed


def scopes_of(service: str) -> tuple[str, ...]:
    """Return what an emergency stop names to concern a service."""
    try:
        unit = load_service(catalogue_folder(), service).services[service].business_unit
    except CatalogueError:
        return (service,)
    return (service, unit) if unit else (service,)


def tell_people(system: str, refused: Iterable[Delivery]) -> None:
    """Send one mail about what a system newly refused; who is told, findings.notify of the policy says."""
    new = [one for one in refused if one.attempts == 1]
    if not new:
        return
    lines = [f"- {one.number or 'no record yet'}, {one.chain}: {one.error}" for one in new[:20]]
    text = "\n".join(
        [
            f"{system} refused what it was told of {len(new)} releases. No release was stopped by this.",
            "",
            *map(escape, lines),
            "",
            "Correct the reason, then trigger the Dag retry_deliveries. interlock deliveries lists all of them.",
        ]
    )
    same = sha256("/".join(f"{one.chain} {one.told}" for one in new).encode()).hexdigest()[:32]
    try:
        notify(f"{system} refused records of releases", text, same=same)
    except Exception:
        log.exception("Nobody could be told that %s refused records", system)


def retry_params(folder: Path) -> dict[str, Param]:
    """Return the form of a retry."""
    try:
        systems = sorted(load_systems(folder).systems)
    except CatalogueError:
        systems = []
    return form_params(fields_of(RetryRequest, **({"system": {"enum": systems}} if systems else {})))


@stage_task(task_display_name="Try deliveries again")
def retry_deliveries() -> list[str]:
    """Make what a system refused, or that failed, due now, or all events of a release; return what that is."""
    from interlock.adapters.ledger.deliveries import Outbox

    request = parse_retry(entered(), load_systems(catalogue_folder()).systems)
    by = requester()
    with resources.ledger() as ledger:
        outbox = Outbox(ledger)
        concerned = (one for one in outbox.all() if one.system == request.system and (one.error or request.replay))
        chain = chain_named(request.run, [one.chain for one in concerned])
        tell = outbox.replay if request.replay else outbox.retry
        again = tell(request.system, chain)
    log.info("%s had %s deliveries to %s tried again: %s", by, len(again), request.system, request.reason)
    return [f"{one.number or 'no record yet'}, {one.chain}: {one.error}" for one in again][:100]


def deliver_tasks() -> None:
    """Deliver, and wait."""
    DeliverRecords(
        task_id="deliver_records",
        task_display_name="Tell other systems",
        doc_md="Tells the systems of systems.yaml of releases. It waits without a worker while nothing is to be told.",
        execution_timeout=timedelta(minutes=30),
    )
