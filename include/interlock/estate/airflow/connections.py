"""Airflow's connections to the embedded estate, as ``airflow_settings.yaml`` and the settings define them.

The file has the values of an estate with default settings. A value that is left as delivered follows the settings of
the estate that runs. A changed value is used as it is, for instance to reach a real AWS account.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interlock.domain.trains.manifest import CONDUCTOR
from interlock.estate.settings import (
    ACCESS_KEY,
    BUCKET,
    LOOPBACK,
    REGION,
    SECRET_KEY,
    SERVICE,
    SSH_LOGIN,
    HostEnvironment,
    Settings,
)
from interlock.estate.stack.postgres import LEDGER, LEDGER_WRITER
from interlock.estate.stack.shop_databases import READER as READER_OF_TEST
from interlock.estate.stack.shop_databases import database_of
from interlock.installation.accounts import CLERK, READER
from interlock.installation.astro_settings import ConnectionEntry
from interlock.locations import PROJECT

SENDER = "releases@example.com"


def embedded_connections(settings: Settings, passwords: Mapping[str, str]) -> dict[str, ConnectionEntry]:
    """Return the connections of an embedded estate, by their id.

    :param passwords: of the service accounts, and of the logins to databases; without them, the connections have none.
    """
    airflow = {"type": "http", "host": LOOPBACK, "port": settings.airflow_port, "schema_": "http"}
    aws_extra = {"endpoint_url": settings.aws_endpoint, "region_name": REGION}
    smtp_extra = {"from_email": SENDER, "disable_tls": True, "disable_ssl": True}
    entries = (
        ConnectionEntry(conn_id="interlock_aws", type="aws", login=ACCESS_KEY, password=SECRET_KEY, extra=aws_extra),
        _login("interlock_hosts", "production", settings),
        _login("interlock_test_hosts", "test", settings),
        _artifacts(settings, aws_extra),
        ConnectionEntry(
            conn_id="interlock_smtp", type="smtp", host=LOOPBACK, port=settings.smtp_port, extra=smtp_extra
        ),
        ConnectionEntry(conn_id="interlock_airflow", login=READER, password=passwords.get(READER, ""), **airflow),
        ConnectionEntry(conn_id="interlock_board_clerk", login=CLERK, password=passwords.get(CLERK, ""), **airflow),
        ConnectionEntry(
            conn_id="interlock_conductor", login=CONDUCTOR, password=passwords.get(CONDUCTOR, ""), **airflow
        ),
        ConnectionEntry(
            conn_id="interlock_ledger",
            type="postgres",
            host=LOOPBACK,
            port=settings.database_port,
            schema_=LEDGER,
            login=LEDGER_WRITER,
            password=passwords.get(LEDGER_WRITER, ""),
        ),
        ConnectionEntry(
            conn_id="bike_shop_test_db",
            type="postgres",
            host=LOOPBACK,
            port=settings.postgres_port,
            schema_=database_of("test"),
            login=READER_OF_TEST,
            password=passwords.get(READER_OF_TEST, ""),
        ),
        ConnectionEntry(conn_id="interlock_signing_key", type="generic", host=settings.signing_key.as_uri()),
        ConnectionEntry(conn_id=f"{SERVICE.replace('-', '_')}_source", type="git", host=settings.source_url),
    )
    return {entry.conn_id: entry for entry in entries}


def _artifacts(settings: Settings, aws_extra: Mapping[str, str]) -> ConnectionEntry:
    """Return where artifacts are kept: in a folder, or, where workers share none, in S3."""
    if settings.engine == "local":
        return ConnectionEntry(conn_id="interlock_artifacts", type="fs", extra={"path": str(settings.artifacts)})
    extra = {"bucket": BUCKET, **aws_extra}
    return ConnectionEntry(
        conn_id="interlock_artifacts", type="aws", login=ACCESS_KEY, password=SECRET_KEY, extra=extra
    )


def _login(conn_id: str, environment: HostEnvironment, settings: Settings) -> ConnectionEntry:
    """Return the login of an environment's hosts: its key opens no other host, and no other host is known to it."""
    extra = {
        "key_file": str(settings.deployer_key(environment)),
        "known_hosts": str(settings.known_hosts(environment)),
    }
    return ConnectionEntry(conn_id=conn_id, type="ssh", login=SSH_LOGIN, port=settings.ssh_port, extra=extra)


def delivered_connections() -> dict[str, ConnectionEntry]:
    """Return what ``airflow_settings.yaml`` is delivered with: default settings, no passwords, paths in the project."""
    return {
        name: ConnectionEntry.model_validate(from_project({**entry.model_dump(), "password": ""}))
        for name, entry in embedded_connections(Settings(), {}).items()
    }


def from_project(value: Any) -> Any:
    """Return a value with every path inside the project as seen from the project's folder."""
    if isinstance(value, dict):
        return {key: from_project(inner) for key, inner in value.items()}
    if isinstance(value, str):
        return value.replace(f"{PROJECT.as_uri()}/", "file://").replace(f"{PROJECT}/", "")
    return value


def actual(entry: ConnectionEntry, settings: Settings, passwords: Mapping[str, str]) -> ConnectionEntry:
    """Return a connection of the file as it is for the estate that runs."""
    delivered = delivered_connections().get(entry.conn_id)
    if delivered is None or entry.uri:
        return entry
    embedded = embedded_connections(settings, passwords)[entry.conn_id]
    fields = {name: getattr(embedded, name) for name in FIELDS if getattr(entry, name) == getattr(delivered, name)}
    untouched = len(fields) == len(FIELDS)
    if untouched and entry.extra == delivered.extra:
        return embedded
    if embedded.type != delivered.type:
        return entry  # of a kind of its own on a cluster: nothing of the one fits the other
    if not untouched:
        fields.pop("password", None)  # a generated password is for the estate's own Airflow only
    extra = {
        key: embedded.extra[key] if key in delivered.extra and value == delivered.extra[key] else value
        for key, value in entry.extra.items()
    }
    return entry.model_copy(update={**fields, "extra": extra})


FIELDS = ("type", "host", "login", "password", "schema_", "port")
