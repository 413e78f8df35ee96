"""``services/*.yaml``: a service that is released, its build, its tests and its environments."""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import ip_address
from itertools import combinations, pairwise
from operator import not_
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    FiniteFloat,
    GetJsonSchemaHandler,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from interlock.domain.canonical import Later, Model

from .cases_file import CaseRules
from .database_file import Database, refuse_unrehearsable
from .environment_path import refuse_wrong_path, sorted_path
from .policy_file import Registries, Tightening
from .prebuilt_file import Prebuilt
from .runbook_file import MAX_STEPS, Step, refuse_disorder
from .strategy_file import BlueGreen, Canary, Guidance, OnFailure, StrategyName, TargetGroupName
from .values import (
    PRODUCTION,
    Argument,
    ConnectionId,
    Duration,
    Email,
    EnvironmentVariable,
    Identifier,
    Line,
    People,
    RelativePath,
    Roles,
    TagName,
    TagValue,
    UrlPath,
    each_once,
    named_twice,
)


class Source(Model):
    """Where the source is: an Airflow connection whose host is the repository's URL."""

    connection: ConnectionId


PLATFORM_PREFIXES = ("AIRFLOW", "_AIRFLOW", "AWS_", "INTERLOCK_", "LD_")
"""Environment variables of the platform: they contain its secrets, or change which code is loaded."""


class Build(Model):
    """How the service's own tool builds and tests it."""

    tool: Literal["make", "ant", "msbuild", "maven", "gradle", "npm", "python-build", "command"]
    build: tuple[Argument, ...] = Field((), description="Arguments of the build; empty: the tool's usual target")
    test: tuple[Argument, ...] = Field((), description="Arguments of the unit tests; empty: the tool's usual target")
    output: RelativePath = Field(description="The output folder of the build: the release with its appspec.yml")
    junit: tuple[RelativePath, ...] = Field(
        (), description="Globs of JUnit reports; default: the usual location of the tool"
    )
    coverage: RelativePath | None = Field(None, description="A coverage report: Cobertura, JaCoCo, Clover or LCOV")
    bom: RelativePath | None = Field(None, description="A CycloneDX JSON file that the build creates")
    environment: tuple[EnvironmentVariable, ...] = Field(
        (), description="Names of additional environment variables for the build"
    )
    registries: Registries = Field(
        (), description="Registries of policy.yaml that the build can access with their credentials"
    )
    time_limit: Duration = timedelta(minutes=15)

    @model_validator(mode="after")
    def _can_be_run_and_sees_no_secrets(self) -> Self:
        if self.tool == "command" and not self.build:
            raise ValueError("tool: command needs build, the command to run")
        if secret := [name for name in self.environment if name.upper().startswith(PLATFORM_PREFIXES)]:
            raise ValueError(f"environment: {', '.join(secret)} belongs to the platform and is not available to builds")
        return self


class Suite(Model):
    """A test suite of the service's own, run against the test environment; BASE_URL names the host."""

    command: tuple[Argument, ...] = Field(min_length=1)
    junit: tuple[RelativePath, ...] = Field(min_length=1)
    registries: Registries = Field(
        (), description="Registries that the suite can access in addition to the test environment"
    )
    time_limit: Duration = timedelta(minutes=10)


class TestData(Model):
    """The command that prepares the data of an environment before its suites run; BASE_URL names the host."""

    __test__ = False  # pytest is not to take it for tests

    command: tuple[Argument, ...] = Field(min_length=1)
    registries: Registries = Field((), description="Registries that the command can access in addition to the host")
    time_limit: Duration = timedelta(minutes=10)


class Load(Model):
    """A short synthetic load: the same before, on test and after."""

    paths: tuple[UrlPath, ...] = Field(min_length=1)
    requests: int = Field(200, ge=1, le=100_000, description="Total number of requests to each host, over all paths")
    concurrency: int = Field(8, ge=1, le=512)
    timeout: Duration = Field(timedelta(seconds=5), description="Timeout of one request")

    @model_validator(mode="after")
    def _each_path_is_asked(self) -> Self:
        if self.requests < len(self.paths):
            raise ValueError(f"requests: {self.requests} are too few to ask each of {len(self.paths)} paths")
        return self


