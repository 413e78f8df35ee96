"""Webhooks of other systems as CloudEvents: of any system that signs as Standard Webhooks do, PagerDuty and Opsgenie.

PagerDuty signs the body with a secret. Opsgenie signs nothing: it sends the secret in a header, so it has to be reached
over TLS only. Neither says a time that is signed; that a webhook counts once is what protects from old ones.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from interlock.domain.catalogue.outside.events import EventSource
from interlock.domain.errors import RequestRefused
from interlock.domain.ledger.events import CloudEvent

from .signatures import secrets_in, verified_id

MIN_SECRET = 16
"""Characters of a secret of PagerDuty or Opsgenie."""
MAX_REASON = 500


def arrived(
    described: EventSource, headers: Mapping[str, str], body: bytes, password: str, now: datetime
) -> tuple[str, CloudEvent]:
    """Return the id of a webhook and its event.

    The data of an event of PagerDuty or Opsgenie has no scope if policy does not know the service that it is about.

    :param headers: with names in lower case.
    :param password: of the connection: the secrets.
    :raises RequestRefused: it is not signed by one of the secrets, or its time is not now.
    :raises ReleaseError: the password is no secret.
    :raises ValueError: it is no such event.
    """
    if described.kind == "cloudevents":
        webhook = verified_id(secrets_in(password, described.connection), headers, body, now)
        return webhook, CloudEvent.model_validate(json.loads(body))
    secrets = [one.encode() for one in password.split() if len(one) >= MIN_SECRET]
    given = _of_pagerduty(headers, body, secrets) if described.kind == "pagerduty" else _of_opsgenie(headers, secrets)
    if not given:
        raise RequestRefused("The webhook is not signed with a secret of this source.")
    found = json.loads(body)
    read = _pagerduty if described.kind == "pagerduty" else _opsgenie
    event = read(found, described.services)
    return event.id, event


def _of_pagerduty(headers: Mapping[str, str], body: bytes, secrets: Iterable[bytes]) -> bool:
    given = [one.strip().encode() for one in headers.get("x-pagerduty-signature", "").split(",")[:10]]
    wanted = [f"v1={hmac.new(one, body, hashlib.sha256).hexdigest()}".encode() for one in secrets]
    return any(hmac.compare_digest(one, other) for one in wanted for other in given)


def _of_opsgenie(headers: Mapping[str, str], secrets: Iterable[bytes]) -> bool:
    given = headers.get("authorization", "").encode()
    return any(hmac.compare_digest(b"Bearer " + one, given) for one in secrets)


def _pagerduty(found: Any, services: Mapping[str, str]) -> CloudEvent:
    """Read a webhook V3 of PagerDuty: {"event": {"id", "event_type", "data": {"id", "title", "service": {…}}}}."""
    event = _object(_object(found).get("event"))
    incident = _object(event.get("data"))
    service = _object(incident.get("service"))
    named = (str(service.get("id")), str(service.get("summary")))
    return _event(
        event.get("id"),
        event.get("event_type"),
        "PagerDuty",
        incident.get("title"),
        incident.get("id"),
        named,
        services,
    )


def _opsgenie(found: Any, services: Mapping[str, str]) -> CloudEvent:
    """Read a webhook of Opsgenie: {"action", "alert": {"alertId", "message", "entity", "tags": […]}}."""
    alert = _object(_object(found).get("alert"))
    tags = alert.get("tags")
    named = (str(alert.get("entity")), *map(str, tags if isinstance(tags, list) else ()))
    action, id = found.get("action"), alert.get("alertId")
    at = alert.get("updatedAt") or alert.get("createdAt") or ""
    return _event(f"{id}.{action}.{at}", action, "Opsgenie", alert.get("message"), id, named, services)


def _event(
    id: Any, type: Any, source: str, title: Any, incident: Any, named: Iterable[str], services: Mapping[str, str]
) -> CloudEvent:
    scope = next((services[one] for one in named if one in services), "")
    data = {"reason": str(title or "")[:MAX_REASON], "incident": str(incident or "")[:100], "scope": scope}
    return CloudEvent(specversion="1.0", id=str(id or ""), source=source, type=str(type or ""), data=data)


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("no object where there should be one")
    return value
