"""The connections that the services of a catalogue name, and which types they may have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from interlock.domain.catalogue import Service

TYPES = {"aws": ("aws",), "ssh": ("ssh", "aws"), "database": ("postgres",)}
"""Key of an environment: the types that its connection may have."""


class Named(NamedTuple):
    """A connection that a service names, and where."""

    conn_id: str
    place: str
    kind: str


def named_by(services: Iterable[Service]) -> Iterator[Named]:
    """Yield every connection that services name."""
    for service in services:
        file = f"services/{service.name}.yaml"
        yield Named(service.source.connection, f"{file}: source.connection", "source")
        for name, environment in service.environments.items():
            yield Named(environment.aws, f"{file}: environments.{name}.aws", "aws")
            yield Named(environment.ssh, f"{file}: environments.{name}.ssh", "ssh")
        for name, database in service.databases.items():
            yield Named(database.connection, f"{file}: databases.{name}.connection", "database")
        for number, step in enumerate(service.runbook):
            for key, action in step.actions:
                if action.connection:
                    yield Named(action.connection, f"{file}: runbook.{number}.{key}.{action.kind}.connection", "aws")
