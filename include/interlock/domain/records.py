"""The record that each stage returns: frozen, small, plain JSON, with a schema number.

A record travels as its task's XCom through :meth:`Record.to_xcom` and :meth:`Record.from_xcom`. Files do not travel in
records: a record names them by URI and digest (:class:`Blob`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from operator import not_
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from interlock.domain.calendars.bookings import Entered

from .canonical import Later, Model, Sha256, sha256_of
from .catalogue import (
    Action,
    ChangeType,
    Demanded,
    Flow,
    RiskLevel,
    SignOff,
    StoreKind,
    Thresholds,
    TimeLimits,
    VersionStep,
    WaiverRule,
)
from .catalogue.values import Duration
from .permits.connections import ConnectionDigests
from .tickets.facts import Ticket

ReleaseOutcome = Literal[
    "deployed", "rehearsed", "rejected", "expired", "withdrawn", "overtaken", "backed_out", "failed"
]
"""How a release can end."""
StepDirection = Literal["forward", "back"]
"""A step of a runbook is done, or taken back."""


class Record(Model):
    """Base of what stages hand on."""

    schema_version: Literal[1] = 1

    def to_xcom(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        return self.model_dump(mode="json")

    @classmethod
    def from_xcom(cls, value: Any) -> Self:
        """Read a record back; pydantic's ValidationError if it was tampered with or is of another version."""
        return cls.model_validate(value)


class Blob(Model):
    """Bytes in the artifact store."""

    uri: str
    sha256: Sha256
    size: int = Field(ge=0, description="Bytes")


class Commit(Model):
    """A commit of the service's repository."""

    sha: str = Field(pattern=r"^[0-9a-f]{40}$")
    author: str
    email: str
    at: datetime
    subject: str


Rules = dict[str, dict[str, Any]]
"""File of the catalogue: key: value, as plain JSON."""


class PathStep(Model):
    """An environment between test and production, and what must hold there."""

    environment: str
    after: tuple[str, ...]
    soak: Duration | None = None
    sign_off: SignOff | None = None


class PolicyInForce(Record):
    """Stage 1: the policy for this release, after every tightening."""

    change_type: ChangeType
    flow: Flow
    thresholds: Thresholds
    demanded: Demanded = Demanded()
    time_limits: TimeLimits = TimeLimits()
    waivers: dict[str, WaiverRule] = Field({}, description="Suite: who may waive its failures, and for how long")
    sources: dict[str, str] = Field(description="Threshold: the place whose value counts")
    further_sources: dict[str, str] = Field(
        {}, description="Any other value, such as change_types.normal.acceptance: the place whose value counts"
    )
    path: Later[tuple[PathStep, ...]] = Field(
        None, description="The environments between test and production, in their order; none: there are none"
    )
    digest: Sha256 = Field(description="Of the rules; of an older release: of the files that concern its service")
    rules: Later[Rules] = Field(None, description="What the catalogue says about this release: domain/change/effective")
    commit: Later[str] = Field(
        None, description="Of the catalogue's repository, when the release began; none: it has none"
    )
    may_waive: Later[dict[str, tuple[str, ...]]] = Field(
        None, description="Suite: users who may waive its failures in this release; none: whoever has the role"
    )
    on_train: tuple[str, ...] = Field(
        (), exclude_if=not_, description="Systems that have a change of its train, and so none of this release"
    )


class RiskTerm(Model):
    """One term of the calculated risk."""

    name: str
    points: float
    why: str


class Risk(Model):
    """Risk from 0 to 100, with its terms."""

    score: int = Field(ge=0, le=100)
    terms: tuple[RiskTerm, ...]
    calculated: int | None = Field(None, ge=0, le=100, description="By the formula, before a declared risk counted")
    declared: RiskLevel | None = Field(None, description="What the release manager declared; the higher one counts")


class PastRelease(Model):
    """A release of a service that has ended."""

    service: str
    run: str = Field(description="Its run, which names it")
    version: str = ""
    change_type: ChangeType
    outcome: ReleaseOutcome
    at: datetime = Field(description="When it ended")
    planned: bool = Field(True, description="It got a plan; a request that was refused before has none")
    reviewed: bool = Field(False, description="Its post-implementation review was held")


