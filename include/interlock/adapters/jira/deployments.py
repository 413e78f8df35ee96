"""Releases as deployments in Jira Cloud: issues show in which environment they are.

A deployment is known by its pipeline, environment and number, and takes only what is newer than it is. So it can be
sent again.
"""

from __future__ import annotations

from datetime import UTC
from typing import Any, Literal, Self
from urllib.parse import quote

import httpx

from interlock.adapters.outbox.oauth import ClientCredentials
from interlock.adapters.outbox.system import Listener
from interlock.adapters.outbox.web import TIMEOUT, WebApi
from interlock.adapters.tickets.site import url_of
from interlock.domain.errors import AssetMissing, DeliveryRefused
from interlock.domain.ledger.runs import run_of
from interlock.domain.outbox.facts import Statement
from interlock.domain.paths import dag_page, release_page

State = Literal["pending", "in_progress", "successful", "cancelled", "failed", "rolled_back"]
AUDIENCE = "api.atlassian.com"
MAX_TICKETS = 500
"""Issues that one deployment is associated with."""


class Deployments(Listener):
    """The deployments of a Jira Cloud.

    :param path: to which deployments are sent.
    :param site: Airflow's address, for links to releases.
    """

    def __init__(self, api: WebApi, path: str, site: str) -> None:
        super().__init__(api)
        self._path, self._site = path, site.rstrip("/")

    @classmethod
    def of(cls, connection: Any, *, site: str, calls_per_second: float | None = None) -> Self:
        """Read a connection: host ``https://api.atlassian.com``, client_id and cloud_id in its extra, and the secret.

        :raises ReleaseError: it lacks one of them, or is no https URL.
        """
        base, extra = url_of(connection), connection.extra_dejson or {}
        if not (extra.get("client_id") and extra.get("cloud_id") and connection.password):
            raise AssetMissing(
                f"The connection {connection.conn_id} lacks client_id or cloud_id in its extra, or the secret as its "
                "password.",
                who="the platform engineer",
                next_step="create OAuth credentials for deployments in Jira Cloud, and complete the connection",
            )
        auth = ClientCredentials(str(extra["client_id"]), str(connection.password), f"{base}/oauth/token", AUDIENCE)
        headers = {"Accept": "application/json"}
        client = httpx.Client(base_url=base, auth=auth, headers=headers, timeout=TIMEOUT, trust_env=False)
        path = f"/jira/deployments/0.1/cloud/{quote(str(extra['cloud_id']), safe='')}/bulk"
        return cls(WebApi("Jira Cloud", client, calls_per_second=calls_per_second), path, site)

    def tell(self, correlation: str, statement: Statement) -> None:
        """Send the state of the deployment; nothing, if no issue is concerned or the statement is about no state."""
        state = state_of(statement)
        if state is None or not statement.change.tickets:
            return
        body = {"deployments": [deployment(statement, state, self._site)]}
        answer = self._api.send("POST", self._path, json=body) or {}
        if rejected := answer.get("rejectedDeployments"):
            errors = "; ".join(str(one.get("message")) for one in rejected[0].get("errors") or ())
            raise DeliveryRefused(
                f"Jira Cloud rejected the deployment: {errors or 'without a reason'}.",
                who="the administrator of Jira",
                next_step="correct it, then trigger the Dag retry_deliveries",
            )


def state_of(statement: Statement) -> State | None:
    """Return the state that a deployment has by a statement; none: it says nothing of it."""
    change = statement.change
    if statement.event == "closed":
        ends: dict[str, State] = {"deployed": "successful", "backed_out": "rolled_back", "failed": "failed"}
        return ends.get(change.outcome or "", "cancelled")
    states: dict[str, State] = {"planned": "pending", "begun": "in_progress"}
    return states.get(statement.event)


def deployment(statement: Statement, state: State, site: str) -> dict[str, Any]:
    """Return a deployment as the API takes it."""
    change = statement.change
    page = f"{site}/{release_page(*(run_of(change.chain) or ('', '')))}"
    return {
        "deploymentSequenceNumber": int(change.planned_at.timestamp() * 1000),  # has to grow
        "updateSequenceNumber": statement.told.entry,
        "associations": [{"associationType": "issueIdOrKeys", "values": [*change.tickets[:MAX_TICKETS]]}],
        "displayName": change.title[:255],
        "url": page,
        "description": change.summary[:255],
        "lastUpdated": statement.at.astimezone(UTC).isoformat(timespec="seconds"),
        "label": change.version[:255],
        "state": state,
        "pipeline": {
            "id": f"interlock-{change.service}"[:255],
            "displayName": f"Release {change.service}"[:255],
            "url": f"{site}/{dag_page((run_of(change.chain) or ('', ''))[0])}",
        },
        "environment": {"id": change.environment, "displayName": change.environment, "type": "production"},
    }
