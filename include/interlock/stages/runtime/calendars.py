"""The current calendars for the running release.

They are no part of the catalogue's digest: a freeze that is added while a release is under way has to refuse it as a
freeze, with its name, and not as a changed catalogue. Each permit has the answer of the calendars at that time.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowRescheduleException, TaskDeferred

from interlock.adapters.calendars.copies import copies_folder, shared_copies
from interlock.adapters.catalogue.catalogue import calendars_of
from interlock.domain.calendars.calendar import Answer, Calendars, may_change
from interlock.domain.calendars.overrides import Override, in_force
from interlock.domain.catalogue import Policy, Service, ServiceCatalogue
from interlock.domain.catalogue.calendar_file import Feed
from interlock.domain.ledger.chain import INSTALLATION
from interlock.domain.ledger.kinds import FREEZE_OVERRIDDEN, RELEASE_REQUESTED
from interlock.domain.permits.withdrawal import refuse_called_off
from interlock.locations import catalogue_folder

from . import resources
from .evidence import chain_entries, this_chain
from .taskflow import WaitUntil, reasons_kept
from .triggers import StartTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from interlock.adapters.calendars.feeds import Copies

log = logging.getLogger(__name__)
POLL_INTERVAL = timedelta(minutes=1)
"""How often a waiting task reads the calendars again: a freeze may be shortened or overridden meanwhile."""
MIN_WAIT = timedelta(seconds=5)
WAITS = "waits_for"
"""The XCom key of the reason for which a task waits."""


@lru_cache(maxsize=1)
def _copies(folder: Path) -> Copies:
    # Not at the top: for catalogues that name a URL.
    from interlock.adapters.calendars.feeds import Copies, networks_of, web_client

    return Copies(folder, web_client, networks=networks_of, shared=shared_copies(resources.store))


def calendars_now(policy: Policy) -> Calendars:
    """Return the current calendars. A calendar that cannot be read closes everything."""

    def copy_of(feed: Feed) -> Path:
        return _copies(copies_folder()).copy_of(feed)

    return calendars_of(catalogue_folder(), policy, copy_of)


def answer_now(catalogue: ServiceCatalogue, environment: str) -> Answer:
    """Say whether a service may change an environment now. Overridden entries do not count."""
    now, service = datetime.now(UTC), catalogue.service
    lifted = {one.place for one in overrides_at(service, environment, now)}
    return may_change(calendars_now(catalogue.policy), service, environment, now, overridden=lifted)


def overrides_at(service: Service, environment: str, at: datetime) -> tuple[Override, ...]:
    """Return the overrides that count for the running release at an instant."""
    with resources.ledger() as ledger:
        entries = ledger.entries(INSTALLATION, kind=FREEZE_OVERRIDDEN)
        asked = ledger.entries(this_chain(), kind=RELEASE_REQUESTED) if entries else ()
    by = str(asked[-1].payload.get("requested_by", "")) if asked else ""
    return in_force(entries, service.name, environment, at, requester=by)


def foreseen(
    catalogue: ServiceCatalogue, environment: str, moments: Mapping[str, datetime]
) -> list[tuple[str, Answer]]:
    """Return what the current calendars say about now and about each later moment.

    An entry that is overridden at a moment does not count then, as for the release.

    :param moments: each moment by its name for people, such as ``at its start``.
    """
    known, now, service = calendars_now(catalogue.policy), datetime.now(UTC), catalogue.service
    coming = {"now": now} | {name: at for name, at in moments.items() if at > now}
    lifted = {name: {one.place for one in overrides_at(service, environment, at)} for name, at in coming.items()}
    return [(name, may_change(known, service, environment, at, overridden=lifted[name])) for name, at in coming.items()]


def closed_at_start(catalogue: ServiceCatalogue, environment: str, start: datetime | None) -> Answer | None:
    """Return which freeze closes an environment at the start of a release; none: no freeze does, as far as is known.

    A change window that opens later is no freeze: a release waits for it before it changes anything.

    :param start: none, or in the past: now.
    """
    _, answer = foreseen(catalogue, environment, {"at its start": start} if start else {})[-1]
    return answer if answer.frozen else None


def wait_for_opening(answer: Answer) -> NoReturn:
    """Put the running task off, without a worker, until an environment opens, or a minute: it may be overridden."""
    _wait_for(answer, answer.next or datetime.max.replace(tzinfo=UTC))


def closed_now(catalogue: ServiceCatalogue, environment: str, *, under_way: bool = False) -> tuple[str, ...]:
    """Return, in words, what closes an environment to a service now; nothing if it is open.

    :param under_way: a wave has begun, so an entry that lets it finish does not count.
    """
    answer = answer_now(catalogue, environment)
    finishes = under_way and answer.during_rollout == "finish"
    return () if answer.open or finishes else (str(answer),)


def put_off(catalogue: ServiceCatalogue, environment: str) -> None:
    """Put the running task off, without a worker, if a rollout that is under way has to wait for its calendars.

    It waits if the entry that closes the environment says ``stop`` or ``finish``; by ``back_out``, it does not go on.

    :raises AirflowRescheduleException: the task looks again when the environment opens, or before.
    """
    answer = answer_now(catalogue, environment)
    if answer.during_rollout in ("stop", "finish") and answer.next is not None:
        _wait_for(answer, answer.next)


def await_window(catalogue: ServiceCatalogue, environment: str) -> None:
    """Put the running task off, without a worker, while no change window is open.

    It does not wait for the end of a freeze, or for a window beyond the horizon: these refuse the permit.

    :raises AirflowRescheduleException: the task looks again when the window opens, or before.
    """
    answer = answer_now(catalogue, environment)
    if answer.by is not None and answer.by.effect == "allow" and answer.next is not None:
        _wait_for(answer, answer.next)


def _wait_for(answer: Answer, opening: datetime) -> NoReturn:
    wait(str(answer), min(opening, datetime.now(UTC) + POLL_INTERVAL))


def wait(why: str, until: datetime) -> NoReturn:
    """Put the running task off, without a worker; its log and its XCom ``waits_for`` say why.

    Never for less than :data:`MIN_WAIT`: if the task is due again before Airflow's executor has reported the end of the
    previous try, the scheduler takes the task for killed, and it loses a retry.
    """
    log.info("Waiting: %s", why)
    get_current_context()["ti"].xcom_push(key=WAITS, value=why)
    raise AirflowRescheduleException(max(until, datetime.now(UTC) + MIN_WAIT))


class AwaitStart(WaitUntil):
    """Wait for a time without a worker; a release that is called off meanwhile ends at once."""

    def execute(self, context: Context) -> None:
        """Hand over to the triggerer, unless the time has come."""
        with reasons_kept():
            refuse_called_off(chain_entries())
        if not self.poke(context):
            trigger = StartTrigger(moment=self._moment, chain=this_chain(), connection=resources.LEDGER)
            raise TaskDeferred(trigger=trigger, method_name="execute_again")

    def execute_again(self, context: Context, event: dict[str, Any]) -> None:
        """Check again. The event of the trigger only wakes the task."""
        self.log.info("Looking again: %s", event.get("why"))
        self.execute(context)
