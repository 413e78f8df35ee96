"""``policy.yaml``: what the enterprise requires of every release, and what its business units and services add."""

from __future__ import annotations

from datetime import timedelta
from operator import not_
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, FiniteFloat, StringConstraints, model_validator

from interlock.domain.canonical import Later, Model

from .board_file import BoardRule, refuse_rules_twice
from .cases_file import CaseDemand, Severity
from .outside.chat import ChatRoom
from .outside.events import EventSource
from .outside.tickets import TicketDemands, TicketRules, TicketStates, UnreadTickets
from .prebuilt_file import USUAL_CLAIMS, Claim, PrebuiltRules
from .values import (
    ChangeType,
    Day,
    Duration,
    Email,
    Identifier,
    Line,
    RegistryId,
    Roles,
    UserName,
    each_once,
    named_twice,
)

Licence = Annotated[
    str,
    StringConstraints(pattern=r"^[!-~](?:[ -~]{0,98}[!-~])?$"),
    Field(description="An SPDX identifier, such as MIT; or the text of a package that has none, such as BSD License"),
]


class Thresholds(Model):
    """What quality review and verification demand.

    ``min_`` may only be raised and ``max_`` only be lowered by a lower level; ``allowed_licences`` may only shrink.
    """

    min_tests: int = Field(
        1, ge=0, description="Minimum number of test cases that ran, for each kind: unit tests and each suite"
    )
    max_failed_tests: int = Field(0, ge=0, description="Maximum number of test cases that fail or error")
    max_skipped_tests: int = Field(10, ge=0, description="Maximum number of skipped test cases")
    max_skipped_cases: int = Field(
        0,
        ge=0,
        exclude_if=lambda cases: cases == 0,  # as policies before it are on record
        description="Maximum number of test cases that their testers found blocked or not applicable",
    )
    min_line_coverage_percent: FiniteFloat = Field(
        60, ge=0, le=100, description="Minimum line coverage in percent, for what coverage names; 0: no minimum"
    )
    max_p95_ms: FiniteFloat = Field(
        1000, gt=0, description="Maximum 95th percentile of the response time of each path, in milliseconds"
    )
    max_error_percent: FiniteFloat = Field(
        0, ge=0, le=100, description="Maximum share of failed requests of each path, in percent"
    )
    allowed_licences: tuple[Licence, ...] = Field(
        ("Apache-2.0", "MIT", "BSD-3-Clause", "BSD-2-Clause", "ISC", "PSF-2.0"),
        min_length=1,
        description="The licences that components of the bundle may have",
    )
    min_components: int = Field(0, ge=0, description="Minimum number of components in the bill of materials")
    max_p95_ratio: FiniteFloat = Field(2.0, ge=1, description="Maximum ratio of p95 after the release to p95 before it")
    max_p95_rise_ms: FiniteFloat = Field(
        250, ge=0, description="Increase of p95 that is always accepted, in milliseconds"
    )


def _each_kind_once(value: tuple[ChangeType, ...]) -> tuple[ChangeType, ...]:
    each_once(tuple(kind.value for kind in value))
    return value


ChangeTypes = Annotated[tuple[ChangeType, ...], AfterValidator(_each_kind_once)]
"""Some change types, each named once."""
Boards = Annotated[tuple[Identifier, ...], AfterValidator(each_once)]
"""Some boards of board.yaml, each named once."""
RiskLevel = Literal["low", "medium", "high"]
"""The risk that the requester declares for a release."""
CoverageOf = Literal["each_file", "whole", "changed_lines"]
"""Of what min_line_coverage_percent is demanded: each source file, all of them together, the lines of the release."""
VersionStep = Literal["major", "minor", "patch", "first", "same", "downgrade"]
"""How the version of a release differs from the version that its target runs."""
Unread = Literal["tell", "refuse"]
"""What becomes of parts of a bundle whose components, and so their licences, are not known."""
QualitySuite = Literal[
    "tests", "kinds", "coverage", "performance", "components", "record", "cases", "defects", "provenance"
]
"""What quality review judges, a suite of expectations each."""


RecordMode = Literal["mirror", "authority"]
"""What the record of a change in another system is: it follows what is decided here, or its approval counts, too."""


class Demanded(Model):
    """What is demanded of a service beside the thresholds."""

    coverage: tuple[CoverageOf, ...] = ("each_file",)
    unknown_components: Unread = "tell"
    claims: tuple[Claim, ...] = Field(
        (), exclude_if=not_, description="What the pipeline of an artifact from elsewhere must say of it, verified"
    )


