"""Where signed events of other systems come in: as far as policy says, they stop rollouts, show incidents, approve."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from fastapi import HTTPException, Request, status
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from interlock.adapters.catalogue.catalogue import load_rules
from interlock.adapters.ledger.stops import declare, request_in
from interlock.adapters.signing.witness import as_witnessed, witness_signer
from interlock.adapters.webhooks.incidents import arrived
from interlock.adapters.webhooks.signatures import TOLERANCE
from interlock.domain.canonical import Sha256, sha256_of
from interlock.domain.catalogue.outside.events import EventSource
from interlock.domain.errors import AlreadyRecorded, LedgerError, ReleaseError, RequestRefused
from interlock.domain.ledger.chain import INSTALLATION, Entry
from interlock.domain.ledger.events import (
    AnswerElsewhere,
    AnswerSent,
    CloudEvent,
    CountedEvent,
    Incident,
    IncidentSeen,
)
from interlock.domain.ledger.kinds import EVENT_COUNTED, INCIDENT_SEEN, RECORD_ANSWERED, RELEASE_CLOSED
from interlock.domain.ledger.reading import plan_in
from interlock.domain.ledger.runs import run_of
from interlock.domain.outbox.facts import records_of
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
        taken = _Taken(name, described, webhook, event, sha256_of(body))
        if (state := described.state_of(event.type)) is not None:
            return _answered(taken, state, AnswerSent.model_validate(event.data), open_ledger)
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
        return counts(taken, incident, open_ledger)
    except (ValidationError, ValueError, RecursionError) as error:
        if isinstance(error, RequestRefused):
            raise HTTPException(status.HTTP_422_UNPROCESSABLE_CONTENT, str(error)) from error
        if isinstance(error, ReleaseError):
            raise _not_now(name) from error
        what = "The event is not a CloudEvent 1.0 in JSON whose data has what docs/service-management.md says."
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
    body: Sha256

    @property
    def by(self) -> str:
        return f"event.{self.source}"

    def about(self) -> dict[str, Any]:
        """Return the fields that a record of an event has in any case."""
        event = {"event": self.event.id, "type": self.event.type, "sender": self.event.source}
        return {"source": self.source, "webhook": self.webhook, "body": self.body, **event}

    def record(self, ledger: Any, kind: str, counted: Mapping[str, Any], chain: str = INSTALLATION) -> None:
        """Record what became of the event.

        :raises AlreadyRecorded: the same webhook was recorded before.
        """
        ledger.append_once(chain, kind, counted, actor=self.by, key=f"{kind}/{self.source}/{self.webhook}")


def _stopped(taken: _Taken, incident: Incident, open_ledger: Callable[[], Any]) -> dict[str, str]:
    """Declare the stop of an event, once: the same webhook stops nothing again, also after the stop was lifted."""
    hours = int(taken.described.lasts.total_seconds() // 3600)
    asked = {"scope": incident.scope, "reason": incident.reason, "incident": incident.incident, "hours": hours}
    stop = request_in(asked, catalogue_folder())
    with open_ledger() as ledger:
        declared = declare(ledger, stop, taken.by, (taken.by, taken.webhook), actor=taken.by)
        what = f"Emergency stop of {incident.scope} by an event of {taken.source}: {incident.reason}"
        counted = CountedEvent(what=what, stop=str(declared.payload["id"]), **taken.about())
        try:
            taken.record(ledger, EVENT_COUNTED, counted.model_dump(mode="json"))
        except AlreadyRecorded:
            return {"result": "known", "stop": counted.stop}
        except LedgerError:
            log.exception("The stop %s is in force; its event could not be recorded", counted.stop)
            raise
    return {"result": "stopped", "stop": counted.stop}


def _shown(taken: _Taken, incident: Incident, open_ledger: Callable[[], Any]) -> dict[str, str]:
    """Record that an incident was opened or ended: those who decide on releases are shown it."""
    ended = taken.event.type in taken.described.ends
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
            taken.record(ledger, INCIDENT_SEEN, seen.model_dump(mode="json"))
        except AlreadyRecorded:
            return {"result": "known"}
    return {"result": "ended" if ended else "shown"}


def _answered(
    taken: _Taken,
    state: Literal["approved", "rejected", "withdrawn"],
    said: AnswerSent,
    open_ledger: Callable[[], Any],
) -> dict[str, str]:
    """Record and sign in a release's chain what a person decided in an authority. Tasks judge whether it counts."""
    now, by = datetime.now(UTC), said.set_by or said.user
    if taken.event.time is None or taken.event.time > now + TOLERANCE:
        raise RequestRefused(
            "The event does not say when the person decided, or a time that is more than five minutes ahead.",
            rule="of several answers of a person the last one counts",
            next_step="send the time of the decision as time of the CloudEvent",
        )
    with open_ledger() as ledger:
        entries = ledger.entries(said.release) if run_of(said.release) else ()
        _refuse_answer(taken, said, entries)
        answer = AnswerElsewhere(
            what=f"{state.capitalize()} by {said.user} in {taken.described.system}: the plan {said.plan[:12]}",
            system=taken.described.system,
            plan=said.plan,
            user=said.user,
            set_by=by,
            state=state,
            at=taken.event.time,
            **taken.about(),
        )
        signed = as_witnessed(RECORD_ANSWERED, said.release, answer, now, witness_signer())
        try:
            taken.record(ledger, RECORD_ANSWERED, signed, said.release)
        except AlreadyRecorded:
            return {"result": "known"}
    return {"result": state}


def _refuse_answer(taken: _Taken, said: AnswerSent, entries: Sequence[Entry]) -> None:
    """Raise RequestRefused if a release cannot be approved by an event."""
    plan, system = plan_in(entries), taken.described.system
    if plan is None or any(one.kind == RELEASE_CLOSED for one in entries):
        what = f"{said.release} is no release that waits for an approval: its plan is not frozen yet, or it has ended."
    elif records_of(entries).get(system) != "authority":
        what = f"The policy of {said.release} does not make {system} an authority."
    elif said.plan != plan.digest:
        what = f"The event is about the plan {said.plan[:12]}, but that of {said.release} is {plan.digest[:12]}."
    else:
        return
    raise RequestRefused(
        what,
        rule=f"events.{taken.source} of policy.yaml: an approval is for the frozen plan of a release that needs it",
        next_step="send release and plan as the webhook about the frozen plan has them",
    )
