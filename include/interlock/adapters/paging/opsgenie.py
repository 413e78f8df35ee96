"""Releases as alerts of Opsgenie, by its Alert API v2: Opsgenie has no change events.

A release that changes production is one alert of the lowest priority, with an alias by which Opsgenie knows it again:
what is sent twice is one alert. It is closed when the release has ended. Whom an alert of this priority notifies is set
in Opsgenie.
"""

from __future__ import annotations

from typing import Any, Self

import httpx

from interlock.adapters.outbox.system import Listener
from interlock.adapters.outbox.web import TIMEOUT, WebApi
from interlock.adapters.tickets.site import url_of
from interlock.domain.errors import AssetMissing
from interlock.domain.outbox.facts import Statement

from .said import in_a_line, page_of

PATH = "/v2/alerts"
BY_ALIAS = {"identifierType": "alias"}
MAX_MESSAGE = 130
MAX_TEXT = 15_000
PRIORITY = "P5"


class Opsgenie(Listener):
    """A team's integration *API* of Opsgenie.

    :param site: Airflow's address, for links to releases.
    """

    def __init__(self, api: WebApi, site: str) -> None:
        super().__init__(api)
        self._site = site

    @classmethod
    def of(cls, connection: Any, *, site: str, calls_per_second: float | None = None) -> Self:
        """Read a connection: host ``https://api.opsgenie.com``, and the key of the integration as password.

        :raises ReleaseError: it has no key, or is no https URL.
        """
        if not connection.password:
            raise AssetMissing(
                f"The connection {connection.conn_id} lacks the key of Opsgenie's integration as its password.",
                who="the platform engineer",
                next_step="create an integration of the type API in Opsgenie, and complete the connection",
            )
        headers = {"Authorization": f"GenieKey {connection.password}", "Accept": "application/json"}
        client = httpx.Client(base_url=url_of(connection), headers=headers, timeout=TIMEOUT, trust_env=False)
        return cls(WebApi("Opsgenie", client, calls_per_second=calls_per_second), site)

    def tell(self, correlation: str, statement: Statement) -> None:
        """Open an alert when production begins to change, add a note if it is taken back, and close it in the end."""
        change = statement.change
        if change.began is None:
            return
        note = {"note": f"{in_a_line(statement)}. {statement.text}"[:MAX_TEXT], "source": "Interlock"}
        match statement.event:
            case "begun":
                self._api.send("POST", PATH, json=self._alert(correlation, statement))
            case "backed_out":
                self._api.send("POST", f"{PATH}/{correlation}/notes", params=BY_ALIAS, json=note)
            case "closed":
                self._api.send("POST", f"{PATH}/{correlation}/close", params=BY_ALIAS, json=note)

    def _alert(self, correlation: str, statement: Statement) -> dict[str, Any]:
        change = statement.change
        page = page_of(statement, self._site)
        return {
            "message": in_a_line(statement)[:MAX_MESSAGE],
            "alias": correlation,
            "description": f"{statement.text}\n{page}"[:MAX_TEXT],
            "priority": PRIORITY,
            "source": "Interlock",
            "entity": change.service[:512],
            "tags": ["change", change.change_type.value],
            "details": {"version": change.version, "requested by": change.requested_by, "release": page},
        }