class Flow(Model):
    """The people whom a release of one change type asks."""

    plan_approval_for_major: bool = Field(True, description="Senior management approves the plan of a major release")
    plan_approval_from_risk: int = Field(
        101, ge=0, le=101, description="Senior management approves plans with at least this risk; 101: none"
    )
    acceptance: bool = Field(True, description="The functional approvers validate the release")
    cases: CaseDemand = Field(
        "affected",
        exclude_if=lambda cases: cases == "affected",  # as policies before it are on record
        description="Test cases that people must run: those that the release may affect, all, or none",
    )
    stopped_by: dict[Identifier, Severity] = Field(
        {},
        exclude_if=not_,  # as policies before it are on record
        description="Environment: open defects from this severity on stop a release to it",
    )
    board: Identifier | None = Field(
        None, description="The board that votes on the rollout plan; without one, the change is pre-authorised"
    )
    further_boards: Boards = Field(
        (), description="Additional boards that vote on the rollout plan, each with its own quorum"
    )
    exclude_authors: bool = Field(False, description="Authors of commits of the release do not vote on it")
    review_within: Duration | None = Field(
        None,
        description="Time for the review of a deployed release; the next release waits for it. Default: no review",
    )
    overtakes: ChangeTypes = Field(
        (),
        description="Change types of the releases of the same service that a release overtakes, unless they have "
        "begun their rollout. They end and have to be requested again. Default: none",
    )
    environments: Later[Annotated[tuple[Identifier, ...], Field(min_length=1), AfterValidator(each_once)]] = Field(
        None,
        description="Environments that a release goes through before production, beside test; services with none of "
        "them go through all of theirs. Default: all",
    )
    without_soak: Annotated[tuple[VersionStep, ...], AfterValidator(each_once)] = Field(
        (), exclude_if=not_, description="Version steps of which the releases do not soak, such as patch; default: none"
    )
    records: dict[Identifier, RecordMode] = Field(
        {},
        exclude_if=not_,
        description="Systems of systems.yaml that have a record of each release: mirror follows Interlock, and the "
        "approval of the change in an authority is required, too",
    )
    tickets: TicketDemands = Field(
        (),
        exclude_if=not_,  # as policies before it are on record
        description="What must hold of tickets when a release is planned. named: the release names one; exist: all are "
        "there; approved: all are; in_version: all belong to the version of the release. Default: nothing",
    )
    ticket_states: TicketStates = Field(
        (), exclude_if=not_, description="States that all tickets must be in, as their systems call them; default: any"
    )
    tickets_unread: UnreadTickets = Field(
        "refuse",
        exclude_if=lambda unread: unread == "refuse",
        description="If something is demanded of tickets, and their system does not answer: refuse the release, or "
        "mark the tickets, which ballots then show",
    )


class FlowTightening(Model):
    """What a lower level asks beyond a flow; what it leaves out stays as it is."""

    plan_approval_for_major: bool | None = Field(None, description="May only become true")
    plan_approval_from_risk: int | None = Field(None, ge=0, le=101, description="May only become lower")
    acceptance: bool | None = Field(None, description="May only become true")
    stopped_by: dict[Identifier, Severity] | None = Field(
        None, description="Environments, each with a severity; of two severities, the lower one applies"
    )
    cases: CaseDemand | None = Field(None, description="May only ask for more: affected, or all")
    board: Identifier | None = Field(
        None, description="May only be set if the level above has no board; otherwise use further_boards"
    )
    further_boards: Boards = Field((), description="Additional boards that vote on the rollout plan")
    exclude_authors: bool | None = Field(None, description="May only become true")
    review_within: Duration | None = Field(None, description="May only be set or become shorter")
    overtakes: ChangeTypes | None = Field(
        None, description="A subset of the change types of the level above; empty: none"
    )
    environments: Annotated[tuple[Identifier, ...], AfterValidator(each_once)] | None = Field(
        None, description="Environments in addition to those of the level above, if that names any"
    )
    without_soak: Annotated[tuple[VersionStep, ...], AfterValidator(each_once)] | None = Field(
        None, description="A subset of the version steps of the level above; empty: none"
    )
    records: dict[Identifier, RecordMode] | None = Field(
        None, description="Further systems; of two modes of one system, authority applies"
    )
    tickets: TicketDemands | None = Field(None, description="Demands in addition to those of the level above")
    ticket_states: TicketStates | None = Field(
        None, description="If the level above names states: a subset of them; otherwise any"
    )
    tickets_unread: UnreadTickets | None = Field(None, description="May only become refuse")


