"""What an organisation writes in ``include/catalogue/``: its policy, its board, its services.

Every model refuses unknown keys. Durations are ISO 8601 (``PT48H``, ``P2D``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from enum import StrEnum
from ipaddress import ip_address
from itertools import combinations, pairwise
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FiniteFloat,
    GetJsonSchemaHandler,
    StringConstraints,
    TypeAdapter,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from .canonical import Model

UserName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9_.-]{0,62}$"),
    Field(description="An Airflow user name: lower case, such as rita"),
]
"""An Airflow user name: the one name that a person has everywhere."""
Identifier = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$"),
    Field(description="A name of lower-case letters, digits and hyphens, such as bike-shop"),
]
"""A name that becomes part of Dag ids, paths and tags."""
ConnectionId = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,200}$"), Field(description="The id of an Airflow connection")
]
Line = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
    ),
    Field(description="One line of text"),
]
"""Text for people that ends up in titles and in the headers of mails: one line."""
Email = Annotated[
    str,
    StringConstraints(pattern=r"^[^@\s,;<>\x00-\x1f\x7f]+@[^@\s,;<>\x00-\x1f\x7f]+$", max_length=254),
    Field(description="An e-mail address, such as rita@example.com"),
]
Argument = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")]
UrlPath = Annotated[
    str,
    # A second slash at the start would name another host.
    StringConstraints(pattern=r"^/([^/\s#\x00-\x1f\x7f][^\s#\x00-\x1f\x7f]*)?$", max_length=2048),
    Field(description="The path of a URL on the service's own host, such as /health"),
]
TagName = Annotated[
    str,
    StringConstraints(pattern=r"^[^*?\\\x00-\x1f\x7f]{1,128}$"),
    Field(description="The name of an EC2 tag, without wildcards"),
]
TagValue = Annotated[
    str,
    StringConstraints(pattern=r"^[^*?\\\x00-\x1f\x7f]{1,256}$"),
    Field(description="The value of an EC2 tag, without wildcards"),
]
EnvironmentVariable = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=200),
    Field(description="The name of an environment variable that holds no secret of Airflow, AWS or Interlock"),
]
LONGEST = timedelta(weeks=52)
"""No duration of the catalogue is longer: a longer one is a slip of the pen."""
_ISO_DURATION = r"^P(?=.)(\d{1,4}W|(\d{1,4}D)?(T(?=.)(\d{1,6}H)?(\d{1,6}M)?(\d{1,8}(\.\d{1,6})?S)?)?)$"


_ANY_DURATION = TypeAdapter(timedelta)


def _iso_8601(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str) and re.fullmatch(_ISO_DURATION, value, re.ASCII):
        return _ANY_DURATION.validate_python(value)
    raise ValueError("must be an ISO 8601 duration, such as PT48H, P2D or PT30S")


def _sensible(value: timedelta) -> timedelta:
    if not timedelta(0) < value <= LONGEST:
        raise ValueError(f"must be longer than nothing and at most {LONGEST.days} days")
    return value


Duration = Annotated[
    timedelta,
    BeforeValidator(_iso_8601),
    AfterValidator(_sensible),
    WithJsonSchema(
        {"type": "string", "pattern": _ISO_DURATION, "description": "An ISO 8601 duration, such as PT48H, P2D or PT30S"}
    ),
]


def _relative(value: str) -> str:
    if value.startswith("/") or ".." in value.split("/") or not value:
        raise ValueError("must be a path inside the checkout, such as build/output")
    return value


RelativePath = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1024, pattern=r"^[^/\x00-\x1f\x7f][^\x00-\x1f\x7f]*$"),
    AfterValidator(_relative),
    Field(description="A path inside the checkout, such as build/output"),
]


def _twice(names: Iterable[str]) -> str:
    """Return the names that stand in a list more than once, with commas."""
    return ", ".join(sorted(name for name, times in Counter(names).items() if times > 1))


def _each_once(value: tuple[str, ...]) -> tuple[str, ...]:
    if twice := _twice(value):
        raise ValueError(f"{twice} is named twice")
    return value


People = Annotated[tuple[UserName, ...], AfterValidator(_each_once)]
"""Some people, each named once."""


class ChangeType(StrEnum):
    """ITIL's change types; each picks the flow that a release takes."""

    STANDARD = "standard"
    NORMAL = "normal"
    EMERGENCY = "emergency"


