"""Look at the installation as a release's proof needs it: API servers, the Dag processor's catalogue, the ledger."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from interlock.adapters.airflow.execution_api import Served, served_by
from interlock.adapters.airflow.rest_api import AirflowApi, dag_path
from interlock.domain.canonical import Sha256
from interlock.domain.catalogue import ChangeType
from interlock.domain.change.effective import marked
from interlock.domain.errors import TransientError
from interlock.domain.permits.installation import InstallationSeen, ServerSeen

if TYPE_CHECKING:
    from interlock.adapters.ledger.ledger import Ledger


API_SERVERS = "INTERLOCK_API_SERVERS"
"""Addresses of all API servers, separated by commas; by default the one of the connection ``interlock_airflow``."""


def api_servers() -> tuple[str, ...]:
    """Return the addresses of the API servers that the environment names.

    A name of a plain HTTP address that has several IPv4 addresses stands for a server at each, as that of a headless
    Service of Kubernetes does.

    :raises TransientError: a name has no address now.
    """
    named = (address.strip().rstrip("/") for address in os.environ.get(API_SERVERS, "").split(","))
    return tuple(each for address in named if address for each in _each(address))


def _each(address: str) -> tuple[str, ...]:
    url = urlsplit(address)
    if url.scheme != "http" or not url.hostname:  # a certificate is made out to the name
        return (address,)
    try:
        found = socket.getaddrinfo(url.hostname, url.port or 80, type=socket.SOCK_STREAM)
    except OSError as error:
        raise TransientError(f"The API servers at {address} cannot be found: {error}") from error
    places = sorted({str(place[0]) for family, *_, place in found if family == socket.AF_INET})
    if len(places) < 2:
        return (address,)
    port = f":{url.port}" if url.port else ""
    return tuple(urlunsplit(url._replace(netloc=f"{place}{port}")) for place in places)


def look(
    api: AirflowApi,
    ledger: Ledger,
    *,
    servers: Sequence[str],
    dag_id: str,
    service: str,
    change_type: ChangeType,
    rules: Sha256,
    witness_key: str,
) -> InstallationSeen:
    """Ask everything that a permit needs to know of the installation.

    :param servers: addresses of the API servers; ``dag_id``: the Dag of the run.
    :param rules: those of the release, by the catalogue here.
    :raises TransientError: a server does not answer now.
    """
    before, at, after = datetime.now(UTC), ledger.server_time(), datetime.now(UTC)
    return InstallationSeen(
        servers=tuple(seen(url, served_by(f"{url}/execution", service), change_type) for url in servers),
        witness_key=witness_key,
        rules=rules,
        parsed=marked(str(api.get(f"{dag_path(dag_id)}/details").get("doc_md") or "")).get(change_type.value),
        weaknesses=ledger.weaknesses(),
        skew=max(before - at, at - after, timedelta(0)),
    )


def seen(url: str, said: Served | None, change_type: ChangeType | None = None) -> ServerSeen:
    """Return what was found at an address of an API server.

    :param change_type: whose rules matter; none: no one's.
    """
    if said is None:
        return ServerSeen(address=url, door=False)
    return ServerSeen(
        address=url,
        door=True,
        guard=said.guard,
        people=said.people,
        witness_key=said.witness_key,
        rules=said.rules.get(change_type.value) if change_type else None,
    )
