"""``systems.yaml``: the systems of service management that releases are told to."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, FiniteFloat, StringConstraints

from interlock.domain.canonical import Model
from interlock.domain.catalogue.values import ChangeType, ConnectionId, Duration, Identifier, Line

SysId = Annotated[
    str, StringConstraints(pattern=r"^[0-9a-f]{32}$"), Field(description="A sys_id: 32 hexadecimal digits")
]
FieldName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,79}$")]
"""A field of a table of ServiceNow."""


class ToldSystem(Model):
    """What all systems have."""

    connection: ConnectionId = Field(description="Airflow connection with the address and the account")
    parallel: int = Field(4, ge=1, le=32, description="Releases that are told to the system at the same time")
    calls_per_second: Annotated[FiniteFloat, Field(gt=0, le=1000)] = Field(
        10, description="Maximum number of requests to the system, over all releases"
    )


def _one_or_more(value: object) -> object:
    # A tuple: files are read strictly, and a list that is not read as JSON is none.
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


StatePath = Annotated[
    tuple[Line, ...],
    BeforeValidator(_one_or_more, json_schema_input_type=str | list[str]),
    Field(
        min_length=1, max_length=8, description="A state; or several, of which the others are on the way to the last"
    ),
]
"""The values of states, such as "-5", as ``nextstates`` of the instance names them."""


class States(Model):
    """Where a change is, in the states of the instance."""

    planned: StatePath
    assessed: StatePath
    scheduled: StatePath
    implementing: StatePath
    review: StatePath
    closed: StatePath
    cancelled: StatePath

    @property
    def in_order(self) -> tuple[str, ...]:
        """All states on the way from planned to closed, in their order; each once."""
        phases = (self.planned, self.assessed, self.scheduled, self.implementing, self.review, self.closed)
        return tuple(dict.fromkeys(state for phase in phases for state in phase))


class CloseCodes(Model):
    """The close codes of the instance."""

    deployed: Line = "successful"
    backed_out: Line = "unsuccessful"
    failed: Line = "unsuccessful"


class ServiceNow(ToldSystem):
    """A ServiceNow instance, by its Change Management API."""

    kind: Literal["servicenow"]
    states: States
    task_states: dict[Literal["open", "closed", "failed"], Line] = Field(
        description="States of a change task: values, as the instance has them"
    )
    templates: dict[Identifier, SysId] = Field(
        {}, description="Template of standard_changes in policy.yaml: the standard change template of the instance"
    )
    models: dict[ChangeType, SysId] = Field({}, description="Change models; default: the one of the type")
    close_codes: CloseCodes = CloseCodes()
    configuration_items: dict[Identifier, SysId] = Field({}, description="Service: its configuration item (cmdb_ci)")
    assignment_group: SysId | None = Field(None, description="Group that changes and their tasks are assigned to")
    fields: dict[FieldName, Annotated[str, StringConstraints(max_length=4000)]] = Field(
        {}, description="Further fields of each change, such as category, with fixed values"
    )
    expected: Duration = Field(
        timedelta(hours=2), description="Expected duration of an implementation: planned end after planned start"
    )
    service_accounts: tuple[Annotated[str, StringConstraints(min_length=1, max_length=100)], ...] = Field(
        (), description="User names of the instance whose approvals count for nobody; the connection's own never counts"
    )
    people: dict[Annotated[str, StringConstraints(min_length=1, max_length=100)], Line] = Field(
        {}, description="User name of the instance: user of board.yaml, where they differ"
    )


class Webhook(ToldSystem):
    """A receiver of signed CloudEvents: the connection has its URL as host, and the secret as password."""

    kind: Literal["webhook"]


AnySystem = Annotated[ServiceNow | Webhook, Field(discriminator="kind")]
"""Of whichever kind."""


class SystemsFile(Model):
    """The systems: ``systems.yaml``. Which releases each is told of is in ``change_types`` of policy.yaml."""

    systems: dict[Identifier, AnySystem] = {}