class Waiver(Record):
    """A failed expectation that a person accepted; the failure stays on record."""

    expectation: str = Field(min_length=1, description="The expectation, with the exact words of the report")
    suite: str
    reason: str = Field(min_length=1, max_length=4000)
    by: str = Field(description="User name of who gave it")
    at: datetime
    until: datetime = Field(description="From then on it does not count")
    environment: Later[str] = Field(None, description="Where it failed; none: on test")

    def covers(self, failure: FailedExpectation, now: datetime) -> bool:
        """Tell whether this waiver covers a failure and is still in force."""
        same = (self.suite, self.expectation) == (failure.suite, failure.expected)
        return same and self.at <= now < self.until


class RunningRelease(Model):
    """The release that one host reports."""

    host: str
    release: str | None = Field(description="<version>-<digest's first 12 digits>; none: nothing yet")
    version: str | None = None
    commit: str | None = None


class ReleasePlan(Record):
    """Stage 2: what changes, where, when, and how risky it is."""

    service: str
    version: str
    ref: str
    commit: Commit
    bump: VersionStep
    change_type: ChangeType
    summary: str
    tickets: tuple[str, ...]
    requested_by: str
    target: str = Field(description="The environment that implementation changes: production, or test in a rehearsal")
    rehearsal: bool
    not_before: datetime | None
    running: tuple[RunningRelease, ...] = Field(description="What the target's hosts ran when the release was planned")
    previous_version: str | None
    previous_commit: str | None
    commits: tuple[Commit, ...] = Field(description="Since what the target runs; newest first; at most 200")
    commit_count: int
    authors: tuple[str, ...] = Field((), description="E-mail addresses of who wrote any of the commits, of all of them")
    risk: Risk
    template: str | None = Field(None, description="Of a standard change: the template that it is like")
    plan_approval: bool = Field(description="Whether senior management must approve this plan")
    artifact: Later[Sha256] = Field(None, description="Digest of the artifact that another pipeline built; none: ours")
    ticket_details: Later[tuple[Ticket, ...]] = Field(
        None, description="What was read of its tickets; none: no system keeps tickets of the service"
    )

    @property
    def wrote(self) -> tuple[str, ...]:
        """The e-mail addresses of the authors; of a plan that does not name them, those of its commits."""
        return self.authors or tuple(commit.email for commit in self.commits)


class Host(Model):
    """A host of an environment: an EC2 instance and where it answers."""

    instance_id: str
    name: str
    address: str
    zone: str


class AssetReport(Record):
    """Stage 3: what the release needs, and that it is there."""

    hosts: dict[str, tuple[Host, ...]] = Field(description="Environment: its hosts, in the order of their names")
    target_groups: dict[str, str] = Field(description="Environment: ARN of its target group")
    tools: dict[str, str] = Field(description="Build tool: its version")
    started: tuple[str, ...] = Field((), description="Instances that were stopped and have been started")
    created: tuple[str, ...] = Field((), description="Instances that were missing and have been created")
    switches: dict[str, Switch] = Field({}, description="Environment with two fleets: which one has the traffic")
    canary_groups: tuple[str, ...] = Field((), description="ARNs of the target groups of canary and baseline")
    lacking: Later[tuple[str, ...]] = Field(
        None, description="In a rehearsal: what a release would not find in production; none: it was not looked at"
    )


class BuildEnvironment(Model):
    """Where a build or a suite ran, and what it could reach from there."""

    isolated: bool
    how: str = Field(description="How it was isolated from the platform, or why it was not")
    reaches: tuple[str, ...] = Field((), description="Places on the network that were open to it")


class VerifiedClaim(Model):
    """One thing that a pipeline says of its artifact: what it has to be, and what was found."""

    claim: str
    expected: str
    found: str
    holds: bool


class Origin(Model):
    """Where an artifact was taken from that another pipeline built, and what was verified of what it says."""

    store: StoreKind
    uri: str = Field(description="From where it was taken; never with a login")
    sha256: Sha256 = Field(description="The digest that was requested")
    original: Blob = Field(description="The bytes as they came; the bundle is packed anew from them")
    statements: tuple[Blob, ...] = Field((), description="What the pipeline signed, as it came")
    signed_by: tuple[str, ...] = Field((), description="Pinned keys and identities whose statements count")
    claims: tuple[VerifiedClaim, ...]


