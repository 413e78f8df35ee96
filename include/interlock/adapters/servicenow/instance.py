"""An instance of ServiceNow: its address and account, from an Airflow connection, and the shapes of its answers."""

from __future__ import annotations

import ipaddress
from typing import Any, ClassVar

import httpx
from pydantic import BaseModel, ConfigDict, Field, field_validator

from interlock.adapters.outbox.oauth import ClientCredentials
from interlock.adapters.outbox.web import TIMEOUT, WebApi
from interlock.domain.errors import AssetMissing

TOKEN_PATH = "/oauth_token.do"
CHANGES = "/api/sn_chg_rest/change"
TABLES = "/api/now/table"
ATTACHMENTS = "/api/now/attachment"


def open_instance(connection: Any, calls_per_second: float | None = None) -> WebApi:
    """Return the API of the instance that an Airflow connection names.

    :param connection: host, with login and password; or with ``client_id`` and ``client_secret`` in its extra.
    :raises AssetMissing: the connection lacks something, or would send the account over a network unencrypted.
    """
    base = _base(connection)
    extra = connection.extra_dejson or {}
    auth: httpx.Auth
    if extra.get("client_id"):
        secret = extra.get("client_secret") or connection.password
        if not secret:
            raise _incomplete("client_secret in its extra, or a password")
        auth = ClientCredentials(str(extra["client_id"]), str(secret), f"{base}{TOKEN_PATH}")
    elif connection.login and connection.password:
        auth = httpx.BasicAuth(connection.login, connection.password)
    else:
        raise _incomplete("login and password, or client_id and client_secret in its extra")
    client = httpx.Client(base_url=base, auth=auth, timeout=TIMEOUT, headers={"Accept": "application/json"})
    return WebApi("ServiceNow", client, calls_per_second=calls_per_second)


def _base(connection: Any) -> str:
    host = str(connection.host or "").rstrip("/")
    if not host:
        raise _incomplete("a host, such as https://example.service-now.com")
    if "://" not in host:
        scheme = str(connection.conn_type or "https") if connection.conn_type in ("http", "https") else "https"
        host = f"{connection.schema if connection.schema in ('http', 'https') else scheme}://{host}"
    url = httpx.URL(host)
    if connection.port and not url.port:
        url = url.copy_with(port=int(connection.port))
    if url.scheme != "https" and not _is_loopback(url.host):
        raise AssetMissing(
            f"The connection of ServiceNow has the address {url.scheme}://{url.host}, which is not encrypted.",
            rule="accounts are sent over https only (include/interlock/adapters/servicenow/instance.py)",
            who="the platform engineer",
            next_step="set the host to https://…",
        )
    return str(url).rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _incomplete(what: str) -> AssetMissing:
    return AssetMissing(
        f"The connection of ServiceNow lacks {what}.",
        who="the platform engineer",
        next_step="complete the connection that systems.yaml names",
    )


class _Answer(BaseModel):
    """Base of what an instance answers: it has many more fields, and customers add some."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def value_of(field: Any) -> str:
    """Return the value of a field: of ``{"value": …, "display_value": …}``, or as it is. Numbers are without ``.0``."""
    value = field.get("value") if isinstance(field, dict) else field
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


class Row(_Answer):
    """A row of a table of an instance."""

    TEXTS: ClassVar[tuple[str, ...]] = ()
    sys_id: str = Field(pattern=r"^[0-9a-f]{32}$")

    @field_validator("*", mode="before")
    @classmethod
    def _value(cls, value: Any) -> str:
        return value_of(value)


class ChangeRow(Row):
    """A change."""

    number: str = Field(min_length=1, max_length=40)
    state: str
    approval: str = ""
    correlation_id: str = ""
    correlation_display: str = ""
    conflict_status: str = ""


class TaskRow(Row):
    """A task of a change."""

    number: str = ""
    state: str
    correlation_id: str = ""


class Condition(_Answer):
    """A condition of a transition."""

    passed: bool = False
    condition: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """What people call it."""
        return str(self.condition.get("name") or self.condition.get("description") or "a condition without a name")


class Transition(_Answer):
    """A transition of the model of a change."""

    to_state: str
    transition_available: bool = False
    conditions: tuple[Condition, ...] = ()


class NextStates(_Answer):
    """Where a change may go; transitions are known only of changes that follow a model."""

    available_states: tuple[str, ...] = ()
    state_label: dict[str, str] = {}
    state_transitions: tuple[tuple[Transition, ...], ...] = ()

    def may_go_to(self, state: str) -> bool:
        """Tell whether the change may go to a state now."""
        known = [one for group in self.state_transitions for one in group if one.to_state == state]
        return any(one.transition_available for one in known) if known else state in self.available_states

    def unmet(self, state: str) -> tuple[str, ...]:
        """Return the names of the conditions that keep the change from a state."""
        known = [one for group in self.state_transitions for one in group if one.to_state == state]
        names = (condition.name for one in known for condition in one.conditions if not condition.passed)
        return tuple(dict.fromkeys(names))

    def label(self, state: str) -> str:
        """Return a state as people call it."""
        return self.state_label.get(state, state)


class NamedFile(Row):
    """An attachment."""

    file_name: str
    size_bytes: str = ""


class Approval(_Answer):
    """An approval of a change, by the one who is asked."""

    sys_id: str
    state: str
    approver: str = Field("", alias="approver.user_name")
    updated_by: str = Field("", alias="sys_updated_by")
    updated_on: str = Field("", alias="sys_updated_on")

    @field_validator("*", mode="before")
    @classmethod
    def _value(cls, value: Any) -> str:
        return value_of(value)
