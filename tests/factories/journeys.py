"""A release of the repair shop on its way through four environments, entry by entry, as its tasks leave them.

Integration and user acceptance are side by side after test; staging comes after both and soaks. The runbook tells the
bank before the waves, and drops a column after them, which cannot be taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from interlock.domain.board.decision import APPROVE
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import ChangeType, Flow, Service
from interlock.domain.catalogue.cases_file import Case
from interlock.domain.change.environments import steps_of
from interlock.domain.ledger.chain import Entry
from interlock.domain.quality.rows import rows_as_json
from interlock.domain.records import (
    Decision,
    DefectLine,
    EnvironmentPassed,
    EnvironmentTested,
    MigrationRehearsal,
    PolicyInForce,
    QualityReport,
    RehearsedTable,
    RehearsedVersion,
    ReleasePlan,
    RolloutPlan,
    SoakReport,
    StepDirection,
    StepIntent,
    TestDeployment,
    Vote,
)
from interlock.domain.runbook.planning import planned_steps, step_id
from interlock.domain.runbook.progress import Ended, report_of
from interlock.domain.testing.planning import PlannedCase, TestPlan
from interlock.domain.testing.results import CaseResult, rows_of, runs_of
from tests.factories import releases
from tests.memory_ledger import MemoryLedger

CHAIN = "release/release_repair_shop/r1"
BETWEEN: dict[str, dict[str, Any]] = {
    "integration": {"after": ["test"]},
    "user-acceptance": {
        "after": ["test"],
        "sign_off": {"title": "User acceptance testers", "people": ["fay", "sam", "dan"], "quorum": 2, "within": "P2D"},
    },
    "staging": {"after": ["integration", "user-acceptance"], "soak": "PT2H"},
}
RUNBOOK: list[dict[str, Any]] = [
    {
        "name": "tell-bank",
        "title": "Tell the bank that payments pause",
        "when": "before",
        "estimate": "PT10M",
        "do": {
            "manual": {
                "who": ["rita", "sam"],
                "instructions": "Call the bank and name the window.",
                "evidence": "the number of the ticket",
            }
        },
        "way_back": {
            "manual": {"who": ["rita"], "instructions": "Call again.", "evidence": "the number of the ticket"}
        },
    },
    {
        "name": "expand",
        "title": "Add the columns of 2.0",
        "when": "after_wave_1",
        "needs": ["tell-bank"],
        "estimate": "PT5M",
        "do": {"command": {"script": "scripts/expand.sh"}},
        "way_back": {"command": {"script": "scripts/back.sh"}},
    },
    {
        "name": "contract",
        "title": "Drop the old columns",
        "when": "after",
        "needs": ["expand"],
        "estimate": "PT90S",
        "do": {"command": {"script": "scripts/contract.sh"}},
        "way_back": "none",
    },
]
VERSION = "2.0.0"
BUNDLE = releases.blob()
RELEASE_NAME = f"{VERSION}-{BUNDLE.sha256[:12]}"


def service_file(bike_shop: dict[str, Any]) -> dict[str, Any]:
    """Return the file of the repair shop, made of that of the bike shop."""
    usual = {"count": 1, "ssh": "interlock_test_hosts", "deploy_root": "srv/repair-shop"}
    ends = {
        name: {**one, "hosts": {"Service": "repair-shop", "Environment": name}}
        for name, one in bike_shop["environments"].items()
    }
    ends["production"] |= {"waves": [1, "100%"], "target_group": "repair-shop-production"}
    between = {
        name: {**usual, "hosts": {"Service": "repair-shop", "Environment": name}, **one}
        for name, one in BETWEEN.items()
    }
    about = {"name": "repair-shop", "title": "Repair shop", "environments": ends | between, "runbook": RUNBOOK}
    return {**bike_shop, "suites": {"api": {"command": ["./suite"], "junit": ["report.xml"]}}, **about}


def service() -> Service:
    """Return the repair shop."""
    return Service.model_validate(service_file(releases.service().model_dump(mode="json")))


def policy(**flow: Any) -> PolicyInForce:
    """Return the policy in force, for a flow with further rules."""
    return releases.policy().model_copy(
        update={"path": steps_of(service()), "flow": Flow(board="cab", cases="all", **flow)}
    )


def plan(**changes: Any) -> ReleasePlan:
    """Return the release plan."""
    return releases.plan(**{"service": "repair-shop", "version": VERSION, "bump": "major", **changes})


def report(environment: str, *failures: Any, **changes: Any) -> QualityReport:
    """Return the quality report of an environment."""
    named = {} if environment == "test" else {"environment": environment}
    return releases.quality(*failures).model_copy(update={**named, **changes})


def vote(user: str, choice: str = APPROVE, comment: str = "All as it should be") -> Vote:
    """Return the answer of a person."""
    return Vote(user=user, assigned=user, choice=choice, comment=comment, at=releases.AT)


def case(name: str, environment: str = "test", **changes: Any) -> PlannedCase:
    """Return a test case that must be run."""
    about = {"id": name, "title": f"The {name} adds up", "role": "shop-tester", "steps": ("Look",), "expected": "A sum"}
    one = Case.model_validate({**about, "environment": environment, **changes})
    return PlannedCase(case=one, file="qa/cases.yaml", because=("it concerns every release",), testers=("sam", "fay"))


def result(planned: PlannedCase, found: str = "passed", **changes: Any) -> CaseResult:
    """Return the result of a test case."""
    about = {
        "case": planned.case.id,
        "title": planned.case.title,
        "environment": planned.case.environment,
        "result": found,
        "severity": planned.case.severity,
        "proves": planned.case.proves,
        "by": "sam",
        "at": releases.AT,
        "artifact": BUNDLE.sha256,
        "binds": planned.digest(BUNDLE.sha256),
    }
    return CaseResult.model_validate({**about, **changes})


def cases_planned(environment: str, cases: Sequence[PlannedCase], store: Any = None) -> TestPlan:
    """Return the plan of the test cases of an environment.

    :param store: keeps the cases, if somebody is to read them.
    """
    kept = store.put_bytes(rows_as_json(cases), "cases.json") if store else releases.blob("cases.json", "8")
    return TestPlan(
        environment=environment,
        version=VERSION,
        artifact=BUNDLE.sha256,
        cases=kept,
        files={},
        demanded=len(cases),
        left_out=0,
        unproven=(),
    )


def defect(name: str, state: str, environment: str = "user-acceptance", **changes: Any) -> DefectLine:
    """Return a defect as a report lists it."""
    about = {"id": name, "title": f"About {name}", "severity": "major", "environment": environment, "version": "1.9.0"}
    return DefectLine.model_validate({**about, "state": state, **changes})


DEFECTS = (
    defect("menu-1", "new", severity="critical", environment="test", version=VERSION),
    defect("total-3", "fixed"),
    defect("bill-2", "open", stops="the policy stops releases to production by open defects from major on"),
    defect("print-1", "accepted", until=releases.AT + timedelta(days=30)),
)
"""One of each kind."""
LONG_CASE = case(
    "menu",
    title="The menu lists <b>every</b> bike \u202edesrever\u202c and has a title that a narrow screen has to break",
    proves=("SHOP-12", "#7"),
    severity="critical",
    steps=("Open /bikes", "Count the bikes, and compare with the list of the warehouse: " + "page after page " * 20),
    expected="Every bike of the warehouse is listed, with its price in euros",
)
"""A test case that is hard to show."""


class Journey:
    """A release as far as a test takes it."""

    def __init__(self, ledger: Any = None, chain: str = CHAIN, in_force: PolicyInForce | None = None) -> None:
        self.ledger, self.chain = MemoryLedger() if ledger is None else ledger, chain
        self.in_force, self.plan = in_force or policy(), plan()
        self.passed: list[EnvironmentPassed] = []

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What the ledger has."""
        entries: tuple[Entry, ...] = self.ledger.entries(self.chain)
        return entries

    def put(self, kind: str, payload: Any, *, actor: str = "a task", **beside: Any) -> Entry:
        """Record something."""
        plain = payload.to_xcom() if hasattr(payload, "to_xcom") else payload
        key = f"{kind}/{len(self.entries)}"
        entry: Entry = self.ledger.append(self.chain, kind, {**plain, **beside}, actor=actor, key=key)
        return entry

    def planned(self, **changes: Any) -> Journey:
        """Request and plan the release."""
        self.plan = plan(**changes)
        self.put("release.requested", {"service": "repair-shop", "requested_by": "rita"}, actor="rita")
        self.put("policy.resolved", self.in_force)
        self.put("plan.made", self.plan)
        return self

    def deployed(self, environment: str, **changes: Any) -> Journey:
        """Deploy to an environment before production."""
        results = (releases.host_result(4, after=RELEASE_NAME, **changes),)
        made = TestDeployment(environment=environment, results=results, base_urls=("http://127.20.0.51:8400",))
        self.put("test.deployed" if environment == "test" else "path.deployed", made)
        return self

    def cases(
        self, environment: str, cases: Sequence[PlannedCase], results: Iterable[CaseResult], store: Any = None
    ) -> Journey:
        """Have people run test cases."""
        tests, found = cases_planned(environment, cases, store), tuple(results)
        self.put("test.planned", tests)
        for one in found:
            self.put("case.tested", one, actor=one.by)
        rows = rows_of(cases, found, artifact=BUNDLE.sha256, barred={})
        self.put("cases.run", runs_of(tests, rows, releases.blob("rows.json", "9")))
        return self

    def judged(self, environment: str, *failures: Any, **changes: Any) -> Journey:
        """Judge an environment; without failures, it passes its gate."""
        one = report(environment, *failures, **changes)
        test = environment == "test"
        self.put("quality.judged" if test else "path.judged", one)
        if not failures:
            gate = {"digest": sha256_of(one), "waived": 0}
            self.put("quality.passed" if test else "path.gated", gate if test else {**gate, "environment": environment})
        return self

    def tested(self, environment: str, **changes: Any) -> Journey:
        """Deploy, judge, and close the tests of an environment."""
        self.deployed(environment).judged(environment, **changes)
        return self.closed(environment)

    def closed(self, environment: str) -> Journey:
        """Close the tests of an environment."""
        asked = BETWEEN[environment].get("sign_off")
        soak = self._soaked(environment)
        if soak:
            self.put("path.soaked", soak)
        self.last = EnvironmentTested(
            environment=environment,
            service="repair-shop",
            version=VERSION,
            release=RELEASE_NAME,
            bundle=BUNDLE.sha256,
            quality=sha256_of(report(environment)),
            soak=soak,
            requested_by="rita",
            decide_by=releases.AT + timedelta(days=2) if asked else None,
        )
        self.put("path.tested", self.last)
        return self

    def _soaked(self, environment: str) -> SoakReport | None:
        if "soak" not in BETWEEN[environment]:
            return None
        until = releases.AT + timedelta(hours=2, minutes=5)
        return SoakReport(
            environment=environment, release=RELEASE_NAME, since=releases.AT, until=until, hosts=("127.20.0.14",)
        )

    def signed(self, environment: str, *votes: Vote, approved: bool = True) -> Journey:
        """Decide the sign-off of an environment."""
        reason = "2 of 3 members approve: fay, sam." if approved else "Rejected by fay: The total is wrong."
        decision = Decision(
            subject="sign_off",
            digest=self.last.digest,
            approved=approved,
            required=True,
            reason=reason,
            votes=votes or (vote("fay"), vote("sam")),
        )
        self.put("sign_off.decided", decision, board=None, environment=environment)
        return self

    def concluded(self, environment: str) -> Journey:
        """Pass an environment."""
        signed = "2 of 3 members approve: fay, sam." if BETWEEN[environment].get("sign_off") else None
        one = EnvironmentPassed(
            environment=environment,
            tested=self.last.digest,
            quality=self.last.quality,
            signed_off=signed,
            soaked=self.last.soak.until - self.last.soak.since if self.last.soak else None,
        )
        self.passed.append(one)
        self.put("path.passed", one)
        return self

    def through(self) -> Journey:
        """Take the release through all environments, and freeze its plan."""
        self.planned().deployed("test").judged("test")
        self.tested("integration").concluded("integration")
        self.tested("user-acceptance").signed("user-acceptance").concluded("user-acceptance")
        self.tested("staging").concluded("staging")
        accepted = releases.decision("acceptance", reason="fay approves.", digest="e" * 64)
        self.put("acceptance.decided", accepted)
        return self.frozen()

    def frozen(self, **changes: Any) -> Journey:
        """Freeze the plan."""
        self.rollout = rollout(self.passed, **changes)
        self.put("rollout.frozen", self.rollout, digest=self.rollout.digest)
        return self

    def rehearsed(self, **changes: Any) -> Journey:
        """Do the database changes on a restored copy."""
        ran = RehearsedVersion(release="1.9.0-0", version="1.9.0", smoked=4, tests=12, rows=releases.blob())
        usual: dict[str, Any] = {
            "environment": "test",
            "bundle": BUNDLE.sha256,
            "steps": "9" * 64,
            "before": (ran,),
            "tables": (
                RehearsedTable(database="repairs", table="tickets", before=1200, after=1201),
                RehearsedTable(database="repairs", table="old_prices", before=34, after=None),
            ),
            "notes": ("repairs: the column tickets.note is longer",),
            "seconds": {"restore": 40.0, "forward": 2.5, "suites": 50.5},
        }
        self.put("migration.rehearsed", MigrationRehearsal(**{**usual, **changes}))
        return self

    def approved(self) -> Journey:
        """Have the board approve."""
        decision = releases.decision("board", digest=self.rollout.digest)
        self.put("board.decided", decision, board=releases.board().model_dump(mode="json"))
        return self

    def wave(self, number: int, *hosts: int, **changes: Any) -> Journey:
        """Deploy a wave."""
        self.put("wave.deployed", releases.wave(number, *(releases.host_result(one, **changes) for one in hosts)))
        return self

    def step_begun(self, number: int, direction: StepDirection = "forward") -> Journey:
        """Begin a step of the runbook."""
        step = self.rollout.steps[number - 1]
        intent = StepIntent(
            number=number,
            name=step.name,
            direction=direction,
            id=step_id(self.rollout.digest, step, direction),
            plan=self.rollout.digest,
            action=sha256_of(step.action(direction) or {}),
        )
        self.put("step.begun", intent)
        return self

    def step_ended(self, number: int, ended: Ended, direction: StepDirection = "forward") -> Journey:
        """End a step of the runbook."""
        step = self.rollout.steps[number - 1]
        began = next(entry.at for entry in reversed(self.entries) if entry.kind == "step.begun")
        id = step_id(self.rollout.digest, step, direction)
        self.put("step.ended", report_of(step, direction, id, ended, began_at=began, now=datetime.now(UTC)))
        return self


def rollout(passed: Iterable[EnvironmentPassed] = (), **changes: Any) -> RolloutPlan:
    """Return the frozen plan, with the runbook."""
    hosts = [releases.host(number) for number in (1, 2, 3)]
    usual = {
        "service": "repair-shop",
        "version": VERSION,
        "bundle": BUNDLE,
        "environments": tuple(passed) or None,
        "runbook": planned_steps(service(), hosts, rehearsal=False),
    }
    return releases.rollout(**{**usual, **changes})


def emergency() -> PolicyInForce:
    """Return the policy of an emergency, which goes over staging only."""
    return policy(environments=("staging",), without_soak=("major",)).model_copy(
        update={"change_type": ChangeType.EMERGENCY}
    )
