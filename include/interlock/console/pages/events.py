"""Where signed events of other systems come in. An event can stop rollouts if policy says so; it approves nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi import HTTPException, Request, status
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from interlock.adapters.catalogue.catalogue import load_rules
from interlock.adapters.ledger.stops import declare, request_in
from interlock.adapters.webhooks.incidents import arrived
from interlock.domain.canonical import Model, Sha256, sha256_of
from interlock.domain.catalogue.outside.events import EventSource
from interlock.domain.errors import AlreadyRecorded, LedgerError, ReleaseError, RequestRefused
from interlock.domain.ledger.chain import INSTALLATION
from interlock.domain.ledger.events import CloudEvent, CountedEvent, Incident, IncidentSeen
from interlock.domain.ledger.kinds import EVENT_COUNTED, INCIDENT_SEEN
from interlock.locations import catalogue_folder

log = logging.getLogger(__name__)
MAX_BYTES = 64 * 1024
"""Of the body of an event."""


def connection_of(name: str) -> Any:
    """Return an Airflow connection inside the API server."""
    from airflow.models.connection import Connection

    return Connection.get_connection_from_secrets(name)


async def take_event(source: str, request: Request) -> dict[str, str]:
    """Take an event: 401 without a valid signature, 413 if it is too large, 422 if policy does not let it do this."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise HTTPException(status.HTTP_413_CONTENT_TOO_LARGE, f"An event has at most {MAX_BYTES} bytes.")
    headers = {name.lower(): value for name, value in request.headers.items()}
    return await run_in_threadpool(_taken, source, headers, bytes(body), request.app.state.open_ledger)


def _taken(name: str, headers: dict[str, str], body: bytes, open_ledger: Callable[[], Any]) -> dict[str, str]:
    try:
        described = load_rules(catalogue_folder())[0].events.get(name)
        if described is None:  # as for a wrong signature: which sources there are is nobody's to try out
            raise HTTPException(status.HTTP_401_UNAUTHORIZED, "The webhook is not signed with a secret of this source.")
        webhook, event = _verified(described, headers, body)
        if event.type not in (*described.types, *described.shows, *described.ends):
            return {"result": "ignored", "why": f"events of the type {event.type} do nothing"}
        if described.kind != "cloudevents" and not event.data["scope"]:
            return {"result": "ignored", "why": f"events.{name}.services has no service that the event is about"}
        incident = Incident.model_validate(event.data)
        if incident.scope not in described.stops:
            raise RequestRefused(
                f"The source {name} may not stop {incident.scope}.",
                rule=f"events.{name}.stops, in policy.yaml",
                who="the owner of policy.yaml",
                next_step=f"send one of {', '.join(described.stops)} as scope",
            )
        counts = _stopped if event.type in described.types else _shown
        return counts(_Taken(name, described, webhook, event, incident, sha256_of(body)), open_ledger)
    except (ValidationError, ValueError, RecursionError) as error:
        if isinstance(error, RequestRefused):
            raise HTTPException(status.HTTP_422_UNPROCESSABLE_CONTENT, str(error)) from error
        if isinstance(error, ReleaseError):
            raise _not_now(name) from error
        what = "The event is not a CloudEvent 1.0 in JSON whose data has scope and reason."
        raise HTTPException(status.HTTP_400_BAD_REQUEST, what) from error
    except ReleaseError as error:
        raise _not_now(name) from error


def _not_now(name: str) -> HTTPException:
    """Return the answer to an event that may be sent again; what is wrong is for the log, and not for the sender."""
    log.exception("An event of %s could not be taken", name)
    return HTTPException(status.HTTP_503_SERVICE_UNAVAILABLE, "The event could not be taken. Send it again later.")


def _verified(described: EventSource, headers: dict[str, str], body: bytes) -> tuple[str, CloudEvent]:
    try:
        connection = connection_of(described.connection)
    except Exception as error:  # of whichever secrets backend
        raise ReleaseError(f"The connection {described.connection} cannot be read") from error
    try:
        return arrived(described, headers, body, connection.password or "", datetime.now(UTC))
    except RequestRefused as error:
        raise HTTPException(status.HTTP_401_UNAUTHORIZED, str(error)) from error


@dataclass(frozen=True)
class _Taken:
    """A verified event that policy lets do something."""

    source: str
    described: EventSource
    webhook: str
    event: CloudEvent
    incident: Incident
    body: Sha256

    @property
    def by(self) -> str:
        return f"event.{self.source}"

    def about(self) -> dict[str, Any]:
        """Return the fields that a record of an event has in any case."""
        event = {"event": self.event.id, "type": self.event.type, "sender": self.event.source}
        return {"source": self.source, "webhook": self.webhook, "body": self.body, **event}

    def record(self, ledger: Any, kind: str, counted: Model) -> None:
        """Record what became of the event.

        :raises AlreadyRecorded: the same webhook was recorded before.
        """
        key = f"{kind}/{self.source}/{self.webhook}"
        ledger.append_once(INSTALLATION, kind, counted.model_dump(mode="json"), actor=self.by, key=key)


def _stopped(taken: _Taken, open_ledger: Callable[[], Any]) -> dict[str, str]:
    """Declare the stop of an event, once: the same webhook stops nothing again, also after the stop was lifted."""
    incident, hours = taken.incident, int(taken.described.lasts.total_seconds() // 3600)
    asked = {"scope": incident.scope, "reason": incident.reason, "incident": incident.incident, "hours": hours}
    stop = request_in(asked, catalogue_folder())
    with open_ledger() as ledger:
        declared = declare(ledger, stop, taken.by, (taken.by, taken.webhook), actor=taken.by)
        what = f"Emergency stop of {incident.scope} by an event of {taken.source}: {incident.reason}"
        counted = CountedEvent(what=what, stop=str(declared.payload["id"]), **taken.about())
        try:
            taken.record(ledger, EVENT_COUNTED, counted)
        except AlreadyRecorded:
            return {"result": "known", "stop": counted.stop}
        except LedgerError:
            log.exception("The stop %s is in force; its event could not be recorded", counted.stop)
            raise
    return {"result": "stopped", "stop": counted.stop}


def _shown(taken: _Taken, open_ledger: Callable[[], Any]) -> dict[str, str]:
    """Record that an incident was opened or ended: those who decide on releases are shown it."""
    incident, ended = taken.incident, taken.event.type in taken.described.ends
    number = incident.incident or taken.event.id
    seen = IncidentSeen(
        what=f"{number} of {taken.source}, about {incident.scope}: {incident.reason}",
        scope=incident.scope,
        incident=number,
        ended=ended,
        until=datetime.now(UTC) + taken.described.lasts,
        **taken.about(),
    )
    with open_ledger() as ledger:
        try:
            taken.record(ledger, INCIDENT_SEEN, seen)
        except AlreadyRecorded:
            return {"result": "known"}
    return {"result": "ended" if ended else "shown"}
