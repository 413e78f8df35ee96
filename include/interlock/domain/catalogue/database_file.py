"""``databases:`` of a service: where its database changes are rehearsed before anybody votes on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from interlock.domain.canonical import Model

from .runbook_file import CommandStep, Step
from .values import ConnectionId


class Database(Model):
    """A database of a service, of which each environment has one of its own."""

    connection: ConnectionId = Field(
        description="Airflow connection (type postgres) to the database of test, by which Interlock compares its rows "
        "before and after each change; a login that may read is enough"
    )
    restore: CommandStep = Field(
        description="A program of the bundle that replaces the database of its environment by a restored copy, on a "
        "host of the environment before production"
    )


def refuse_unrehearsable(steps: Sequence[Step], databases: Mapping[str, Database]) -> None:
    """Refuse steps that change a database and cannot be rehearsed."""
    for step in steps:
        if step.migrates is None:
            continue
        if step.migrates not in databases:
            known = ", ".join(databases) or "none"
            raise ValueError(f"runbook: {step.name} migrates {step.migrates}, which is not one of databases: {known}")
        if by_hand := [key for key, action in step.actions if action.command is None]:
            raise ValueError(f"runbook: {step.name} migrates a database; {by_hand[0]} is a command, or way_back none")