class Artifact(Record):
    """Stage 4: one immutable bundle, and the proof of its origin."""

    service: str
    version: str
    commit: str
    bundle: Blob
    bom: Blob = Field(description="CycloneDX 1.6 JSON")
    provenance: Blob = Field(description="SLSA provenance v1 in a DSSE envelope")
    tests: Blob = Field(description="JUnit results as rows: see adapters.reports")
    coverage: Blob | None = Field(None, description="Coverage as rows: see adapters.reports")
    log: Blob = Field(description="What the build tool printed")
    tool: str
    seconds: float
    surroundings: Later[BuildEnvironment] = Field(
        None, description="Where it was built; none: an older release, unknown"
    )
    origin: Later[Origin] = Field(None, description="Of an artifact that another pipeline built; none: built here")

    @property
    def release(self) -> str:
        """The release's name on a host: ``<version>-<digest's first 12 digits>``."""
        return release_name(self.version, self.bundle.sha256)


def release_name(version: str, sha256: str) -> str:
    """Return the folder name of a release on a host."""
    return f"{version}-{sha256[:12]}"


class HostResult(Model):
    """The result of one host."""

    host: str
    instance_id: str
    outcome: Literal["deployed", "unchanged", "backed_out", "failed", "untouched"]
    before: str | None = Field(description="The release that ran before")
    after: str | None = Field(description="The release that the host says it runs now")
    seconds: float
    error: str = ""
    steps: tuple[tuple[str, float], ...] = Field((), description="Step: seconds")
    sent: int = Field(0, description="Bytes of the release that were sent to the host")
    warnings: tuple[str, ...] = Field(
        (), exclude_if=not_, description="What went wrong and did not matter to the outcome"
    )
    may_pass: bool = Field(
        False, exclude_if=not_, description="The host or the load balancer did not answer: it may do so later"
    )
    held_back: bool = Field(
        False, exclude_if=not_, description="The host did not fail: no permit, an emergency stop or a freeze"
    )


class TestDeployment(Record):
    """Stage 5, first half: the bundle on the test environment."""

    __test__: ClassVar[bool] = False  # pytest is not to take it for tests

    environment: str
    results: tuple[HostResult, ...]
    base_urls: tuple[str, ...]

    @classmethod
    def nowhere(cls, environment: str) -> Self:
        """Return the deployment to an environment that has no hosts."""
        return cls(environment=environment, results=(), base_urls=())


class SuiteRuns(Record):
    """Stage 5: what the service's own suites found on the test environment."""

    tests: Blob = Field(description="JUnit results of every suite as rows: see adapters.reports")
    logs: dict[str, Blob] = Field(description="Suite: what it printed")
    surroundings: Later[dict[str, BuildEnvironment]] = Field(
        None, description="Suite: where it ran; none: an older release, unknown"
    )
    environment: Later[str] = Field(None, description="Against which environment they ran; none: test")
    data: Later[Blob] = Field(
        None, description="What the command that prepares the test data printed; none: the environment has none"
    )


class CaseRuns(Record):
    """Stage 5: what came of the test cases that people had to run in one environment."""

    environment: str
    artifact: Sha256 = Field(description="SHA-256 of the bundle on which they were run")
    rows: Blob = Field(description="The cases that must be run with their results: rows of domain/testing/results.py")
    counts: dict[str, int] = Field(description="Result: number of cases; not_run: cases without a result")
    left_out: int = Field(0, ge=0, description="Number of cases that need not be run")
    unproven: tuple[str, ...] = Field((), description="Tickets of the release that no case proves that must be run")

    @property
    def demanded(self) -> int:
        """Number of cases that must be run."""
        return sum(self.counts.values())


class DefectLine(Model):
    """A defect of the service, as a release finds it."""

    id: str
    title: str
    severity: str
    environment: str = Field(description="Where it was found")
    version: str = Field(description="In which it was found")
    state: Literal["fixed", "new", "open", "accepted"] = Field(
        description="The release fixes it, or brings it along; or it is open from before, or accepted as known"
    )
    until: Later[datetime] = Field(None, description="When it is accepted: until then")
    stops: str = Field(
        "",
        exclude_if=not_,
        description="Why it stops the release; if it is accepted: when the acceptance has ended; empty: it does not",
    )
    failed: bool = Field(False, exclude_if=not_, description="Whether its test case failed with it in this release")