Tier = Literal["1", "2", "3", "4"]
TIERS: tuple[Tier, ...] = ("1", "2", "3", "4")
"""Tiers of services, the most important first."""


class RiskQuestion(Model):
    """A question of the trigger form: answering yes adds its points to the risk."""

    key: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
    question: Annotated[Line, Field(min_length=5, max_length=200)]
    points: int = Field(ge=1, le=100)
    title: Line | None = Field(None, description="Name of the risk factor; default: derived from the key")

    @property
    def name(self) -> str:
        """What the question's term is called."""
        return self.title or self.key.replace("_", " ").capitalize()


class RiskFormula(Model):
    """Risk from 0 to 100: points of the answers, the change, the service and its record, summed and capped.

    A declared risk counts if it is higher than the calculated one.
    """

    questions: tuple[RiskQuestion, ...] = ()
    points_per_commit: FiniteFloat = Field(
        1, ge=0, le=100, description="Points for each commit since the version that production runs"
    )
    max_points_for_commits: int = Field(20, ge=0, le=100)
    points_by_tier: dict[Tier, Annotated[int, Field(ge=0, le=100)]] = Field(
        {"1": 20, "2": 10, "3": 5, "4": 0}, description="Points for each tier of services; all four tiers are required"
    )
    points_for_major: int = Field(30, ge=0, le=100)
    points_per_failed_release: FiniteFloat = Field(
        5, ge=0, le=100, description="Points for each of the service's last releases that failed"
    )
    points_per_backed_out_release: FiniteFloat = Field(
        10, ge=0, le=100, description="Points for each of the service's last releases that was backed out"
    )
    over_last: int = Field(10, ge=0, le=1000, description="How many of the service's last releases count")
    max_points_for_record: int = Field(20, ge=0, le=100)
    declared: dict[RiskLevel, Annotated[int, Field(ge=0, le=100)]] = Field(
        {"low": 10, "medium": 50, "high": 80}, description="Risk value of each level that can be declared in the form"
    )

    @model_validator(mode="after")
    def _every_case_counts_once(self) -> Self:
        if twice := named_twice(question.key for question in self.questions):
            raise ValueError(f"questions: the key {twice} is used twice")
        if missing := [tier for tier in TIERS if tier not in self.points_by_tier]:
            raise ValueError(f"points_by_tier lacks tier {', '.join(missing)}")
        if unsaid := [level for level in ("low", "medium", "high") if level not in self.declared]:
            raise ValueError(f"declared lacks {', '.join(unsaid)}")
        return self


class TimeLimits(Model):
    """How long people have to answer; silence is never consent."""

    plan_approval: Duration = timedelta(days=3)
    acceptance: Duration = timedelta(days=3)
    acknowledgement: Duration = timedelta(days=3)
    record_approval: Duration = Field(
        timedelta(days=3),
        exclude_if=lambda limit: limit == timedelta(days=3),  # as policies before it are on record
        description="For the approval of a change in an authority, after the board decided",
    )


class TimeLimitsTightening(Model):
    """Shorter time limits of a lower level; omitted limits stay unchanged."""

    plan_approval: Duration | None = None
    acceptance: Duration | None = None
    acknowledgement: Duration | None = None
    record_approval: Duration | None = None


class WaiverRule(Model):
    """Who may waive failed expectations of one suite, and for how long."""

    roles: Roles = Field(description="Roles of people of board.yaml; empty: no waivers")
    longest: Duration = Field(timedelta(days=30), description="Maximum validity of a waiver")


class WaiverTightening(Model):
    """What a lower level asks beyond a rule on waivers: fewer roles, a shorter time."""

    roles: Roles | None = Field(None, description="A subset of the roles of the level above; empty: no waivers")
    longest: Duration | None = None


Isolation = Literal["required", "recorded"]
"""Whether a build that cannot be isolated is refused, or done and marked as such."""
Registries = Annotated[tuple[RegistryId, ...], AfterValidator(each_once)]
"""Some registries, each named once."""


