"""The release calendar: a page in Airflow's UI, what it shows as JSON, and the feed to subscribe to.

Everybody who is logged in sees the calendars; runs are shown to those who may read their Dags. Programs that subscribe
cannot log in: the feed takes a token from the page, which only names its user.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import HTTPException, Query, Request, Response, status
from pydantic import Field

from interlock.adapters.calendars.schedule import Item, Schedule
from interlock.adapters.calendars.schedule_feed import path_of, write_ical
from interlock.console.control.lookups import runs_under_way, unpaused
from interlock.domain.canonical import Model
from interlock.domain.dag_names import dag_of_train
from interlock.domain.errors import ReleaseError

MAX_PERIOD_BEFORE, MAX_PERIOD_AFTER = timedelta(days=90), timedelta(days=366)
"""What the feed has: so far back, and so far ahead."""
TOKEN_LIFETIME = timedelta(days=366)


class ScheduledItem(Item):
    """Something that goes on at some time, with its page."""

    path: str = Field(description="Below Airflow's address; empty: it has none, or the reader may not see it")


class ShownSchedule(Model):
    """What the calendar shows of a time."""

    items: tuple[ScheduledItem, ...]
    conflicts: tuple[ScheduledItem, ...] = Field(description="Of the next 60 days, also outside of this time")
    faults: tuple[str, ...] = Field(description="What closes everything, or is left out because its file is wrong")
    notes: tuple[str, ...] = Field(description="Which calendars may be out of date")
    feed: str = Field(description="Path of the reader's own feed; empty: Airflow has no secret for it")


@dataclass(frozen=True, slots=True)
class Seen:
    """What the calendar shows.

    :ivar conflicts: of the future, not only of the period shown.
    :ivar faults: what closes everything, or is left out because its file is wrong.
    :ivar notes: which calendars may be out of date.
    """

    items: list[Item]
    conflicts: list[Item]
    faults: list[str]
    notes: list[str]


def schedule(request: Request, user: GetUserDep, start: datetime, end: datetime) -> ShownSchedule:
    """Return departures, calendars, bookings and releases of a time, what clashes, and where the reader's feed is."""
    if start.tzinfo is None or end.tzinfo is None or end <= start:
        raise HTTPException(
            status.HTTP_422_UNPROCESSABLE_CONTENT, "start and end must be times with a time zone, and end after start"
        )
    found = look(request, user, start, end, clashing=True)
    token = token_of(user.get_name(), datetime.now(UTC) + TOKEN_LIFETIME)
    return ShownSchedule(
        items=tuple(map(_told, found.items)),
        conflicts=tuple(map(_told, found.conflicts)),
        faults=tuple(found.faults),
        notes=tuple(found.notes),
        feed=f"interlock/calendar.ics?token={token}" if token else "",
    )


def _told(one: Item) -> ScheduledItem:
    return ScheduledItem(**dict(one), path=path_of(one))


def feed(request: Request, token: Annotated[str, Query(max_length=300)]) -> Response:
    """Return the calendar as an iCalendar file, for the user of a token."""
    user = _user_of(token)
    if user is None:
        raise HTTPException(
            status.HTTP_401_UNAUTHORIZED, "This address has expired. Copy a new address from the release calendar"
        )
    now = datetime.now(UTC)
    found = look(request, user, now - MAX_PERIOD_BEFORE, now + MAX_PERIOD_AFTER)
    data = write_ical(found.items, address=str(request.base_url).partition("/interlock")[0], now=now)
    return Response(data, media_type="text/calendar", headers={"Cache-Control": "private, max-age=300"})


def look(request: Request, user: Any, start: datetime, end: datetime, *, clashing: bool = False) -> Seen:
    """Look at what goes on.

    :param clashing: look for the conflicts of the time to come, too.
    """
    now = datetime.now(UTC)
    try:
        found = _found(request, start, end, now, clashing=clashing)
    except ReleaseError as error:
        raise HTTPException(status.HTTP_503_SERVICE_UNAVAILABLE, str(error)) from error
    return replace(found, items=_readable(found.items, user), conflicts=_readable(found.conflicts, user))


def _found(request: Request, start: datetime, end: datetime, now: datetime, *, clashing: bool) -> Seen:
    plans = request.app.state.overview.known.at(now)
    with request.app.state.open_ledger() as ledger:
        known = Schedule(
            plans.catalogue,
            plans.calendars,
            ledger,
            plans.trains,
            now=now,
            unpaused=unpaused([dag_of_train(name) for name in plans.trains]),
            under_way=runs_under_way(),
        )
        found, conflicts = known.items(start, end), known.conflicts() if clashing else []
    return Seen(
        items=found,
        conflicts=conflicts,
        faults=[*plans.faults],
        notes=[*plans.notes],
    )


def _readable(found: Sequence[Item], user: Any) -> list[Item]:
    """Return what a user may see: of runs, those of Dags that they may read; a departure leads to a readable Dag.

    That a train departs is no secret, also if it has its run already: then it is said without anything of the run.
    """
    readable = get_auth_manager().get_authorized_dag_ids(user=user, method="GET")
    seen = (one for one in found if not one.run_id or one.dag_id in readable or one.kind == "departure")
    return [one if one.dag_id in readable else one.model_copy(update=_nothing_of_run(one)) for one in seen]


def _nothing_of_run(one: Item) -> dict[str, str]:
    return {"dag_id": "", "run_id": "", "about": ""} if one.run_id else {"dag_id": ""}


def token_of(user: str, until: datetime) -> str:
    """Return the token with which a user's feed is read until an instant; empty: Airflow has no secret for it."""
    said = f"{user}~{until:%Y%m%d}"
    mark = _mark(said)
    return f"{said}~{mark}" if mark else ""


def name_in(token: str, now: datetime) -> str:
    """Return the user name of a token; empty: the token is invalid or has expired."""
    said, _, mark = token.rpartition("~")
    user, _, until = said.rpartition("~")
    expected = _mark(said)
    if not expected or not user or not hmac.compare_digest(mark.encode(), expected.encode()):
        return ""
    return user if f"{now:%Y%m%d}" <= until else ""


def _mark(said: str) -> str:
    from airflow.configuration import conf

    secret = conf.get("api_auth", "jwt_secret", fallback="") or conf.get("core", "fernet_key", fallback="")
    return hmac.new(f"interlock-calendar {secret}".encode(), said.encode(), sha256).hexdigest() if secret else ""


def _user_of(token: str) -> Any:
    """Return the user of a token, if Airflow still lets them log in."""
    name = name_in(token, datetime.now(UTC))
    manager: Any = get_auth_manager()
    known = getattr(manager, "security_manager", None)
    if not name or known is None:
        return None
    user = known.find_user(username=name)
    return user if user is not None and user.is_active else None