class Health(Model):
    """How a host reports its health and its version."""

    port: int = Field(ge=1, le=65535)
    path: UrlPath = "/health"
    version_key: str = Field(
        "version",
        min_length=1,
        max_length=100,
        description="The key of the JSON answer that holds the version, or a path of keys: build.version",
    )
    timeout: Duration = Field(timedelta(seconds=30), description="Time within which a started host must be healthy")


class SmokeCheck(Model):
    """One request that every host must answer."""

    path: UrlPath
    status: int = Field(200, ge=100, le=599)
    contains: str = ""


class Launch(Model):
    """How a missing host is created."""

    image_id: str = Field(pattern=r"^ami-[0-9a-f]{8,17}$")
    instance_type: str = Field(pattern=r"^[a-z0-9.-]+$")
    private_ip_addresses: tuple[str, ...] = Field(
        (), description="Private addresses for new instances, in this order; default: EC2 chooses"
    )
    subnet_id: str | None = Field(None, pattern=r"^subnet-[0-9a-f]+$")

    @model_validator(mode="after")
    def _addresses_are_addresses(self) -> Self:
        each_once(tuple(str(ip_address(address)) for address in self.private_ip_addresses))
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
    """Refuse waves without additional hosts; a number is not compared with a percentage."""
    numbers = [wave.hosts for wave in waves if wave.hosts is not None]
    percentages = [wave.percent for wave in waves if wave.percent is not None]
    if any(later <= earlier for kind in (numbers, percentages) for earlier, later in pairwise(kind)):
        raise ValueError("waves are counted from the start of the fleet, so each must be larger than the one before")
    return waves


_DEPLOY_ROOT = r"^/?\.?[A-Za-z0-9_][A-Za-z0-9_.-]*(/\.?[A-Za-z0-9_][A-Za-z0-9_.-]*)*$"
"""Never the root, the login's home itself, a path with .., or text that a command reads as an option."""


Amount = Annotated[int, Field(ge=0, strict=True)] | Annotated[str, StringConstraints(pattern=r"^(100|[1-9]?[0-9]) ?%$")]
"""A number of hosts, or a percentage of the fleet such as 25%."""


def may_be_the_same(tags: dict[str, str], others: dict[str, str]) -> bool:
    """Say whether an instance can carry both."""
    return all(tags[tag] == others[tag] for tag in tags.keys() & others.keys())


MAX_WAVES = 20


class SignOff(Model):
    """The people who sign an environment off, such as its test team."""

    title: Line = Field(description="What these people are called, such as User acceptance testers")
    people: People = Field((), exclude_if=not_, description="People of board.yaml, one ballot each")
    roles: Roles = Field(
        (),
        exclude_if=not_,
        description="One ballot for each person who has one of these roles in board.yaml when the release begins",
    )
    quorum: int = Field(1, ge=1, description="Minimum number of approvals")
    within: Duration = Field(
        timedelta(days=3), description="Time to sign off; without enough approvals by then, the release is rejected"
    )

    @model_validator(mode="after")
    def _enough_people(self) -> Self:
        if not self.people and not self.roles:
            raise ValueError("nobody signs off: name people, or roles of board.yaml")
        if self.quorum > len(self.people) and not self.roles:
            raise ValueError(f"quorum: {self.quorum} approvals of {len(self.people)} people cannot be reached")
        return self