class FailedExpectation(Model):
    """An expectation that failed, with the rows that broke it."""

    suite: str
    expectation: str
    column: str | None
    expected: str
    rows: tuple[str, ...] = Field(description="The first rows that broke it, each by name; at most 20")
    row_count: int


class SuiteResult(Model):
    """One suite's judgement."""

    suite: str
    success: bool
    evaluated: int
    failed: int


def _broken_by(failure: FailedExpectation) -> str:
    return f"; broken by {', '.join(failure.rows)}" if failure.rows else ""


class QualityReport(Record):
    """Stage 5: what Great Expectations said."""

    success: bool
    suites: tuple[SuiteResult, ...]
    failures: tuple[FailedExpectation, ...]
    results: Blob = Field(description="The validation results, whole, as JSON")
    docs: str = Field(description="URI of the data docs' index page in the artifact store")
    not_isolated: Later[tuple[str, ...]] = Field(
        None, description="The build and the suites that ran beside the platform, and why; none: all were isolated"
    )
    notes: tuple[str, ...] = Field((), exclude_if=not_, description="What is not known, and so was not judged")
    cases: Later[CaseRuns] = Field(
        None, description="The test cases that people ran; none: the service has no test cases"
    )
    defects: Later[tuple[DefectLine, ...]] = Field(
        None, description="What the release fixes, what it brings along, and what is open from before"
    )
    environment: Later[str] = Field(None, description="Of which environment; none: of test")

    def reason(self) -> str:
        """Describe in one paragraph which rows failed which expectation."""
        lines = [
            f"{failure.suite}: {failure.expected}{_broken_by(failure)}"
            + (f" and {failure.row_count - len(failure.rows)} more" if failure.row_count > len(failure.rows) else "")
            for failure in self.failures
        ]
        return "; ".join(lines)


class Vote(Model):
    """One answered human request, from Airflow's own record of it."""

    user: str | None = Field(description="User name of the person who answered; none: no answer")
    assigned: str = Field(description="Whose ballot it was")
    choice: str
    comment: str = ""
    conditions: str = Field("", description="On what the answer depends, in the voter's words")
    evidence: str = Field(
        "", exclude_if=not_, description="Of a test case: the address or the text of what shows the result"
    )
    step: str = Field("", exclude_if=not_, description="Of a test case that failed: the number of the step")
    defect: str = Field("", exclude_if=not_, description="Of a test case that failed: the open defect that it shows")
    at: datetime | None = None


class Decision(Record):
    """What people decided: of a plan, an acceptance or a board; or of a change in another system (record)."""

    subject: Literal["plan", "acceptance", "sign_off", "board", "record", "canary", "failure"]
    digest: Sha256 = Field(description="Of what was decided on")
    approved: bool
    required: bool = Field(description="False: the policy requires no answer")
    expired: bool = Field(False, description="Not approved because too few answered in time")
    vetoed_by: tuple[str, ...] = Field(
        (),
        description="User names of who rejected with a veto: their rejection alone decided",
        exclude_if=lambda users: not users,  # as decisions before it are on record
    )
    reason: str
    votes: tuple[Vote, ...] = ()


class SoakReport(Record):
    """How long a release ran in an environment, unchanged, before it went on."""

    environment: str
    release: str
    since: datetime
    until: datetime
    hosts: tuple[str, ...] = Field(description="Addresses: every host ran the release at the end")


class EnvironmentTested(Record):
    """What the tests of a release in an environment came to. A sign-off is bound to the digest of this record."""

    environment: str
    service: str
    version: str
    release: str = Field(description="What every host ran when the tests were over")
    bundle: Sha256
    quality: Sha256 = Field(description="Digest of the quality report of the environment")
    waivers: tuple[Waiver, ...] = ()
    soak: Later[SoakReport] = None
    requested_by: str
    excluded: tuple[str, ...] = Field((), description="Who else does not sign it off: the authors")
    decide_by: datetime | None = Field(description="Until when it is signed off; none: nobody is asked")

    @property
    def digest(self) -> str:
        """SHA-256 of the record's canonical JSON: what a ballot of the sign-off names."""
        return sha256_of(self)