# --- policy.yaml -----------------------------------------------------------------------------------------------------


Licence = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9.+-]{1,100}$"), Field(description="An SPDX identifier, such as MIT")
]


class Thresholds(Model):
    """What quality review and verification demand.

    ``min_`` may only be raised and ``max_`` only be lowered by a lower level; ``allowed_licences`` may only shrink.
    """

    min_tests: int = Field(1, ge=0, description="Fewest test cases that must have run, over all suites")
    max_failed_tests: int = Field(0, ge=0, description="Most test cases that may fail or error")
    max_skipped_tests: int = Field(10, ge=0, description="Most test cases that may be skipped")
    min_line_coverage_percent: FiniteFloat = Field(
        60, ge=0, le=100, description="Line coverage of each source file, percent"
    )
    max_p95_ms: FiniteFloat = Field(
        1000, gt=0, description="95th percentile of the response time of each path, milliseconds"
    )
    max_error_percent: FiniteFloat = Field(
        0, ge=0, le=100, description="Share of failed requests of each path, percent"
    )
    allowed_licences: tuple[Licence, ...] = Field(
        ("Apache-2.0", "MIT", "BSD-3-Clause", "BSD-2-Clause", "ISC", "PSF-2.0"),
        min_length=1,
        description="SPDX identifiers that a component of the bundle may have",
    )
    max_p95_ratio: FiniteFloat = Field(
        2.0, ge=1, description="Most that p95 after the release may be, as a multiple of before"
    )
    max_p95_rise_ms: FiniteFloat = Field(
        250, ge=0, description="Rise of p95 that is never held against a release, milliseconds"
    )


class Flow(Model):
    """Which people a release of one change type asks."""

    plan_approval_for_major: bool = Field(True, description="Senior management approves the plan of a major release")
    plan_approval_from_risk: int = Field(
        101, ge=0, le=101, description="…and of any release from this risk on; 101: never"
    )
    acceptance: bool = Field(True, description="The functional approvers validate the release")
    board: Identifier | None = Field(None, description="The board that votes on the rollout plan; none: pre-authorised")


class RiskQuestion(Model):
    """A question of the trigger form: answering yes adds its points to the risk."""

    key: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
    question: Annotated[Line, Field(min_length=5, max_length=200)]
    points: int = Field(ge=1, le=100)


class RiskFormula(Model):
    """Risk from 0 to 100: the points of the answers, the change's size and the service's tier, summed and capped."""

    questions: tuple[RiskQuestion, ...] = ()
    points_per_commit: FiniteFloat = Field(
        1, ge=0, le=100, description="Points for each commit since what production runs"
    )
    max_points_for_commits: int = Field(20, ge=0, le=100)
    points_by_tier: dict[Literal["1", "2", "3", "4"], Annotated[int, Field(ge=0, le=100)]] = Field(
        {"1": 20, "2": 10, "3": 5, "4": 0}, description="Points for each tier of services; all four are named"
    )
    points_for_major: int = Field(30, ge=0, le=100)

    @model_validator(mode="after")
    def _every_case_counts_once(self) -> Self:
        if twice := _twice(question.key for question in self.questions):
            raise ValueError(f"questions: the key {twice} is used twice")
        if missing := [tier for tier in ("1", "2", "3", "4") if tier not in self.points_by_tier]:
            raise ValueError(f"points_by_tier lacks tier {', '.join(missing)}")
        return self


class Tightening(Model):
    """What a business unit or a service asks beyond the enterprise; it may only tighten."""

    thresholds: dict[str, FiniteFloat | int | list[str]] = Field({}, description="Keys of the enterprise's thresholds")


class TimeLimits(Model):
    """How long people have to answer; silence is never consent."""

    plan_approval: Duration = timedelta(days=3)
    acceptance: Duration = timedelta(days=3)
    acknowledgement: Duration = timedelta(days=3)


