"""The vocabulary of the ledger: every kind of entry, defined once.

A constant such as :data:`RELEASE_CLOSED` is the kind as entries have it. :data:`KINDS` says of each kind what it means,
which record is its payload, which task leaves it, and what the chain's rules say of it. All lists of kinds are made of
this table. The verifier and the console have copies, which ``python -m interlock.adapters.ledger.vocabulary`` writes.

A kind is never renamed and never removed: chains that exist have it. This module imports nothing of Interlock, so
that each module may import it; records are named as text, and ``adapters/ledger/vocabulary.py`` loads them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

Ending = Literal["end", "failure", "deployment"]
"""What an entry may follow: the end of any chain, of a failed release, or of a deployed release."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What one kind of entry means.

    :param name: the kind, as entries have it.
    :param title: for people, such as in the timeline of an evidence pack.
    :param description: what the entry records, for auditors.
    :param record: the payload, as module and class below ``interlock.domain``; empty: no record describes it.
    :param within: the field of the payload that holds the record; empty: the payload itself is the record.
    :param beside: fields that the payload has beside those of the record.
    :param tasks: the tasks that leave it before they succeed, a release's own task first.
    :param permit: the purpose of the permit under which it happens; empty: it changes neither hosts nor traffic.
    :param seals: the head of its chain must be signed after it. The heads of others may be signed, too.
    :param ends: the chain of a release or a train ends with it.
    :param follows: the ends after which it may still come.
    :param decides: people decided something, and their votes are counted again.
    :param several: a release has several that hold; of all others, the last one holds.
    :param each: a field of the payload: of each value of it, the last entry holds.
    :param any_clock: it is taken although the clock is behind the chain; it has the time of the entry before it.
    :param api_server: only Airflow's API server may append it.
    """

    name: str
    title: str
    description: str
    record: str = ""
    within: str = ""
    beside: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    permit: str = ""
    seals: bool = False
    ends: bool = False
    follows: tuple[Ending, ...] = ()
    decides: bool = False
    several: bool = False
    each: str = ""
    any_clock: bool = False
    api_server: bool = False

    @property
    def constant(self) -> str:
        """The name of the constant in this module."""
        return self.name.upper().replace(".", "_")


_table: dict[str, Kind] = {}


def _kind(name: str, title: str, description: str, **more: Any) -> str:
    """Add a kind to the table, and return it."""
    _table[name] = Kind(name, title, description, **more)
    return name


FINDING = _kind(
    "finding",
    "Finding",
    "A record contradicts the ledger, or a task got an input that no task left. A release with a finding gets no "
    "permit.",
    follows=("end",),
)
FINDING_TOLD = _kind("finding.told", "Finding reported", "The people whom the policy names were notified of a finding.")
FINDING_SETTLED = _kind(
    "finding.settled",
    "Finding settled",
    "The record that an authority lacked of an emergency change is there now. The finding stays in the ledger.",
)
BASELINE_SEEN = _kind(
    "baseline.seen",
    "Host seen for the first time",
    "What a host ran when it was first inspected, before any release changed it. It is not a finding.",
)
CLOCK_CORRECTED = _kind(
    "clock.corrected",
    "Clock corrected",
    "A person states that the clock of an earlier entry was wrong, and why. It alone may be earlier than the entry "
    "before it.",
    follows=("end",),
)

RUN_ASKED = _kind(
    "run.asked",
    "Run requested",
    "A person triggered a run of a Dag under release control at Airflow's API, with the form that the digest names.",
    record="ledger.witness:AskedRun",
    beside=("envelope",),
    follows=("end",),
    any_clock=True,
    api_server=True,
)
ANSWER_GIVEN = _kind(
    "answer.given",
    "Answer given",
    "A person answered a question at Airflow's API.",
    record="ledger.witness:GivenAnswer",
    beside=("envelope",),
    follows=("end",),
    api_server=True,
)
ATTEMPT_REFUSED = _kind(
    "attempt.refused",
    "Attempt refused",
    "The guard refused a change to a release, a task or a connection. Attempts of one kind within a minute are one "
    "entry.",
    api_server=True,
)
BREAK_GLASS_USED = _kind(
    "break_glass.used",
    "Break-glass access used",
    "A person with emergency access changed something that the guard would have refused. It is a finding, too.",
    api_server=True,
)
QUESTION_MAILED = _kind(
    "question.mailed",
    "People asked by e-mail",
    "Who was sent a mail with a link to a question when it was asked.",
)
INCIDENT_TOLD = _kind(
    "incident.told",
    "People told of an incident",
    "Who was sent a mail about an incident of another system that opened after they were asked about the release.",
)
CHAT_SAID = _kind(
    "chat.said",
    "Said in chat",
    "A message about a release, or about the installation, was sent to a chat room, in which thread.",
    follows=("end",),
)
CHAT_FAILED = _kind(
    "chat.failed",
    "Not said in chat",
    "A message could not be sent to a chat room, and why. The release goes on; mails are sent all the same.",
    follows=("end",),
)
EVENT_COUNTED = _kind(
    "event.counted",
    "Event of another system counted",
    "A signed webhook of a system that policy.yaml names under events declared an emergency stop.",
    record="ledger.events:CountedEvent",
)
INCIDENT_SEEN = _kind(
    "incident.seen",
    "Incident of another system",
    "A signed webhook of a system that policy.yaml names under events opened or ended an incident, which those who "
    "decide on releases are shown.",
    record="ledger.events:IncidentSeen",
)
QUESTION_WORDED = _kind(
    "question.worded",
    "Question worded",
    "The digests of the questions that a task is about to ask, signed with the installation's key.",
)

PERMIT_ISSUED = _kind(
    "permit.issued",
    "Permit issued",
    "A signed permit to connect to some hosts, for one purpose, once, within 15 minutes.",
    record="permits.permit:Permit",
    within="permit",
    beside=("envelope",),
    follows=("failure", "deployment"),
)
PERMIT_USED = _kind(
    "permit.used",
    "Permit used",
    "A permit was used. It cannot be used again.",
    record="permits.permit:Permit",
    within="permit",
    follows=("failure", "deployment"),
)
PERMIT_REFUSED = _kind(
    "permit.refused", "Permit refused", "A permit was refused. The payload has every reason against it."
)

RELEASE_REQUESTED = _kind(
    "release.requested",
    "Release requested",
    "What a person, or the conductor of a train, requested with the form of a release or a rollback.",
)
RELEASE_WITHDRAWN = _kind(
    "release.withdrawn",
    "Release withdrawn",
    "The requester or a release manager ended the release, with a reason. It counts if it comes before a verification "
    "that succeeded: the release then gets no permit, and what it changed is backed out.",
    record="permits.withdrawal:Withdrawal",
)
RELEASE_OVERTAKEN = _kind(
    "release.overtaken",
    "Release overtaken",
    "Another release of the service went first, by the policy of its change type. It counts if no permit to change "
    "anything comes before it: the release then gets no permit and ends. It has to be requested again.",
    record="permits.overtaking:Overtaking",
)
POLICY_RESOLVED = _kind(
    "policy.resolved",
    "Policy resolved",
    "The policy in force for this release, after every tightening, with the digest of the catalogue.",
    record="records:PolicyInForce",
    tasks=("policy.resolve_policy", "policy.resolve_rollback"),
)
RULES_AMENDED = _kind(
    "rules.amended",
    "Rules amended",
    "The release saw a version of the catalogue with other rules for it than those with which it began. What tightens "
    "them is asked of it, what loosens them does not help it, and everything else makes it void.",
    record="change.amended:Amended",
)
PLAN_MADE = _kind(
    "plan.made",
    "Release planned",
    "What changes, where, when, and with which risk.",
    record="records:ReleasePlan",
    tasks=("planning.plan_release", "planning.plan_rollback"),
)
CONFLICTS_FOUND = _kind(
    "conflicts.found",
    "Scheduling conflicts",
    "The scheduling conflicts of the release or the train. A conflict does not stop a release.",
)
ROLLBACK_PROVEN = _kind(
    "rollback.proven",
    "Rollback target proven",
    "The entries that froze and closed the release gone back to, with the signed heads that seal them.",
)
PLAN_DECIDED = _kind(
    "plan.decided",
    "Plan approval",
    "What senior management decided on the release plan, with each vote.",
    record="records:Decision",
    tasks=("planning.decide_plan",),
    decides=True,
)
ASSETS_CHECKED = _kind(
    "assets.checked",
    "Assets checked",
    "The hosts, target groups and build tools that the release needs, and that they are there.",
    record="records:AssetReport",
    tasks=("design.check_assets", "design.check_targets"),
)
ARTIFACT_BUILT = _kind(
    "artifact.built",
    "Artifact built",
    "The bundle, its bill of materials and its provenance, each by digest.",
    record="records:Artifact",
    tasks=("build.build_artifact", "build.fetch_artifact", "build.take_artifact"),
)
MIGRATION_REHEARSED = _kind(
    "migration.rehearsed",
    "Database changes rehearsed",
    "The database changes of the release on a restored copy: what they did to its rows, and that the version which "
    "production runs works on the schema after them.",
    record="records:MigrationRehearsal",
    tasks=("quality.rehearse_migrations",),
)
TEST_DEPLOYED = _kind(
    "test.deployed",
    "Deployed to test",
    "The result of each host of the test environment.",
    record="records:TestDeployment",
    tasks=("quality.deploy_to_test",),
)
DEPLOYMENT_FAILED = _kind(
    "deployment.failed",
    "Deployment before production failed",
    "The result of each host of an environment before production, some of which did not get the release.",
    record="records:TestDeployment",
    several=True,
)
SUITES_RUN = _kind(
    "suites.run",
    "Test suites run",
    "The results of the service's own suites on the test environment.",
    record="records:SuiteRuns",
    tasks=("quality.run_suites",),
)
TEST_LOADED = _kind(
    "test.loaded",
    "Load test run",
    "What a synthetic load measured on the test environment.",
    record="records:LoadReport",
    tasks=("quality.measure_load",),
)
TEST_PLANNED = _kind(
    "test.planned",
    "Test cases planned",
    "The test cases that people must run in an environment on this artifact, and why.",
    record="testing.planning:TestPlan",
    tasks=("quality.plan_cases", "quality.{environment}.plan_cases"),
    several=True,
)
CASE_TAKEN = _kind(
    "case.taken",
    "Test case taken",
    "A tester is at a test case that waits for a result, and other testers see it. Until then, instead_of was at it. "
    "It is no result, and it keeps nobody from giving one.",
    record="testing.takers:Taking",
    beside=("envelope",),
    several=True,
    api_server=True,
)
CASE_GIVEN_BACK = _kind(
    "case.given_back",
    "Test case given back",
    "A tester is not at a test case any more that they had taken.",
    record="testing.takers:Taking",
    beside=("envelope",),
    several=True,
    api_server=True,
)
CASE_ATTACHED = _kind(
    "case.attached",
    "File attached to a test case",
    "A tester attached a file to a test case that waits for their result: what it is, and its digest.",
    record="testing.attachments:Attachment",
    beside=("envelope",),
    several=True,
    api_server=True,
)
CASE_TESTED = _kind(
    "case.tested",
    "Test case run",
    "What a tester found when running a test case: who, when, and on which artifact.",
    record="testing.results:CaseResult",
    several=True,
)
CASES_RUN = _kind(
    "cases.run",
    "Test cases closed",
    "How many of the test cases of an environment have which result, and how many were not run.",
    record="records:CaseRuns",
    tasks=("quality.record_cases", "quality.{environment}.record_cases"),
    several=True,
)
DEFECT_OPENED = _kind(
    "defect.opened",
    "Defect opened",
    "In the chain of a service's defects: a test case failed, and it had no open defect in this environment.",
    record="testing.defects:Defect",
)
DEFECT_ACCEPTED = _kind(
    "defect.accepted",
    "Defect accepted",
    "In the chain of a service's defects: a person accepted a defect as known, until a date.",
    record="testing.defects:AcceptedDefect",
)
DEFECT_CLOSED = _kind(
    "defect.closed",
    "Defect closed",
    "In the chain of a service's defects: a release was deployed whose results prove that the defect is fixed.",
    record="testing.defects:ClosedDefect",
)
QUALITY_JUDGED = _kind(
    "quality.judged",
    "Quality judged",
    "The quality report: each suite, and each expectation that failed.",
    record="records:QualityReport",
    tasks=("quality.judge_quality", "quality.take_report"),
)
QUALITY_JUDGED_AGAIN = _kind(
    "quality.judged_again",
    "Quality judged again",
    "Thresholds of the release were tightened after its quality review: what it found on test, or in an environment "
    "after it, judged by them. The report of the review stays as it is. thresholds is their digest.",
    record="records:QualityReport",
    beside=("thresholds",),
)
QUALITY_WAIVED = _kind(
    "quality.waived",
    "Expectation waived",
    "A person accepted a failed expectation, with a reason, until a date. The failure stays on record.",
    record="records:Waiver",
    several=True,
)
QUALITY_PASSED = _kind(
    "quality.passed",
    "Quality gate passed",
    "The quality gate let the report with this digest pass, with so many waivers.",
    tasks=("quality.pass_gate",),
)
PATH_DEPLOYED = _kind(
    "path.deployed",
    "Deployed on the path",
    "The result of each host of an environment between test and production.",
    record="records:TestDeployment",
    tasks=("quality.{environment}.deploy",),
    each="environment",
)
PATH_SUITES_RUN = _kind(
    "path.suites_run",
    "Suites run on the path",
    "The results of the suites of an environment between test and production.",
    record="records:SuiteRuns",
    tasks=("quality.{environment}.run_suites",),
    each="environment",
)
PATH_LOADED = _kind(
    "path.loaded",
    "Load test on the path",
    "What a synthetic load measured in an environment between test and production.",
    record="records:LoadReport",
    tasks=("quality.{environment}.measure_load",),
    each="environment",
)
PATH_JUDGED = _kind(
    "path.judged",
    "Quality judged on the path",
    "The quality report of an environment between test and production.",
    record="records:QualityReport",
    tasks=("quality.{environment}.judge",),
    each="environment",
)
PATH_WAIVED = _kind(
    "path.waived",
    "Expectation waived on the path",
    "A person accepted an expectation that failed in an environment between test and production, until a date.",
    record="records:Waiver",
    several=True,
)
PATH_GATED = _kind(
    "path.gated",
    "Gate passed on the path",
    "The quality gate of an environment let the report with this digest pass, with so many waivers.",
    tasks=("quality.{environment}.pass_gate",),
    each="environment",
)
PATH_SOAKED = _kind(
    "path.soaked",
    "Soaked on the path",
    "For how long a release ran in an environment, unchanged, before it went on.",
    record="records:SoakReport",
    tasks=("quality.{environment}.end_soak",),
    each="environment",
)
PATH_TESTED = _kind(
    "path.tested",
    "Environment tested",
    "What the tests in an environment came to. The digest of this record is what each ballot of its sign-off names.",
    record="records:EnvironmentTested",
    tasks=("quality.{environment}.close_tests",),
    seals=True,
    each="environment",
)
SIGN_OFF_DECIDED = _kind(
    "sign_off.decided",
    "Environment signed off",
    "What the people who sign an environment off decided, with each vote and their rule.",
    record="records:Decision",
    beside=("board", "environment"),
    tasks=("quality.{environment}.await_sign_off",),
    seals=True,
    decides=True,
    each="environment",
)
PATH_PASSED = _kind(
    "path.passed",
    "Environment passed",
    "How the release passed an environment between test and production, or why the policy leaves it out.",
    record="records:EnvironmentPassed",
    tasks=("quality.{environment}.conclude",),
    each="environment",
)
ACCEPTANCE_DECIDED = _kind(
    "acceptance.decided",
    "Acceptance",
    "What the functional approvers decided on artifact and quality report, with each vote.",
    record="records:Decision",
    tasks=("acceptance.decide_acceptance", "acceptance.take_acceptance"),
    decides=True,
)
ROLLOUT_FROZEN = _kind(
    "rollout.frozen",
    "Rollout plan frozen",
    "Everything that the board decides on. The digest of this plan is what each ballot names.",
    record="records:RolloutPlan",
    beside=("digest",),
    tasks=("rollout.freeze_plan",),
    seals=True,
)

TRAIN_OPENED = _kind(
    "train.opened",
    "Boarding opened",
    "When this departure of the train is, and when its manifest is frozen.",
    record="trains.manifest:PlannedRun",
    tasks=("boarding.open_train",),
)
MANIFEST_FROZEN = _kind(
    "manifest.frozen",
    "Manifest frozen",
    "Who is on board. The digest of this manifest is what each ballot names.",
    record="trains.manifest:Manifest",
    beside=("digest",),
    tasks=("boarding.freeze_manifest",),
    seals=True,
)
TRAIN_PROVEN = _kind(
    "train.proven",
    "Decision of the train proven",
    "In a passenger's chain: the train's entries up to its board's decision, the signed heads that seal them, and the "
    "answers.",
)

BOARD_REMINDED = _kind(
    "board.reminded", "Reminder sent", "A member who had not voted was reminded before the deadline."
)
BOARD_DECIDED = _kind(
    "board.decided",
    "Board decision",
    "What the Change Advisory Board decided on the frozen plan or manifest, with each vote and the rules of the board.",
    record="records:Decision",
    beside=("board", "train"),
    tasks=("rollout.await_board", "board.await_board"),
    seals=True,
    decides=True,
)
RECORD_DECIDED = _kind(
    "record.decided",
    "Decided in other systems",
    "What was decided on the changes of the release in systems that policy makes authorities, as they were read: all "
    "approved, one rejected, or not approved in time.",
    record="records:Decision",
    beside=("read",),
    tasks=("rollout.await_authorities",),
)
BOARD_DISCUSSED = _kind(
    "board.discussed",
    "Remark on a plan",
    "A board member asked the requester something about the plan or the manifest that the board votes on, or the "
    "requester answered. It is no vote.",
    record="cab.remarks:Remark",
    api_server=True,
)
BOARD_MET = _kind(
    "board.met",
    "Minutes of a meeting",
    "In the installation's chain: a meeting of a board, who was there by the word of the person who wrote the minutes, "
    "and what the ledger and Airflow had of each item at its end.",
    record="cab.minutes:Minutes",
    api_server=True,
)
RECORD_APPROVED = _kind(
    "record.approved",
    "Approved in another system",
    "The change of the release in a system that policy makes an authority, as it was read just before a permit: for "
    "which plan it was approved, by whom and when.",
    record="outbox.authority:RecordRead",
    several=True,
)
RECORD_ANSWERED = _kind(
    "record.answered",
    "Answered in another system",
    "A system that policy makes an authority sent a signed event: a person there approved or rejected the frozen plan "
    "of the release, or took that back.",
    record="ledger.events:AnswerElsewhere",
    beside=("envelope",),
    several=True,
    api_server=True,
)
TRAIN_DEPARTED = _kind(
    "train.departed",
    "Train departed",
    "The train departed with this manifest.",
    record="trains.manifest:Manifest",
    beside=("digest",),
    tasks=("departure.depart",),
)
PASSENGER_DEPARTED = _kind(
    "passenger.departed", "Passenger departed", "The conductor requested the release of a passenger."
)
PASSENGER_ARRIVED = _kind("passenger.arrived", "Passenger arrived", "How the release of a passenger ended.")
TRAIN_STOPPED = _kind(
    "train.stopped", "Train stopped", "A passenger failed, and the train's file stops the passengers after it."
)

NOTES_WRITTEN = _kind(
    "notes.written",
    "Release notes written",
    "The release notes, by digest.",
    record="records:Communication",
    tasks=("communication.write_notes", "communication.write_rollback_notes"),
)
RELEASE_ANNOUNCED = _kind(
    "release.announced",
    "Release announced",
    "Each audience, and the addresses to which its announcement was sent.",
    record="records:Communication",
    tasks=("communication.announce",),
)
COMMUNICATION_RECORDED = _kind(
    "communication.recorded",
    "Communication recorded",
    "Who was notified, and who acknowledged the training material.",
    record="records:Communication",
    tasks=("communication.record_communication", "communication.record_told"),
)
BASELINE_MEASURED = _kind(
    "baseline.measured",
    "Load before measured",
    "What a synthetic load measured on the target before the release.",
    record="records:LoadReport",
    tasks=("implementation.measure_baseline",),
)
WAVE_DEPLOYED = _kind(
    "wave.deployed",
    "Wave deployed",
    "The result of each host of a wave.",
    record="records:WaveReport",
    beside=("digest", "entered"),
    tasks=("implementation.wave_{number}",),
    permit="deploy",
    several=True,
)
FAILURE_DECIDED = _kind(
    "failure.decided",
    "Decision on failed hosts",
    "What the release manager decided on the hosts of a wave that failed.",
    record="records:Decision",
)
STEP_BEGUN = _kind(
    "step.begun",
    "Step of the runbook begun",
    "A step is about to be done, or to be taken back. It is done once: another try continues from this entry.",
    record="records:StepIntent",
    follows=("failure",),
    several=True,
)
STEP_ENDED = _kind(
    "step.ended",
    "Step of the runbook ended",
    "How a step was done, or taken back, and who or what shows it.",
    record="records:StepReport",
    tasks=("implementation.step_{number}", "verification.back_step_{number}"),
    permit="step",
    follows=("failure",),
    several=True,
)
BASELINE_RESTARTED = _kind(
    "baseline.restarted",
    "Baseline restarted",
    "The result of each host of the old version that was restarted as the baseline of the canary.",
    record="canary.records:RestartReport",
    tasks=("implementation.restart_baseline",),
    permit="restart",
)
CANARY_MEASURED = _kind(
    "canary.measured",
    "Canary measured",
    "One round of measurements of canary and baseline.",
    record="canary.records:CanaryMeasured",
)
CANARY_WATCHED = _kind(
    "canary.watched",
    "Canary watched",
    "The canary was observed for the time in the plan.",
    record="canary.records:CanaryWatch",
    tasks=("implementation.watch_canary",),
)
CANARY_JUDGED = _kind(
    "canary.judged",
    "Canary judged",
    "How the canary compares with the baseline.",
    record="canary.records:CanaryReport",
    tasks=("implementation.judge_canary",),
)
CANARY_DECIDED = _kind(
    "canary.decided",
    "Decision on the canary",
    "Whether the other waves follow the canary, and who decided that.",
    record="records:Decision",
    tasks=("implementation.settle_canary",),
)
IDLE_SMOKED = _kind(
    "idle.smoked",
    "Idle fleet verified",
    "How each host of the idle fleet answered its smoke requests, before it got the traffic.",
    record="records:SmokeReport",
    tasks=("implementation.verify_idle",),
)
TRAFFIC_SHARED = _kind(
    "traffic.shared",
    "Traffic shared with the canary",
    "The load balancer gives canary and baseline a share of the traffic.",
    record="canary.records:TrafficReport",
    permit="traffic",
)
TRAFFIC_SWITCHED = _kind(
    "traffic.switched",
    "Traffic switched",
    "In a release's chain: the load balancer gives all traffic to the fleet with the release. In the installation's "
    "chain: which target group of a service has the traffic since.",
    record="canary.records:TrafficReport",
    tasks=("implementation.switch_traffic",),
    permit="traffic",
)
TRAFFIC_RESTORED = _kind(
    "traffic.restored",
    "Traffic restored",
    "The load balancer gives the traffic to the hosts that had it before the release.",
    record="canary.records:TrafficReport",
    permit="traffic",
    follows=("failure",),
)
HOSTS_SMOKED = _kind(
    "hosts.smoked",
    "Smoke tests run",
    "How each host answered its smoke requests.",
    record="records:SmokeReport",
    tasks=("verification.smoke_hosts",),
)
LOAD_MEASURED = _kind(
    "load.measured",
    "Load after measured",
    "What a synthetic load measured on the target after the release.",
    record="records:LoadReport",
    tasks=("verification.measure_after",),
)
VERIFICATION_JUDGED = _kind(
    "verification.judged",
    "Verification judged",
    "Whether production behaves as before the release.",
    record="records:VerificationReport",
    tasks=("verification.judge_verification",),
)
BACK_OUT_DONE = _kind(
    "back_out.done",
    "Backed out",
    "The result of each host that was returned to its previous release.",
    record="records:BackOutReport",
    tasks=("verification.back_out",),
    permit="back_out",
    follows=("failure",),
)

RELEASE_CLOSED = _kind(
    "release.closed",
    "Release closed",
    "How the release ended, and which stage decided that. The last entry of a release's chain.",
    record="records:Outcome",
    tasks=("closure.record_outcome",),
    seals=True,
    ends=True,
    follows=("failure",),
)
TRAIN_ARRIVED = _kind(
    "train.arrived",
    "Train arrived",
    "The result of each passenger. The last entry of a train's chain.",
    record="trains.arrivals:Arrival",
    tasks=("arrival.record_arrival",),
    ends=True,
)
HOST_RETURNED = _kind(
    "host.returned",
    "Host brought up to date",
    "The result of hosts that were down during the release and have returned. It is tried once.",
    record="records:WaveReport",
    beside=("digest", "entered"),
    permit="return",
    follows=("deployment",),
)

ENVIRONMENT_QUEUED = _kind(
    "environment.queued", "Waiting for the environment", "A release waits until another release ends its booking."
)
ENVIRONMENT_BOOKED = _kind(
    "environment.booked",
    "Environment booked",
    "A release booked an environment of its service: no other release changes it in the meantime.",
    record="calendars.bookings:Booking",
)
ENVIRONMENT_EXTENDED = _kind(
    "environment.extended", "Booking extended", "The release that holds the booking needs it for longer."
)
ENVIRONMENT_FREED = _kind("environment.freed", "Environment freed", "A release ended its booking, or left the queue.")
ENVIRONMENT_RECOVERED = _kind(
    "environment.recovered",
    "Booking recovered",
    "The release with the booking is no longer in progress. The next release takes its place.",
)
ENVIRONMENT_ENTERED = _kind(
    "environment.entered",
    "Environment entered",
    "A task enters the environment in order to change it. The entry's sequence number is its fencing token.",
    record="permits.fencing:Admittance",
)
PERMITS_VOIDED = _kind(
    "permits.voided",
    "Permits voided on hosts",
    "The hosts of a closed release were told to refuse its permits; with those that did not hear it, and why.",
)

RELEASE_ENDED = _kind("release.ended", "Release ended", "In the installation's chain: how a release ended.")
RELEASE_REVIEWED = _kind(
    "release.reviewed",
    "Release reviewed",
    "A post-implementation review of a release.",
    record="outcome.review:Review",
    beside=("version",),
)
PACK_SEALED = _kind(
    "pack.sealed", "Evidence packed", "An evidence pack was created: its chain, digest, size and address."
)
VERSION_MARKED_BAD = _kind(
    "version.marked_bad",
    "Version marked bad",
    "A version must not be deployed to an environment.",
    record="outcome.marks:Mark",
)
VERSION_MARKED_GOOD = _kind(
    "version.marked_good",
    "Version marked good",
    "A version that was marked bad can be deployed to the environment again.",
    record="outcome.marks:Mark",
)
VERSION_PINNED = _kind(
    "version.pinned",
    "Version pinned",
    "No other version can be deployed to the environment.",
    record="outcome.marks:Mark",
)
VERSION_UNPINNED = _kind(
    "version.unpinned",
    "Version unpinned",
    "Other versions can be deployed to the environment again.",
    record="outcome.marks:Mark",
)
FREEZE_OVERRIDDEN = _kind(
    "freeze.overridden",
    "Freeze overridden",
    "An entry of a calendar does not apply to one service in one environment, for a time.",
    record="calendars.overrides:Override",
)
EMERGENCY_STOP_DECLARED = _kind(
    "emergency_stop.declared",
    "Emergency stop declared",
    "All rollouts in its scope are halted while it lasts.",
    record="calendars.stops:EmergencyStop",
    any_clock=True,
)
EMERGENCY_STOP_LIFTED = _kind(
    "emergency_stop.lifted", "Emergency stop lifted", "A person lifted an emergency stop, with a reason."
)
ACCOUNT_KNOWN = _kind(
    "account.known", "Account first seen", "An account as it was when Interlock first saw it, without its secret."
)
ACCOUNT_CONFIRMED = _kind("account.confirmed", "Account confirmed", "A second person confirmed a changed account.")
CATALOGUE_CHANGED = _kind("catalogue.changed", "Catalogue changed", "The digest of each file of the catalogue since.")
KEY_USED = _kind("key.used", "Signing key used", "The public key with which the installation signs since.")

KINDS: Mapping[str, Kind] = MappingProxyType(_table)
"""Every kind, in the order of this module."""


def _named(chosen: Iterable[Kind]) -> tuple[str, ...]:
    return tuple(one.name for one in chosen)


DECISIONS = _named(one for one in KINDS.values() if one.decides)
"""The decisions of people during a release."""
MOVES = _named(one for one in KINDS.values() if one.permit == "traffic")
"""Kinds that change which hosts get the traffic."""
PURPOSES: Mapping[str, str] = MappingProxyType({one.name: one.permit for one in KINDS.values() if one.permit})
"""Kinds that change hosts or traffic: the purpose of the permit."""
SEVERAL = _named(one for one in KINDS.values() if one.several)
"""Kinds of which several entries of a release are valid: each waiver, and each wave."""
WITNESSED = _named(one for one in KINDS.values() if one.api_server)
"""Kinds that only Airflow's API server may append: the ledger's database refuses them to the role of tasks."""
LEAVES: Mapping[str, str] = MappingProxyType(
    {task: one.name for one in KINDS.values() for task in one.tasks if "{" not in task}
)
"""Task of a release or of a train: the entry that it leaves before it succeeds. For others, see :func:`left_by`."""
_PLACES = {"number": r"[0-9]+", "environment": r"[a-z][a-z0-9-]*"}
_FAMILIES = tuple(
    (
        re.compile(re.sub(r"\\{(\w+)\\}", lambda found: f"(?P<{found[1]}>{_PLACES[found[1]]})", re.escape(task))),
        one.name,
    )
    for one in KINDS.values()
    for task in one.tasks
    if "{" in task
)


def left_by(task: str) -> tuple[str, Mapping[str, str | int]] | None:
    """Return the kind of entry that a task leaves before it succeeds, and what its payload says; None: none.

    A wave leaves an entry with its number, and a task of an environment an entry with the environment.
    """
    if kind := LEAVES.get(task):
        return kind, {}
    for pattern, kind in _FAMILIES:
        if found := pattern.fullmatch(task):
            return kind, {name: int(text) if name == "number" else text for name, text in found.groupdict().items()}
    return None


def held_by(kind: str, payload: Mapping[str, Any]) -> tuple[str, object]:
    """Return what an entry replaces: entries of its kind, and of kinds with ``each``, only those of the same value."""
    each = KINDS[kind].each if kind in KINDS else ""
    return kind, payload.get(each) if each else None


def following(end: Ending) -> tuple[str, ...]:
    """Return the kinds that may come after an end."""
    return _named(one for one in KINDS.values() if end in one.follows)


def decision_on(subject: str) -> str:
    """Return the kind of the entry with a decision, by its subject: plan, acceptance or board."""
    kind = f"{subject}.decided"
    if kind not in DECISIONS:
        raise ValueError(f"there is no decision on {subject!r}")
    return kind


def family(kind: str) -> str:
    """Return the pattern by which the ledger finds all kinds with the same first word."""
    return f"{kind.partition('.')[0]}.*"


def title_of(kind: str) -> str:
    """Return the title of a kind; the kind itself, if it is from a newer version of Interlock."""
    return KINDS[kind].title if kind in KINDS else kind