class EnvironmentPassed(Record):
    """How a release passed an environment between test and production, or why it went past it."""

    environment: str
    left_out: Later[str] = Field(None, description="Why a release like this does not go there; none: it did")
    tested: Later[Sha256] = Field(None, description="Digest of what the tests came to")
    quality: Later[Sha256] = Field(None, description="Digest of the quality report")
    waivers: tuple[Waiver, ...] = Field((), exclude_if=not_)
    signed_off: Later[str] = Field(None, description="Who signed it off, in words; none: nobody was asked")
    soaked: Later[Duration] = Field(None, description="For how long the release ran there; none: it was not asked")
    cases: Later[CaseRuns] = Field(None, description="The test cases that people ran there; as the quality report")
    defects: tuple[DefectLine, ...] = Field((), exclude_if=not_, description="As the quality report has them")


class BackOutPlan(Model):
    """How the release is taken back, proven to be possible when the plan was frozen."""

    releases: dict[str, str | None] = Field(
        description="Host's address: the release it goes back to; none: it is emptied"
    )
    versions: dict[str, str | None] = Field(description="Host's address: that release's version")
    on_hosts: bool = Field(description="Every host still has the release it goes back to")


class Strategy(Model):
    """How the hosts of a wave are changed, in numbers of hosts."""

    window: int = Field(ge=1, description="So many at a time; as one is done, the next begins")
    max_failed: int = Field(ge=0, description="So many of the whole rollout may fail")
    min_healthy: int = Field(ge=0, description="So many of the fleet stay in service")
    by_zone: bool = Field(description="One availability zone at a time")
    zones_healthy: Later[dict[str, int]] = Field(
        None, description="Availability zone: so many of its hosts stay in service; none: no zone has a floor"
    )


class CanaryPlan(Model):
    """How the first wave is tried before the others, in numbers."""

    baseline: tuple[Host, ...] = Field(description="Hosts of the old version that are restarted, to compare with")
    bake_seconds: int
    requests: int = Field(description="That each host must have answered")
    percent: int | None = Field(None, description="Share of the traffic, and as much for the baseline")
    canary_group: str | None = Field(None, description="ARN of its target group; with a share of the traffic")
    baseline_group: str | None = None
    question: dict[str, Any] = Field(description="What is measured, and how it is judged: Question in domain/canary")
    metrics_path: str | None = None
    marginal: Literal["ask", "fail"]
    answer_within: timedelta


class Switch(Model):
    """Two fleets behind one load balancer: all traffic goes from one to the other at once."""

    live: str = Field(description="ARN of the target group that has the traffic")
    idle: str = Field(description="ARN of the one that the release goes to, and that gets it")
    live_hosts: tuple[Host, ...]
    keep: timedelta = Field(description="For so long the fleet that had the traffic stays as it is")


class GuidancePlan(Model):
    """How the release manager is asked about hosts that failed."""

    answer_within: timedelta
    unanswered: Literal["exclude", "back_out"]


class RollBack(Model):
    """The way back to what an environment ran before."""

    chain: str = Field(description="The chain of the release that brought it there")
    closed: Sha256 = Field(description="Hash of the entry that closed that release")
    template: str = Field(description="The template of standard_changes that the rollback is like")


class TrainTicket(Model):
    """The train that a release is a passenger of: the board decided on the train's manifest."""

    chain: str = Field(description="The train's chain in the ledger")
    manifest: Sha256 = Field(description="Digest of the manifest that was frozen")


class PlannedStep(Model):
    """A step of the runbook, as the board decides on it."""

    number: int = Field(ge=1, description="Counted from 1, in the order in which they are done")
    name: str
    title: str
    when: str = Field(description="before, after_wave_<number> or after")
    needs: tuple[str, ...] = ()
    estimate: timedelta
    do: Action
    way_back: Action | None = Field(description="What takes it back; none: it cannot be taken back")
    host: Later[Host] = Field(None, description="Of a command: the host that runs it")
    pinned: Later[dict[StepDirection, dict[str, str]]] = Field(
        None, description="Of what Airflow or AWS does: what it was when the plan was frozen, such as its digest"
    )
    works_from: Later[str] = Field(None, description="The oldest version that works after it; none: all do")
    migrates: Later[str] = Field(None, description="The database that it changes; none: none")
    left_out: str = Field("", exclude_if=not_, description="Why it is not done in this release; empty: it is done")

    @property
    def is_irreversible(self) -> bool:
        """Whether the release cannot be taken back as a whole because of it."""
        return self.way_back is None and not self.left_out and self.do.snapshot is None

    def action(self, direction: StepDirection) -> Action | None:
        """Return what is done in a direction; None: nothing."""
        return self.do if direction == "forward" else self.way_back