class Policy(Model):
    """The release policy of the enterprise: ``policy.yaml``."""

    name: Line
    owner: Line = Field(description="Who can change this file: named in refusals")
    thresholds: Thresholds = Thresholds()
    change_types: dict[ChangeType, Flow]
    risk: RiskFormula = RiskFormula()
    time_limits: TimeLimits = TimeLimits()
    business_units: dict[Identifier, Tightening] = Field({}, description="What each business unit asks beyond these")

    @model_validator(mode="after")
    def _every_change_type_has_a_flow(self) -> Self:
        missing = [kind.value for kind in ChangeType if kind not in self.change_types]
        if missing:
            raise ValueError(f"change_types lacks {', '.join(missing)}")
        return self


# --- board.yaml ------------------------------------------------------------------------------------------------------


class Person(Model):
    """Someone who decides or is told, under the name that they log in with."""

    user: UserName
    name: Line
    email: Email
    role: Identifier = Field(description="The role in which this person votes or answers, such as operations")


class Quorum(Model):
    """What a board needs to decide."""

    approvals: int = Field(ge=1, description="Fewest approvals")
    veto: People = Field((), description="Members whose rejection alone decides")
    deadline: Duration = Field(
        timedelta(days=2), description="How long the board has; after it, no decision is a rejection"
    )


class Board(Model):
    """A board that votes on rollout plans."""

    title: Line
    members: tuple[UserName, ...] = Field(min_length=1)
    quorum: Quorum

    @model_validator(mode="after")
    def _can_decide(self) -> Self:
        if len(set(self.members)) != len(self.members):
            raise ValueError("a member is named twice; a person votes once")
        if self.quorum.approvals > len(self.members):
            raise ValueError(f"asks for {self.quorum.approvals} approvals of {len(self.members)} members")
        if strangers := set(self.quorum.veto) - set(self.members):
            raise ValueError(f"gives a veto to {', '.join(sorted(strangers))}, who is not a member")
        return self


class BoardBook(Model):
    """People and boards: ``board.yaml``."""

    people: tuple[Person, ...]
    boards: dict[Identifier, Board]
    senior_management: People = Field(description="Who approves the plan of a major release; any one of them")

    @model_validator(mode="after")
    def _everybody_is_somebody(self) -> Self:
        users = [person.user for person in self.people]
        if twice := _twice(users):
            raise ValueError(f"people: {twice} is listed twice")
        if twice := _twice(person.email.casefold() for person in self.people):
            raise ValueError(f"people: {twice} is the address of two; a person has one user name and votes once")
        named = {user for board in self.boards.values() for user in board.members} | set(self.senior_management)
        if strangers := sorted(named - set(users)):
            raise ValueError(f"{', '.join(strangers)} is not among people")
        return self

    def person(self, user: str) -> Person:
        """Return the person who logs in as ``user``; KeyError for a stranger."""
        return next((person for person in self.people if person.user == user), None) or _stranger(user)


def _stranger(user: str) -> Person:
    raise KeyError(f"{user} is not among the people of board.yaml")


# --- services/*.yaml -------------------------------------------------------------------------------------------------


class Source(Model):
    """Where the source is: an Airflow connection whose host is the repository's URL."""

    connection: ConnectionId


PLATFORM_PREFIXES = ("AIRFLOW", "_AIRFLOW", "AWS_", "INTERLOCK_", "LD_")
"""Environment variables that are the platform's: they hold its secrets, or change which code is loaded."""


class Build(Model):
    """How the service's own tool builds and tests it."""

    tool: Literal["make", "ant", "msbuild", "maven", "gradle", "npm", "python-build", "command"]
    build: tuple[Argument, ...] = Field((), description="Arguments of the build; empty: the tool's usual target")
    test: tuple[Argument, ...] = Field((), description="Arguments of the unit tests; empty: the tool's usual target")
    output: RelativePath = Field(description="The folder that the build leaves: the release, with its appspec.yml")
    junit: tuple[RelativePath, ...] = Field((), description="Globs of JUnit reports; empty: where the tool leaves them")
    coverage: RelativePath | None = Field(None, description="A Cobertura XML report")
    bom: RelativePath | None = Field(None, description="A CycloneDX JSON that the build writes itself")
    environment: tuple[EnvironmentVariable, ...] = Field(
        (), description="Names of further environment variables that the build may see"
    )
    time_limit: Duration = timedelta(minutes=15)

    @model_validator(mode="after")
    def _can_be_run_and_sees_no_secrets(self) -> Self:
        if self.tool == "command" and not self.build:
            raise ValueError("tool: command needs build, the command to run")
        if secret := [name for name in self.environment if name.upper().startswith(PLATFORM_PREFIXES)]:
            raise ValueError(f"environment: a build never sees {', '.join(secret)}, which is the platform's own")
        return self


