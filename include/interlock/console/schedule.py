"""The release calendar: a page in Airflow's UI, what it shows as JSON, and the feed to subscribe to.

Everybody who is logged in sees the calendars; runs are shown to those who may read their Dags. Programs that subscribe
cannot log in: the feed takes a token, which the page gives to its reader and which says nothing but whose it is.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import HTTPException, Query, Request, Response, status

from include.interlock.adapters.catalogue import calendars_of, load_catalogue
from include.interlock.adapters.conflicts import conflicts_of_trains
from include.interlock.adapters.schedule import Item, as_ical, items, path_of
from include.interlock.adapters.trains import load_trains
from include.interlock.domain.errors import CatalogueError

from .verdict import catalogue_folder

BEHIND, AHEAD = timedelta(days=90), timedelta(days=366)
"""What the feed has: so far back, and so far ahead."""
TOKEN_HOLDS = timedelta(days=366)


def shown(request: Request, user: GetUserDep, start: datetime, end: datetime) -> dict[str, Any]:
    """Return what the page shows of a time, what clashes, and where the reader's feed is."""
    if start.tzinfo is None or end.tzinfo is None or end <= start:
        raise HTTPException(status.HTTP_422_UNPROCESSABLE_CONTENT, "start and end are instants with a time zone")
    found, more = _look(request, user, start, end)
    token = token_of(user.get_name(), datetime.now(UTC) + TOKEN_HOLDS)
    return {
        "items": [{**one.model_dump(mode="json"), "path": path_of(one)} for one in found],
        **more,
        "feed": f"interlock/calendar.ics?token={token}" if token else "",
    }


def feed(request: Request, token: Annotated[str, Query(max_length=300)]) -> Response:
    """Return the calendar as an iCalendar file, for whoever a token is of."""
    user = _user_of(token)
    if user is None:
        raise HTTPException(status.HTTP_401_UNAUTHORIZED, "This address is not valid any more: take a new one")
    now = datetime.now(UTC)
    found, _ = _look(request, user, now - BEHIND, now + AHEAD)
    data = as_ical(found, address=str(request.base_url).partition("/interlock")[0], now=now)
    return Response(data, media_type="text/calendar", headers={"Cache-Control": "private, max-age=300"})


def _look(request: Request, user: Any, start: datetime, end: datetime) -> tuple[list[Item], dict[str, Any]]:
    folder, now = catalogue_folder(), datetime.now(UTC)
    try:
        catalogue = load_catalogue(folder)
    except CatalogueError as error:
        raise HTTPException(status.HTTP_503_SERVICE_UNAVAILABLE, str(error)) from error
    calendars = calendars_of(folder, catalogue.policy, lambda feed: None)
    table = load_trains(folder, catalogue.policy, catalogue.board)
    with request.app.state.open_ledger() as ledger:
        found = items(catalogue, calendars, ledger, table.trains, begin=start, end=end, now=now)
        clashes = conflicts_of_trains(catalogue, calendars, ledger, table.trains, now)
    faults = [*calendars.faults, *table.broken.values(), *catalogue.broken.values()]
    return _readable(found, user), {"conflicts": [str(one) for one in clashes], "faults": faults}


def _readable(found: Sequence[Item], user: Any) -> list[Item]:
    """Return what a user may see: of runs, those of Dags that they may read; a departure leads to a readable Dag."""
    readable = get_auth_manager().get_authorized_dag_ids(user=user, method="GET")
    seen = (one for one in found if not one.run_id or one.dag_id in readable)
    return [one if one.dag_id in readable else one.model_copy(update={"dag_id": ""}) for one in seen]


# --- tokens ----------------------------------------------------------------------------------------------------------


def token_of(user: str, until: datetime) -> str:
    """Return the token with which a user's feed is read until an instant; empty: Airflow has no secret for it."""
    said = f"{user}~{until:%Y%m%d}"
    mark = _mark(said)
    return f"{said}~{mark}" if mark else ""


def name_in(token: str, now: datetime) -> str:
    """Return whose token this is; empty: nobody's, or not any more."""
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
    """Return the user whose token this is, if Airflow still lets them log in."""
    name = name_in(token, datetime.now(UTC))
    manager: Any = get_auth_manager()
    known = getattr(manager, "security_manager", None)
    if not name or known is None:
        return None
    user = known.find_user(username=name)
    return user if user is not None and user.is_active else None