class BuildRules(Model):
    """How builds and suites are kept apart from the platform, and what they may use."""

    isolation: Isolation = Field(
        "required",
        description="If a build cannot be isolated: required refuses it; recorded runs it without isolation, which "
        "provenance, quality report and ballots show",
    )
    registries: Registries = Field(
        (), description="Airflow connections of registries that services may name; empty: builds have no network"
    )
    memory_mib: int = Field(8192, ge=64, description="Maximum memory of a build with all its processes, in MiB")
    disk_mib: int = Field(16384, ge=16, description="Maximum disk space of a build including its checkout, in MiB")
    processes: int = Field(4096, ge=16, description="Maximum number of concurrent processes and threads of a build")


class BuildsTightening(Model):
    """What a lower level asks beyond the rules on builds: isolation, fewer registries."""

    isolation: Literal["required"] | None = None
    registries: Registries | None = Field(
        None, description="A subset of the registries of the level above; empty: none"
    )


class Tightening(Model):
    """What a business unit or a service asks beyond the levels above; it may only tighten."""

    thresholds: dict[str, FiniteFloat | int | list[str]] = Field({}, description="Keys of the enterprise's thresholds")
    coverage: Annotated[tuple[CoverageOf, ...], AfterValidator(each_once)] = Field(
        (), description="Additional coverage requirements, beyond the levels above"
    )
    unknown_components: Literal["refuse"] | None = None
    claims: Annotated[tuple[Claim, ...], AfterValidator(each_once)] = Field(
        (), description="Additional claims that are demanded of prebuilt artifacts, beyond the levels above"
    )
    change_types: dict[ChangeType, FlowTightening] = Field({}, description="Additional requirements of the flows")
    time_limits: TimeLimitsTightening = TimeLimitsTightening()
    board_rules: tuple[BoardRule, ...] = Field((), description="Additional rules on who votes, beyond board.yaml")
    waivers: dict[QualitySuite, WaiverTightening] = Field({}, description="Suites with stricter rules for waivers")
    builds: BuildsTightening = BuildsTightening()

    @model_validator(mode="after")
    def _no_rule_twice(self) -> Self:
        refuse_rules_twice(self.board_rules)
        return self


def _often_enough(value: timedelta) -> timedelta:
    if not timedelta(minutes=1) <= value <= timedelta(days=1):
        raise ValueError("must be from a minute to a day")
    return value


class Findings(Model):
    """Who is notified when a change seems to have bypassed the process, and how often Interlock checks."""

    notify: Annotated[tuple[UserName | Email, ...], AfterValidator(each_once)] = Field(
        (), description="People of board.yaml, or e-mail addresses"
    )
    every: Annotated[Duration, AfterValidator(_often_enough)] = Field(
        timedelta(minutes=5), description="Interval of the Dag reconcile: from one minute to one day"
    )


class StandardChange(Model):
    """A template of pre-authorised changes: a release that matches it needs no vote."""

    name: Identifier
    title: Line
    authorised_by: Line = Field(description="Who authorised the template, and when; recorded in the ledger")
    services: tuple[Identifier, ...] = Field((), description="Empty: all")
    tiers: tuple[Annotated[int, Field(ge=1, le=4)], ...] = Field((), description="Tiers of services; empty: all")
    steps: tuple[Literal["patch", "minor", "same", "rollback"], ...] = Field(
        min_length=1,
        description="Allowed version steps; same: the running version again; rollback: an earlier release",
    )
    risk_up_to: int = Field(ge=0, le=100)
    answered_no: tuple[str, ...] = Field(
        (),
        description="Keys of risk questions that must be answered with no; for a rollback: in all undone releases",
    )
    until: Day | None = Field(None, description="The last day (UTC); default: no end")

    @property
    def sentence(self) -> str:
        """The template and its authorisation, for the record."""
        return f"{self.name}: {self.title} (authorised by {self.authorised_by})"


class TrainRules(Model):
    """The rules for releases on trains, and for releases outside of them."""

    one_decision: ChangeTypes = Field(
        (ChangeType.STANDARD, ChangeType.NORMAL),
        description="Change types whose board votes once, on the manifest; others: on the plan of each passenger",
    )
    outside: ChangeTypes = Field(
        tuple(ChangeType),
        description="Change types that a service with a train may release outside of its trains",
    )