class Suite(Model):
    """A test suite of the service's own, run against the test environment; BASE_URL names the host."""

    command: tuple[Argument, ...] = Field(min_length=1)
    junit: tuple[RelativePath, ...] = Field(min_length=1)
    time_limit: Duration = timedelta(minutes=10)


class Load(Model):
    """A short synthetic load: the same before, on test and after."""

    paths: tuple[UrlPath, ...] = Field(min_length=1)
    requests: int = Field(200, ge=1, le=100_000, description="Requests to each host, over all paths")
    concurrency: int = Field(8, ge=1, le=512)
    timeout: Duration = Field(timedelta(seconds=5), description="Of one request")


class Health(Model):
    """How a host says that it is well, and which version it runs."""

    port: int = Field(ge=1, le=65535)
    path: UrlPath = "/health"
    version_key: str = Field(
        "version", min_length=1, max_length=100, description="The key of the JSON answer that holds the version"
    )
    timeout: Duration = Field(timedelta(seconds=30), description="Until a started host must be well")


class SmokeCheck(Model):
    """One request that every host must answer."""

    path: UrlPath
    status: int = Field(200, ge=100, le=599)
    contains: str = ""


class Launch(Model):
    """How a missing host is created."""

    image_id: str = Field(pattern=r"^ami-[0-9a-f]{8,17}$")
    instance_type: str = Field(pattern=r"^[a-z0-9.-]+$")
    private_ip_addresses: tuple[str, ...] = Field((), description="Addresses to give, in order; empty: EC2 chooses")
    subnet_id: str | None = Field(None, pattern=r"^subnet-[0-9a-f]+$")

    @model_validator(mode="after")
    def _addresses_are_addresses(self) -> Self:
        _each_once(tuple(str(ip_address(address)) for address in self.private_ip_addresses))
        return self


_WAVE_FORM = "a wave is a number of hosts such as 1, or a percentage such as 25%"


class Wave(Model):
    """A share of the fleet that is changed together: a number of hosts or a percentage, counted from the start."""

    hosts: int | None = Field(None, ge=1)
    percent: int | None = Field(None, ge=1, le=100)

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool):
            return {"hosts": value}
        if isinstance(value, str) and (percent := re.fullmatch(r"(\d{1,3}) ?%", value, re.ASCII)):
            return {"percent": int(percent[1])}
        if not isinstance(value, dict | Wave):
            raise ValueError(_WAVE_FORM)
        return value

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.hosts is None) == (self.percent is None):
            raise ValueError("a wave is either a number of hosts or a percentage")
        return self

    def __str__(self) -> str:
        if self.percent is not None:
            return f"{self.percent} %"
        return "1 host" if self.hosts == 1 else f"{self.hosts} hosts"

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Allow the short forms in editors, too."""
        long_form = handler.resolve_ref_schema(handler(core_schema))
        short_forms: list[JsonSchemaValue] = [
            {"type": "integer", "minimum": 1},
            {"type": "string", "pattern": r"^(100|[1-9][0-9]?) ?%$"},
        ]
        return {
            "description": _WAVE_FORM,
            "anyOf": [*short_forms, {**long_form, "minProperties": 1, "maxProperties": 1}],
        }


def _rising(waves: tuple[Wave, ...]) -> tuple[Wave, ...]:
    """Refuse waves that add nothing to the ones before; a number and a percentage depend on the fleet's size."""
    numbers = [wave.hosts for wave in waves if wave.hosts is not None]
    percentages = [wave.percent for wave in waves if wave.percent is not None]
    if any(later <= earlier for kind in (numbers, percentages) for earlier, later in pairwise(kind)):
        raise ValueError("waves are counted from the start of the fleet, so each must be larger than the one before")
    return waves


_DEPLOY_ROOT = r"^/?\.?[A-Za-z0-9_][A-Za-z0-9_.-]*(/\.?[A-Za-z0-9_][A-Za-z0-9_.-]*)*$"
"""Never the root, the login's home itself, a way up, or something that a command takes for an option."""


