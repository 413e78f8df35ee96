"""Releases as change events of PagerDuty, by its Events API v2.

A change event alerts nobody: PagerDuty shows it beside the incidents of the service. It has no key by which PagerDuty
knows it again, so one whose answer was lost is there twice.
"""

from __future__ import annotations

from datetime import UTC
from typing import Any, Self

import httpx

from interlock.adapters.outbox.system import Listener
from interlock.adapters.outbox.web import TIMEOUT, WebApi
from interlock.adapters.tickets.site import url_of
from interlock.domain.errors import AssetMissing
from interlock.domain.outbox.facts import Event, Statement

from .said import in_a_line, page_of

PATH = "/v2/change/enqueue"
CHANGES_PRODUCTION: tuple[Event, ...] = ("begun", "backed_out", "closed")
"""What is an event: production begins to change, is taken back, or a release that changed it has ended."""
MAX_SUMMARY = 1024


class PagerDuty(Listener):
    """A service of PagerDuty.

    :param key: the integration key of the service.
    :param site: Airflow's address, for links to releases.
    """

    def __init__(self, api: WebApi, key: str, site: str) -> None:
        super().__init__(api)
        self._key, self._site = key, site

    @classmethod
    def of(cls, connection: Any, *, site: str, calls_per_second: float | None = None) -> Self:
        """Read a connection: host ``https://events.pagerduty.com``, and the integration key as password.

        :raises ReleaseError: it has no key, or is no https URL.
        """
        if not connection.password:
            raise AssetMissing(
                f"The connection {connection.conn_id} lacks the integration key of PagerDuty as its password.",
                who="the platform engineer",
                next_step="create an integration Events API V2 in PagerDuty, and complete the connection",
            )
        client = httpx.Client(base_url=url_of(connection), timeout=TIMEOUT, trust_env=False)
        api = WebApi("PagerDuty", client, calls_per_second=calls_per_second)
        return cls(api, str(connection.password), site)

    def tell(self, correlation: str, statement: Statement) -> None:
        """Send an event, if production changes."""
        if statement.event in CHANGES_PRODUCTION and statement.change.began is not None:
            self._api.send("POST", PATH, json={"routing_key": self._key, **change_event(statement, self._site)})


def change_event(statement: Statement, site: str) -> dict[str, Any]:
    """Return a statement as a change event, without the key."""
    change = statement.change
    return {
        "payload": {
            "summary": in_a_line(statement)[:MAX_SUMMARY],
            "timestamp": statement.at.astimezone(UTC).isoformat(timespec="milliseconds"),
            "source": "Interlock",
            "custom_details": {
                "service": change.service,
                "version": change.version,
                "environment": change.environment,
                "change_type": change.change_type.value,
                "requested_by": change.requested_by,
                "tickets": ", ".join(change.tickets),
                "text": statement.text,
            },
        },
        "links": [{"href": page_of(statement, site), "text": "The release in Airflow"}],
    }