class Environment(Model):
    """A fleet of hosts that runs the service."""

    hosts: dict[TagName, TagValue] = Field(min_length=1, description="EC2 tags that its instances have")
    count: int = Field(ge=1, le=100_000, description="Required number of instances")
    waves: Annotated[tuple[Wave, ...], AfterValidator(_rising)] = Field(
        (Wave(percent=100),),
        min_length=1,
        max_length=MAX_WAVES,
        description="Cumulative size of each wave, as hosts or a percentage of the fleet: 1, 25%, 100%",
    )
    window: int | None = Field(
        None, ge=1, le=1000, description="Number of hosts of a wave that are changed concurrently"
    )
    max_failed: Amount = Field(
        0,
        description="Error budget: number of hosts that may fail. If more fail, no further host is changed",
    )
    min_healthy: Amount = Field(
        0,
        description="Number of hosts that stay in service at any time; hosts in change and failed hosts do not count",
    )
    by_zone: bool = Field(False, description="Change the hosts of one availability zone before those of the next")
    min_healthy_per_zone: Amount = Field(
        0, description="Number of hosts of each availability zone that stay in service; a percentage refers to the zone"
    )
    target_group: TargetGroupName | None = None
    strategy: StrategyName = Field(
        "rolling",
        description="rolling: wave by wave; canary: the first wave is evaluated; blue_green: deploy to a second fleet",
    )
    canary: Canary | None = Field(None, validate_default=True, description="With strategy: canary")
    blue_green: BlueGreen | None = Field(None, validate_default=True, description="With strategy: blue_green")
    on_failure: OnFailure = Field(
        "exclude",
        description="When a host fails: leave it out within max_failed, back the release out, or ask the release "
        "manager",
    )
    guidance: Guidance | None = Field(None, description="With on_failure: ask")
    on_stop_failure: Literal["go_on", "refuse"] = Field(
        "go_on",
        description="When a hook of the release that runs fails as it is stopped (ApplicationStop, BeforeBlockTraffic, "
        "AfterBlockTraffic): go_on continues with the new release; refuse fails the host",
    )
    deploy_root: Annotated[str, StringConstraints(pattern=_DEPLOY_ROOT, max_length=255)] = Field(
        description="Folder on the host: absolute, or under the login's home"
    )
    keep_releases: int = Field(
        3, ge=2, le=50, description="Number of releases that are kept on a host; a back-out needs one"
    )
    drain_timeout: Duration = timedelta(minutes=5)
    aws: ConnectionId = Field("interlock_aws", description="Airflow connection to AWS")
    ssh: ConnectionId = Field("interlock_hosts", description="Airflow connection with the login of the hosts")
    missing: Literal["refuse", "create"] = Field("refuse", description="What to do when instances are missing")
    launch: Launch | None = None
    after: Annotated[tuple[Identifier, ...], AfterValidator(each_once)] = Field(
        (),
        exclude_if=not_,
        description="Environments that a release must have passed before it comes here. Each environment besides test "
        "and production needs it; production comes after all of them",
    )
    suites: Later[Annotated[tuple[Identifier, ...], Field(min_length=1), AfterValidator(each_once)]] = Field(
        None, description="With after: the suites that run here; default: all"
    )
    data: Later[TestData] = Field(
        None, description="Before production: the command that prepares the test data, before the suites run"
    )
    load: Later[Load] = Field(None, description="With after: the load here; default: the load of the service")
    thresholds: dict[str, FiniteFloat | int | list[str]] = Field(
        {}, exclude_if=not_, description="With after: thresholds that are stricter here than those of the policy"
    )
    soak: Later[Duration] = Field(
        None, description="With after: time for which the release runs here before the environment is signed off"
    )
    sign_off: Later[SignOff] = Field(None, description="With after: who signs the environment off; default: nobody")

    @model_validator(mode="after")
    def _last_wave_is_the_whole(self) -> Self:
        if self.waves[-1].percent != 100:
            raise ValueError("the last wave must be 100%, so that all hosts get the release")
        if self.missing == "create" and self.launch is None:
            raise ValueError("missing: create needs launch")
        return self

    @field_validator("canary", "blue_green")
    @classmethod
    def _goes_with_the_strategy(
        cls, value: Canary | BlueGreen | None, info: ValidationInfo
    ) -> Canary | BlueGreen | None:
        strategy = info.data.get("strategy")
        if (value is not None) != (strategy == info.field_name) and strategy is not None:
            raise ValueError(
                f"goes with strategy: {info.field_name}, and the strategy is {strategy}"
                if value is not None
                else f"strategy: {strategy} needs its settings here"
            )
        return value

    @field_validator("guidance")
    @classmethod
    def _goes_with_asking(cls, value: Guidance | None, info: ValidationInfo) -> Guidance | None:
        if value is not None and info.data.get("on_failure") not in (None, "ask"):
            raise ValueError("goes with on_failure: ask")
        return value

    @field_validator("canary")
    @classmethod
    def _leaves_a_baseline(cls, value: Canary | None, info: ValidationInfo) -> Canary | None:
        """Refuse a first wave that leaves no hosts of the old version to compare with."""
        waves, count, group = (info.data.get(key) for key in ("waves", "count", "target_group"))
        if value is None or not waves or not count:
            return value
        first = waves[0].hosts or -(-count * waves[0].percent // 100)
        if len(waves) < 2 or 2 * first > count:
            raise ValueError(
                f"the first wave ({waves[0]}) is the canary, and of {count} hosts as many again must stay as they are "
                "to compare it with"
            )
        if value.traffic is not None and group is None:
            raise ValueError("traffic is shared between target groups, and the environment has no target_group")
        if group in (value.target_group, value.baseline_target_group) and group is not None:
            raise ValueError("the groups of canary and baseline are not the target_group of the environment")
        return value

    @field_validator("blue_green")
    @classmethod
    def _is_a_second_fleet(cls, value: BlueGreen | None, info: ValidationInfo) -> BlueGreen | None:
        if value is None:
            return value
        group = info.data.get("target_group")
        if group is None or group == value.target_group:
            raise ValueError("needs a target_group of the environment, and another one for the second fleet")
        hosts = info.data.get("hosts") or {}
        if may_be_the_same(hosts, value.hosts):
            raise ValueError("hosts: both fleets may select the same hosts; give both a tag with different values")
        return value

    @property
    def fleets(self) -> tuple[dict[str, str], ...]:
        """The tags of its hosts; of two fleets if it has two."""
        return (self.hosts, self.blue_green.hosts) if self.blue_green else (self.hosts,)

    @property
    def guided(self) -> Guidance | None:
        """How the release manager is asked about hosts that fail; none: no question is asked."""
        return (self.guidance or Guidance()) if self.on_failure == "ask" else None

    @model_validator(mode="after")
    def _some_host_can_be_changed(self) -> Self:
        if _number_of(self.min_healthy, self.count) >= self.count:
            raise ValueError(
                f"min_healthy: {self.min_healthy} of {self.count} hosts leaves no host that can be changed"
            )
        zone = self.min_healthy_per_zone
        if zone >= self.count if isinstance(zone, int) else _number_of(zone, 100) == 100:
            raise ValueError(f"min_healthy_per_zone: {zone} leaves no host of a zone that can be changed")
        return self


class WithoutHosts(Model):
    """An environment of the path that has no hosts of its own: the artifact is reviewed there, and deployed nowhere."""

    after: Annotated[tuple[Identifier, ...], Field(min_length=1), AfterValidator(each_once)] = Field(
        description="Environments that a release must have passed before it comes here"
    )
    suites: Annotated[tuple[Identifier, ...], AfterValidator(each_once)] = Field(
        (), exclude_if=not_, description="The suites that run here, without BASE_URL; default: none"
    )
    thresholds: dict[str, FiniteFloat | int | list[str]] = Field(
        {}, exclude_if=not_, description="Thresholds that are stricter here than those of the policy"
    )
    sign_off: Later[SignOff] = Field(None, description="Who signs the environment off; default: nobody")

    @property
    def soak(self) -> None:
        """Nothing runs here."""

    @property
    def data(self) -> None:
        """There is no host that could have any."""


def _number_of(amount: int | str, of: int) -> int:
    """Return an amount in numbers of hosts, a percentage rounded up."""
    return amount if isinstance(amount, int) else -(-of * int(amount.rstrip("% ")) // 100)


class Audience(Model):
    """People who are notified of a release by e-mail."""

    name: Identifier
    title: Line
    email: tuple[Email, ...] = Field(min_length=1)


class Training(Model):
    """Training material in the repository, and the support roles that must acknowledge it."""

    material: RelativePath = Field(description="A Markdown file in the repository, read at the released commit")
    acknowledge: dict[Identifier, Annotated[People, Field(min_length=1)]] = Field(
        min_length=1, description="Support role: people who can acknowledge the training for it"
    )


class Service(Model):
    """A service that is released: ``services/<name>.yaml``."""

    name: Identifier = Field(description="The name of its file, without .yaml")
    title: Line
    description: str = Field("", max_length=10_000)
    owner: Line = Field(description="The responsible team, which is named in refusals and release notes")
    business_unit: Identifier | None = None
    tier: int = Field(
        3, ge=1, le=4, description="Criticality: 1 (business critical) to 4 (an outage of a day is acceptable)"
    )
    source: Source
    build: Annotated[Build | Prebuilt, Field(discriminator="tool")] = Field(
        description="How it is built here, or, with tool: prebuilt, where its own pipeline leaves the artifact"
    )
    suites: dict[Identifier, Suite] = Field(
        {}, description="Test suites that the quality review runs against the test environment"
    )
    cases: Later[CaseRules] = Field(None, description="Test cases that people run")
    load: Load
    health: Health
    smoke: tuple[SmokeCheck, ...] = Field(min_length=1)
    environments: dict[Identifier, Environment]
    without_hosts: dict[Identifier, WithoutHosts] = Field(
        {},
        exclude_if=not_,
        description="Environments between test and production that have no hosts of their own: suites that reach "
        "something else, test cases of people, a sign-off",
    )
    changed_on_hosts: tuple[RelativePath, ...] = Field(
        (),
        description="Globs of files of the bundle that its own hooks or program change on a host; reconcile does not "
        "compare them with the bundle",
    )
    functional_approvers: People = Field(
        min_length=1, description="People who can accept a release; one acceptance is enough"
    )
    audiences: tuple[Audience, ...] = ()
    training: Training | None = None
    policy: Tightening = Tightening()
    runbook: tuple[Step, ...] = Field(
        (),
        max_length=MAX_STEPS,
        exclude_if=not_,  # a service without one keeps the digest that it had before there were runbooks
        description="Steps before, between and after the waves in production, in their order",
    )
    databases: dict[Identifier, Database] = Field(
        {}, exclude_if=not_, description="The databases that steps of the runbook change (migrates)"
    )

    @model_validator(mode="after")
    def _steps_have_an_order(self) -> Self:
        if self.runbook and "production" in self.environments:
            refuse_disorder(self.runbook, len(self.environments["production"].waves))
        refuse_unrehearsable(self.runbook, self.databases)
        return self

    @model_validator(mode="after")
    def _has_test_and_production(self) -> Self:
        if missing := [name for name in ("test", "production") if name not in self.environments]:
            raise ValueError(f"environments lacks {' and '.join(missing)}")
        if (test := self.environments["test"]).strategy != "rolling" or test.on_failure != "exclude":
            raise ValueError("environments: test is changed all at once; strategy and on_failure are production's")
        if twice := named_twice(audience.name for audience in self.audiences):
            raise ValueError(f"audiences: {twice} is named twice")
        return self

    @model_validator(mode="after")
    def _environments_are_a_path(self) -> Self:
        refuse_wrong_path(self.environments, self.without_hosts, self.suites)
        for name, one in self.without_hosts.items():
            if not (one.suites or one.sign_off or self.cases):
                raise ValueError(
                    f"without_hosts: {name} proves nothing: give it suites, a sign_off, or test cases that people run"
                )
        return self

    @property
    def stations(self) -> dict[str, Environment | WithoutHosts]:
        """All environments, with hosts and without."""
        return {**self.environments, **self.without_hosts}

    @property
    def path(self) -> tuple[str, ...]:
        """The environments between test and production, each after those that it comes after."""
        return sorted_path(self.stations)

    def key_of(self, environment: str) -> str:
        """Return the key of the service's file under which an environment is."""
        return f"{'without_hosts' if environment in self.without_hosts else 'environments'}.{environment}"

    def is_sandbox(self, environment: str) -> bool:
        """Tell whether the hosts of an environment are accessed without a permit: those of all before production."""
        return environment != PRODUCTION and environment in self.environments

    @model_validator(mode="after")
    def _no_host_is_in_two_environments(self) -> Self:
        """Otherwise a deployment to test could change a production host without a vote."""
        for (one, first), (other, second) in combinations(self.environments.items(), 2):
            if any(may_be_the_same(tags, others) for tags in first.fleets for others in second.fleets):
                raise ValueError(
                    f"environments: {one} and {other} may select the same hosts; give both a tag with different values"
                )
        return self