class Environment(Model):
    """A fleet of hosts that runs the service."""

    hosts: dict[TagName, TagValue] = Field(min_length=1, description="EC2 tags that its instances have")
    count: int = Field(ge=1, le=100_000, description="How many instances there must be")
    waves: Annotated[tuple[Wave, ...], AfterValidator(_rising)] = Field(
        (Wave(percent=100),),
        min_length=1,
        max_length=20,
        description="After each wave, this much of the fleet has the release: 1, 25%, 100%",
    )
    target_group: str | None = Field(
        None, pattern=r"^[A-Za-z0-9-]{1,32}$", description="Name of the ELBv2 target group"
    )
    deploy_root: Annotated[str, StringConstraints(pattern=_DEPLOY_ROOT, max_length=255)] = Field(
        description="Folder on the host: absolute, or under the login's home"
    )
    keep_releases: int = Field(3, ge=2, le=50, description="Releases that stay on a host; the back-out needs one")
    drain_timeout: Duration = timedelta(minutes=5)
    aws: ConnectionId = Field("interlock_aws", description="Airflow connection to AWS")
    ssh: ConnectionId = Field("interlock_hosts", description="Airflow connection with the login of its hosts")
    missing: Literal["refuse", "create"] = Field("refuse", description="What to do when instances are missing")
    launch: Launch | None = None

    @model_validator(mode="after")
    def _last_wave_is_the_whole(self) -> Self:
        if self.waves[-1].percent != 100:
            raise ValueError("the last wave must be 100%, so that no host is left behind")
        if self.missing == "create" and self.launch is None:
            raise ValueError("missing: create needs launch")
        return self


class Audience(Model):
    """People who are told of a release by e-mail."""

    name: Identifier
    title: Line
    email: tuple[Email, ...] = Field(min_length=1)


class Training(Model):
    """Training material in the repository, and the support roles that must acknowledge it."""

    material: RelativePath = Field(description="A Markdown file in the repository, read at the released commit")
    acknowledge: dict[Identifier, Annotated[People, Field(min_length=1)]] = Field(
        min_length=1, description="Role: who may acknowledge for it"
    )


class Service(Model):
    """A service that is released: ``services/<name>.yaml``."""

    name: Identifier = Field(description="The name of its file, without .yaml")
    title: Line
    description: str = Field("", max_length=10_000)
    owner: Line = Field(description="The team that answers for it: named in refusals and release notes")
    business_unit: Identifier | None = None
    tier: int = Field(3, ge=1, le=4, description="1: the enterprise stops without it … 4: nobody notices for a day")
    source: Source
    build: Build
    suites: dict[Identifier, Suite] = Field({}, description="Test suites that quality review runs against test")
    load: Load
    health: Health
    smoke: tuple[SmokeCheck, ...] = Field(min_length=1)
    environments: dict[Identifier, Environment]
    functional_approvers: People = Field(min_length=1, description="Who validates a release; any one of them")
    audiences: tuple[Audience, ...] = ()
    training: Training | None = None
    policy: Tightening = Tightening()

    @model_validator(mode="after")
    def _has_test_and_production(self) -> Self:
        if missing := [name for name in ("test", "production") if name not in self.environments]:
            raise ValueError(f"environments lacks {' and '.join(missing)}")
        if twice := _twice(audience.name for audience in self.audiences):
            raise ValueError(f"audiences: {twice} is named twice")
        return self

    @model_validator(mode="after")
    def _no_host_is_in_two_environments(self) -> Self:
        """Otherwise a deployment to test could change a production host, which nobody voted on."""
        for (one, first), (other, second) in combinations(self.environments.items(), 2):
            shared = first.hosts.keys() & second.hosts.keys()
            if all(first.hosts[tag] == second.hosts[tag] for tag in shared):
                raise ValueError(
                    f"environments: {one} and {other} may select the same hosts; give both a tag with different values"
                )
        return self


class Catalogue(Model):
    """The whole catalogue, as read: a broken service file is in ``broken`` and nowhere else."""

    policy: Policy
    board: BoardBook
    services: dict[str, Service]
    broken: dict[str, str] = Field({}, description="Service file name: the error that keeps it out")