class RehearsedVersion(Model):
    """A version that production runs, and that works on the schema after a change."""

    release: str = Field(description="Its name on a host")
    version: str
    smoked: int = Field(ge=0, description="Smoke requests that were answered as expected")
    tests: int = Field(ge=0, description="Tests of its suites that passed")
    rows: Blob = Field(description="Their results as rows: see adapters.reports")


class RehearsedTable(Model):
    """A table of a restored copy, before and after the changes."""

    database: str
    table: str
    before: int = Field(ge=0, description="Rows of the restored copy")
    after: int | None = Field(description="Rows at the end, with those that the suites wrote; none: it was taken away")


class MigrationRehearsal(Record):
    """Stage 5: the database changes of a release, done on a restored copy, taken back, and done again."""

    environment: str
    bundle: Sha256 = Field(description="Of the release, whose programs ran")
    steps: Sha256 = Field(description="Digest of the steps that change databases")
    before: tuple[RehearsedVersion, ...] = Field(description="What production runs; nothing: it runs nothing yet")
    tables: tuple[RehearsedTable, ...]
    notes: tuple[str, ...] = Field((), exclude_if=not_, description="What they changed beyond adding something")
    seconds: dict[str, float] = Field(description="What was done, in its order: how long it took")


class RolloutPlan(Record):
    """Stage 7: everything the board decides on; its digest names it."""

    service: str
    version: str
    commit: str
    change_type: ChangeType
    environment: str
    environments: Later[tuple[EnvironmentPassed, ...]] = Field(
        None, description="The environments between test and production, and how the release passed each; none: none"
    )
    rehearsal: bool
    summary: str
    tickets: tuple[str, ...]
    requested_by: str
    excluded: tuple[str, ...] = Field((), description="Who else had a hand in it and does not vote: the authors")
    risk: int
    bundle: Blob
    waves: tuple[tuple[Host, ...], ...]
    target_group: str | None
    not_before: datetime | None
    decide_by: datetime | None = Field(
        description="Time after which a missing answer is a rejection; none: no vote is required"
    )
    back_out: BackOutPlan
    policy_digest: Sha256
    quality_digest: Sha256
    acceptance_digest: Sha256
    waivers: tuple[Waiver, ...] = Field((), description="Of failed expectations; the board decides knowing them")
    strategy: Later[Strategy] = Field(None, description="How the hosts of a wave are changed; none: all at a time")
    rolls_back: Later[RollBack] = Field(None, description="Of a rollback: the release that it goes back to")
    train: Later[TrainTicket] = Field(None, description="Of a passenger: the train on which the board decided")
    canary: Later[CanaryPlan] = Field(None, description="The first wave is a canary; none: it is not")
    switch: Later[Switch] = Field(None, description="The hosts are the idle fleet, which gets the traffic; none: no")
    guidance: Later[GuidancePlan] = Field(None, description="A host that fails is asked about; none: it is not")
    connections: Later[ConnectionDigests] = Field(
        None, description="What the connections of the release were then; none: it was not recorded yet"
    )
    artifact: Later[Sha256] = Field(None, description="Digest of the artifact that another pipeline built; none: ours")
    runbook: Later[tuple[PlannedStep, ...]] = Field(
        None, description="The steps around the waves; none: there are none"
    )
    migrations: Later[MigrationRehearsal] = Field(
        None, description="How its database changes were rehearsed; none: it has none"
    )
    ticket_details: Later[tuple[Ticket, ...]] = Field(
        None, description="What was read of its tickets at planning; none: no system keeps tickets of the service"
    )

    @property
    def steps(self) -> tuple[PlannedStep, ...]:
        """The steps of the runbook, in their order."""
        return self.runbook or ()

    @property
    def irreversible(self) -> tuple[PlannedStep, ...]:
        """The steps that cannot be taken back."""
        return tuple(step for step in self.steps if step.is_irreversible)

    @property
    def digest(self) -> str:
        """SHA-256 of the plan's canonical JSON: what a ballot names."""
        return sha256_of(self)

    @property
    def release(self) -> str:
        """The release's name on a host."""
        return release_name(self.version, self.bundle.sha256)

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Every host, in the order in which it is changed."""
        return tuple(host for wave in self.waves for host in wave)


class Communication(Record):
    """Stage 8: who was notified of what."""

    notes: Blob = Field(description="The release notes, Markdown")
    sent: dict[str, tuple[str, ...]] = Field(description="Audience: the addresses its message went to")
    acknowledged: dict[str, str] = Field(description="Support role: who acknowledged the training material")


class LoadResult(Model):
    """What a synthetic load measured of one path of one host."""

    host: str
    path: str
    requests: int
    errors: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    failures: dict[str, int] = Field(
        {}, exclude_if=not_, description="What failed requests met, such as a status: how many"
    )

    @property
    def error_percent(self) -> float:
        """Share of failed requests, percent."""
        return 100 * self.errors / self.requests if self.requests else 0.0


class LoadReport(Record):
    """A synthetic load over an environment."""

    moment: Literal["test", "before", "after"] = Field(description="On test, or on the target before or after")
    results: tuple[LoadResult, ...]
    seconds: float
    environment: Later[str] = Field(None, description="Of a test: in which environment; none: on test, or the target")


class WaveReport(Record):
    """Stage 9: one wave."""

    number: int
    of: int
    release: str
    results: tuple[HostResult, ...]


class StepIntent(Record):
    """Stage 9: a step of the runbook is about to be done, or taken back; it is on record before it begins."""

    number: int = Field(ge=1)
    name: str
    direction: StepDirection
    id: str = Field(description="Names the step wherever it leaves a trace: the same in every try")
    plan: Sha256 = Field(description="Digest of the frozen rollout plan")
    action: Sha256 = Field(description="Digest of what is done")
    entered: Later[Entered] = None


class StepReport(Record):
    """Stage 9: how a step of the runbook ended."""

    number: int = Field(ge=1)
    name: str
    title: str
    direction: StepDirection
    id: str = Field(description="As in the entry that it began with; empty: it was not begun")
    outcome: Literal["done", "failed", "left_out"]
    estimate: timedelta = Field(description="How long it was planned to take")
    began_at: datetime | None = None
    ended_at: datetime | None = None
    by: str = Field("", description="Of a manual step: user name of the person who answered")
    evidence: str = Field("", max_length=4000, description="What was said or found: a comment, or the end of an output")
    reason: str = Field("", description="Why it failed, or was left out")
    entered: Later[Entered] = None

    @property
    def seconds(self) -> float | None:
        """How long it took."""
        return (self.ended_at - self.began_at).total_seconds() if self.began_at and self.ended_at else None


class SmokeResult(Model):
    """One smoke request to one host."""

    host: str
    path: str
    expected: str
    found: str
    passed: bool


class SmokeReport(Record):
    """Stage 10, first half: how each host answered its smoke requests."""

    results: tuple[SmokeResult, ...]


class VerificationReport(Record):
    """Stage 10: how production behaves now."""

    success: bool
    smoke: tuple[SmokeResult, ...]
    before: tuple[LoadResult, ...]
    after: tuple[LoadResult, ...]
    failures: tuple[FailedExpectation, ...]
    docs: str

    def reason(self) -> str:
        """Describe the problems in production in one paragraph."""
        return "; ".join(f"{failure.suite}: {failure.expected}{_broken_by(failure)}" for failure in self.failures)


class BackOutReport(Record):
    """What it took to go back."""

    because: str
    results: tuple[HostResult, ...]
    verified: bool = Field(description="Every host answers with the version it was to go back to")
    entered: Later[Entered] = None


class Outcome(Record):
    """Closure: how the release ended, and which stage decided it."""

    outcome: ReleaseOutcome
    stage: str
    reason: str
    service: str
    version: str
    running: dict[str, str | None] = Field(
        {}, description="Host: the version it answers with, when production was touched"
    )
