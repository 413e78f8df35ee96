"""``systems.yaml``: the systems of service management that releases are told to."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, FiniteFloat, JsonValue, StringConstraints, model_validator

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
"""States as the system names them: in ServiceNow their values, such as "-5"; in Jira the names of statuses."""


class States(Model):
    """Where a change is, in the states of the system."""

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


class Approving(ToldSystem):
    """What a system has that policy can make an authority."""

    service_accounts: tuple[Annotated[str, StringConstraints(min_length=1, max_length=100)], ...] = Field(
        (), description="User names there whose approvals count for nobody; the connection's own never counts"
    )
    people: dict[Annotated[str, StringConstraints(min_length=1, max_length=100)], Line] = Field(
        {}, description="User name there: user of board.yaml, where they differ"
    )


class ServiceNow(Approving):
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


Project = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{1,29}$"), Field(description="Key of a project")]
JiraField = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z][a-zA-Z0-9_]{0,79}$")]
"""A field of Jira's issues, such as customfield_10042."""
Outcome = Literal["planned", "deployed", "backed_out"]
"""When the tickets of a release are moved."""


class JiraTickets(Model):
    """What becomes of the tickets of a release in this Jira, and of the versions of their projects."""

    projects: tuple[Project, ...] = Field(
        min_length=1, description="Whose tickets are changed; others stay as they are"
    )
    comment: bool = Field(True, description="Each ticket says with which release it went to production, or came back")
    versions: dict[Identifier, Annotated[Line, Field(max_length=200)]] = Field(
        {},
        description="Service: the name of its versions, with {version} in it. A version is made when a release is "
        "planned, released when it is deployed, and un-released when it is rolled back",
    )
    moves: dict[Outcome, Line] = Field(
        {}, description="Status that tickets are moved to when a release is planned, deployed, or taken back"
    )


class JiraDefects(Model):
    """The issues of defects that test cases found."""

    project: Project
    issue_type: Line = "Bug"
    link: Line = Field("Relates", description="Name of the type of the link between a release's issue and a defect's")
    fields: dict[JiraField, JsonValue] = Field({}, description="Further fields of each new issue with fixed values")


class Jira(ToldSystem):
    """A Jira, or a Jira Service Management: Data Center or Cloud."""

    kind: Literal["jira"]
    cloud: bool = Field(False, description="It is a Jira Cloud")
    project: Project
    issue_types: dict[ChangeType, Line] = Field(description="Type of the issue of a change, by change type")
    states: States = Field(description="Statuses of the workflow of these issues")
    sets: dict[Literal["start", "end", "began", "ended", "plan", "risk", "outcome", "service"], JiraField] = Field(
        {}, description="Fields that say these; start, end, began and ended are of the type date and time"
    )
    fields: dict[JiraField, JsonValue] = Field(
        {}, description="Further fields of each new issue with fixed values, as Jira's API takes them"
    )
    transition_fields: dict[Line, dict[JiraField, JsonValue]] = Field(
        {}, description="Status: fields that the transition to it demands, such as a resolution"
    )
    expected: Duration = Field(
        timedelta(hours=2), description="Expected duration of an implementation: planned end after planned start"
    )
    tickets: JiraTickets | None = Field(None, description="Default: tickets and versions are left alone")
    defects: JiraDefects | None = Field(None, description="Default: defects have no issue")

    @model_validator(mode="after")
    def _versions_are_told_apart(self) -> Self:
        for service, name in (self.tickets.versions if self.tickets else {}).items():
            if "{version}" not in name:
                raise ValueError(f"tickets.versions.{service} has no {{version}} in it")
        return self


class JiraDeployments(ToldSystem):
    """Deployments on the issues of a Jira Cloud: the connection has client_id and cloud_id in its extra."""

    kind: Literal["jira_deployments"]


class PagerDuty(ToldSystem):
    """A service of PagerDuty, which gets change events: the connection has the integration key as password."""

    kind: Literal["pagerduty"]


class Opsgenie(ToldSystem):
    """An integration of Opsgenie, which gets alerts of the lowest priority: the connection has the key as password."""

    kind: Literal["opsgenie"]


class Webhook(Approving):
    """A receiver of signed CloudEvents: the connection has its URL as host, and the secret as password."""

    kind: Literal["webhook"]
    format: Literal["interlock", "cdevents"] = Field(
        "interlock",
        description="interlock: each fact of a release; cdevents: those that CDEvents 0.4.1 has an event for",
    )


AnySystem = Annotated[ServiceNow | Jira | JiraDeployments | PagerDuty | Opsgenie | Webhook, Field(discriminator="kind")]
"""Of whichever kind."""


class SystemsFile(Model):
    """The systems: ``systems.yaml``. Which releases each is told of is in ``change_types`` of policy.yaml."""

    systems: dict[Identifier, AnySystem] = {}