class Bookings(Model):
    """How environments are booked while releases change them."""

    second: Literal["wait", "refuse"] = Field(
        "wait", description="A second release of a service to an environment waits in the queue, or is refused"
    )
    longest: Duration = Field(
        timedelta(hours=6),
        description="Expected duration of a booking; each wave extends it. The release keeps it until it has ended",
    )


class PermitRules(Model):
    """What is demanded of production hosts, which verify permits themselves."""

    hosts_without_keys: Literal["mark", "refuse"] = Field(
        "mark",
        description="Hosts without the keys that verify permits: mark changes them and records it, refuse does not",
    )


class Policy(Model):
    """The release policy of the enterprise: ``policy.yaml``."""

    name: Line
    owner: Line = Field(description="Owner of this file, who is named in refusals")
    thresholds: Thresholds = Thresholds()
    coverage: dict[Tier, Annotated[tuple[CoverageOf, ...], AfterValidator(each_once)]] = Field(
        {},
        description="Required coverage of the services of each tier; empty: none; default for a tier: each_file",
    )
    unknown_components: Unread = Field(
        "tell", description="Parts of a bundle with unknown components: tell reports them, refuse refuses the release"
    )
    change_types: dict[ChangeType, Flow]
    risk: RiskFormula = RiskFormula()
    time_limits: TimeLimits = TimeLimits()
    waivers: dict[QualitySuite, WaiverRule] = Field(
        {}, description="Suites whose failures may be waived, and by which roles; other suites cannot be waived"
    )
    standard_changes: tuple[StandardChange, ...] = Field(
        (), description="Templates of standard changes; a standard change that matches none of them is refused"
    )
    business_units: dict[Identifier, Tightening] = Field(
        {}, description="Additional requirements of each business unit"
    )
    findings: Findings = Findings()
    trains: TrainRules = TrainRules()
    bookings: Bookings = Bookings()
    builds: BuildRules = BuildRules()
    permits: PermitRules = PermitRules()
    prebuilt: PrebuiltRules = PrebuiltRules()
    tickets: TicketRules = Field(
        TicketRules(),
        exclude_if=lambda tickets: tickets == TicketRules(),  # as policies before it are on record
        description="The systems that keep tickets, and which keys belong to which",
    )
    pipelines: dict[UserName, Annotated[tuple[Identifier, ...], AfterValidator(each_once)]] = Field(
        {}, description="Accounts of pipelines, and the services of which each may request releases"
    )
    chat: dict[Identifier, ChatRoom] = Field(
        {},
        exclude_if=not_,
        description="Chat rooms in which Interlock says what is asked of whom, and how releases end",
    )
    events: dict[Identifier, EventSource] = Field(
        {}, exclude_if=not_, description="Systems whose signed events may stop rollouts"
    )
    claims: dict[Tier, Annotated[tuple[Claim, ...], AfterValidator(each_once)]] = Field(
        {},
        description="What the pipelines of prebuilt artifacts must say of them, by the tier of the service; default "
        f"for a tier: {', '.join(USUAL_CLAIMS)}",
    )

    def demanded_of(self, tier: int) -> Demanded:
        """Return what is demanded of the services of a tier."""
        coverage = self.coverage.get(TIERS[tier - 1], Demanded().coverage)
        claims = self.claims.get(TIERS[tier - 1], USUAL_CLAIMS) if self.prebuilt.stores else ()
        return Demanded(
            coverage=tuple(sorted(coverage)),
            unknown_components=self.unknown_components,
            claims=tuple(sorted(claims)),
        )

    @model_validator(mode="after")
    def _templates_name_questions_that_there_are(self) -> Self:
        asked = {question.key for question in self.risk.questions}
        for template in self.standard_changes:
            if unknown := sorted(set(template.answered_no) - asked):
                raise ValueError(f"standard_changes: {template.name} names the question {', '.join(unknown)}, unknown")
        if twice := named_twice(template.name for template in self.standard_changes):
            raise ValueError(f"standard_changes: {twice} is named twice")
        return self

    @model_validator(mode="after")
    def _every_change_type_has_a_flow(self) -> Self:
        missing = [kind.value for kind in ChangeType if kind not in self.change_types]
        if missing:
            raise ValueError(f"change_types lacks {', '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _no_change_types_overtake_each_other(self) -> Self:
        for kind, flow in self.change_types.items():
            for other in flow.overtakes:
                if kind in self.change_types[other].overtakes:
                    raise ValueError(f"change_types: {kind} and {other} overtake each other; of two, one must wait")
        return self
