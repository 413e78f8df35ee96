"""Releases as signed CloudEvents, sent to any receiver by the outbox: in order, until the receiver has taken each.

An event can arrive twice, always with the same id (``webhook-id``, and ``id`` of the event), by which the receiver
knows it again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

from interlock.adapters.outbox.system import Listener
from interlock.adapters.outbox.web import TIMEOUT, WebApi
from interlock.adapters.tickets.site import url_of
from interlock.domain.canonical import sha256_of
from interlock.domain.outbox.facts import Statement
from interlock.domain.paths import release_page

from .cdevents import cdevent_of
from .signatures import secrets_in, signed_headers

TYPE = "org.interlock.release"
"""The beginning of the types of events, such as org.interlock.release.planned."""


class _Receiver(WebApi):
    """A receiver whose status is its answer, whatever it says beside it."""

    def _meaning(self, asked: str, response: httpx.Response, body: bytes) -> Any:
        return super()._meaning(asked, response, b"" if response.is_success else body)


class Webhooks(Listener):
    """A receiver of webhooks.

    :param secrets: that sign what is sent, the one of now first.
    """

    def __init__(
        self,
        receiver: WebApi,
        path: str,
        secrets: Sequence[bytes],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        cdevents: bool = False,
        site: str = "",
    ) -> None:
        super().__init__(receiver)
        self._path, self._secrets, self._now = path, secrets, now
        self._cdevents, self._site = cdevents, site

    @classmethod
    def of(
        cls, connection: Any, *, calls_per_second: float | None = None, cdevents: bool = False, site: str = ""
    ) -> Self:
        """Read a connection: host is the URL of the receiver, password the secrets.

        :param cdevents: the receiver gets CDEvents, and nothing of facts that these have no words for.
        :param site: Airflow's address.
        :raises ReleaseError: it is no https URL, or the password is no secret of webhooks.
        """
        parts = urlsplit(url_of(connection))
        client = httpx.Client(base_url=f"{parts.scheme}://{parts.netloc}", timeout=TIMEOUT, trust_env=False)
        name = str(connection.conn_id)
        receiver = _Receiver(f"The receiver of {name}", client, calls_per_second=calls_per_second)
        path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        return cls(receiver, path, secrets_in(connection.password or "", name), cdevents=cdevents, site=site)

    def tell(self, correlation: str, statement: Statement) -> None:
        """Send an event, with the same id and the same body each time; only the time of sending differs."""
        body = event_of(correlation, statement, cdevents=self._cdevents, site=self._site)
        if body is None:
            return
        headers = {
            **signed_headers(self._secrets, _id_of(correlation, statement), self._now(), body),
            "content-type": "application/cloudevents+json",
        }
        self._api.send("POST", self._path, content=body, headers=headers)


def event_of(correlation: str, statement: Statement, *, cdevents: bool = False, site: str = "") -> bytes | None:
    """Return a statement as a CloudEvent 1.0 in JSON; None: CDEvents has no event for it.

    :param cdevents: its data is a CDEvent, whose type it has.
    :param site: Airflow's address.
    """
    change, id = statement.change, _id_of(correlation, statement)
    source = f"/interlock/{quote(change.chain)}"
    kind, subject = f"{TYPE}.{statement.event}", change.service
    data: dict[str, Any] | None = {
        "text": statement.text,
        "release": change.model_dump(mode="json"),
        "documents": [{"name": one.name, "sha256": sha256_of(one.content)} for one in statement.documents],
    }
    if cdevents:
        _, dag_id, run_id = change.chain.split("/", 2)
        data = cdevent_of(id, source, f"{site.rstrip('/')}/{release_page(dag_id, run_id)}", statement)
        if data is None:
            return None
        kind, subject = data["context"]["type"], data["subject"]["id"]
    event = {
        "specversion": "1.0",
        "id": id,
        "source": source,
        "type": kind,
        "subject": subject,
        "time": statement.at.astimezone(UTC).isoformat(),
        "datacontenttype": "application/json",
        "data": data,
    }
    return json.dumps(event, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _id_of(correlation: str, statement: Statement) -> str:
    return f"{correlation}-{statement.told.entry}-{statement.told.stop}"
