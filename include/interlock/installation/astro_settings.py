"""Read ``airflow_settings.yaml`` as the Astro CLI reads it, so that one file serves both.

The CLI's rules, as of its version 1.4x: keys it does not know are ignored; an entry without a name is ignored; a
connection needs ``conn_type`` or ``conn_uri``, and the URI counts only when no other field is given; ``conn_extra`` is
JSON text, or a mapping of which only the pairs of texts count; a pool needs a number of slots other than 0; a variable
without a value is ignored. What the CLI would leave out silently is said in ``notes``; what Airflow would then refuse
is an error that names the entry.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from interlock.domain.canonical import Model
from interlock.domain.errors import ReleaseError

FILE_NAME = "airflow_settings.yaml"
FIELDS = ("type", "host", "login", "password", "schema", "port")
KNOWN = {
    "connections": {"conn_id", "conn_uri", "conn_extra", *(f"conn_{field}" for field in FIELDS)},
    "pools": {"pool_name", "pool_slot", "pool_description"},
    "variables": {"variable_name", "variable_value"},
}
KEY = re.compile(r"[A-Za-z0-9_.\-]{1,250}")


class AstroSettingsError(ReleaseError, ValueError):
    """The file cannot be read, or holds something that Airflow would refuse."""


class ConnectionEntry(Model):
    """A connection of the file: either a URI, or fields."""

    conn_id: str
    uri: str = ""
    type: str = ""
    host: str = ""
    login: str = ""
    password: str = Field("", repr=False)
    schema_: str = ""
    port: int = 0
    extra: dict[str, Any] = {}


class PoolEntry(Model):
    """A pool of the file."""

    name: str
    slots: int
    description: str = ""


class VariableEntry(Model):
    """A variable of the file."""

    name: str
    value: str


class AstroSettings(Model):
    """What the file says, and what it says in vain."""

    connections: tuple[ConnectionEntry, ...] = ()
    pools: tuple[PoolEntry, ...] = ()
    variables: tuple[VariableEntry, ...] = ()
    notes: tuple[str, ...] = ()


def read_astro_settings(path: Path) -> AstroSettings:
    """Read the file; a file that is not there says nothing."""
    if not path.exists():
        return AstroSettings()
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise refused(path, f"it is not YAML: {error}") from error
    return Reader(path).read(content)


class Reader:
    """Reads one file, and collects notes on what has no effect."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []

    def read(self, content: Any) -> AstroSettings:
        """Turn the file's content into entries."""
        airflow = content.get("airflow") if isinstance(content, Mapping) else None
        if not isinstance(airflow, Mapping):
            raise refused(self.path, "it has no mapping named airflow")
        connections = tuple(filter(None, map(self.connection, self.entries(airflow, "connections"))))
        pools = tuple(filter(None, map(self.pool, self.entries(airflow, "pools"))))
        variables = tuple(filter(None, map(self.variable, self.entries(airflow, "variables"))))
        return AstroSettings(connections=connections, pools=pools, variables=variables, notes=tuple(self.notes))

    def entries(self, airflow: Mapping[str, Any], section: str) -> Iterator[dict[str, Any]]:
        """Yield the entries of a section, without the keys that have no value."""
        entries = airflow.get(section) or []
        if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
            raise refused(self.path, f"airflow.{section} is not a list of mappings")
        for number, entry in enumerate(entries, start=1):
            if unknown := sorted(set(entry) - KNOWN[section]):
                self.notes.append(
                    f"airflow.{section}, entry {number}: {', '.join(map(str, unknown))} means nothing here"
                )
            yield {key: value for key, value in entry.items() if value not in (None, "")}

    def connection(self, entry: dict[str, Any]) -> ConnectionEntry | None:
        """Read a connection."""
        conn_id = self.name(entry, "conn_id")
        if not conn_id:
            return None
        fields = {field: self.text(entry, f"conn_{field}", conn_id) for field in FIELDS if field != "port"}
        port = self.number(entry, "conn_port", conn_id)
        uri = self.text(entry, "conn_uri", conn_id)
        extra = self.extra(entry.get("conn_extra"), conn_id)
        if not fields["type"] and not uri:
            self.notes.append(f"connection {conn_id} is left out: it has neither conn_type nor conn_uri")
            return None
        if uri and not any(fields.values()) and not port:
            return ConnectionEntry(conn_id=conn_id, uri=uri, extra=extra)
        if not fields["type"]:
            raise refused(self.path, f"connection {conn_id} has fields besides conn_uri and so needs a conn_type")
        if uri:
            self.notes.append(f"connection {conn_id}: conn_uri has no effect beside other fields")
        schema = fields.pop("schema")
        return ConnectionEntry(conn_id=conn_id, port=port, extra=extra, schema_=schema, **fields)

    def pool(self, entry: dict[str, Any]) -> PoolEntry | None:
        """Read a pool."""
        name = self.name(entry, "pool_name")
        if not name:
            return None
        slots = self.number(entry, "pool_slot", name)
        if not slots:
            self.notes.append(f"pool {name} is left out: it has no pool_slot")
            return None
        return PoolEntry(name=name, slots=slots, description=self.text(entry, "pool_description", name))

    def variable(self, entry: dict[str, Any]) -> VariableEntry | None:
        """Read a variable."""
        name = self.name(entry, "variable_name")
        value = self.text(entry, "variable_value", name or "without a name")
        if not name and value:
            self.notes.append("a variable is left out: it has no variable_name")
        if name and not value:
            self.notes.append(f"variable {name} is left out: it has no variable_value")
        return VariableEntry(name=name, value=value) if name and value else None

    def name(self, entry: dict[str, Any], key: str) -> str:
        """Read an entry's name."""
        name = self.text(entry, key, "the entry")
        if name and not KEY.fullmatch(name):
            raise refused(self.path, f"{key} {name!r} may only have letters, digits, dots, dashes and underscores")
        return name

    def text(self, entry: dict[str, Any], key: str, of: str) -> str:
        """Read a text; a number is one too, but for true and false the CLI would write 1 and 0."""
        value = entry.get(key, "")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise refused(self.path, f"{key} of {of} is {value!r}, which is not a text: put it in quotes")
        return str(value)

    def number(self, entry: dict[str, Any], key: str, of: str) -> int:
        """Read a whole number, which may be in quotes."""
        value = self.text(entry, key, of)
        try:
            return int(value or 0)
        except ValueError:
            raise refused(self.path, f"{key} of {of} is {value!r}, which is not a whole number") from None

    def extra(self, value: Any, of: str) -> dict[str, Any]:
        """Read a connection's extra fields."""
        if isinstance(value, Mapping):
            kept = {key: text for key, text in value.items() if isinstance(key, str) and isinstance(text, str)}
            if lost := sorted(str(key) for key in value if key not in kept):
                self.notes.append(
                    f"connection {of}: {', '.join(lost)} in conn_extra is left out, because its value is not a text; "
                    "write conn_extra as JSON in quotes to have other values"
                )
            return kept
        try:
            extra = json.loads(value or "{}")
        except (TypeError, ValueError):
            extra = None
        if not isinstance(extra, dict):
            raise refused(self.path, f"conn_extra of {of} is neither a mapping nor a JSON object in quotes")
        return extra


def refused(path: Path, why: str) -> AstroSettingsError:
    """Return the error for a file that cannot be used."""
    return AstroSettingsError(
        f"{path.name} cannot be used: {why}.", who="the platform engineer", next_step=f"edit {path}"
    )
