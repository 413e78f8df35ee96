"""A release on its way through two environments between test and production, on real hosts, with real votes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.sdk.execution_time.context import set_current_context

from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import ChangeType
from interlock.domain.change.environments import steps_of
from interlock.domain.change.policy import resolve_policy
from interlock.domain.ledger.chain import release_chain
from interlock.domain.ledger.host_record import sandbox_record
from interlock.domain.ledger.kinds import (
    ANSWER_GIVEN,
    DEFECT_ACCEPTED,
    DEFECT_OPENED,
    DEPLOYMENT_FAILED,
    ENVIRONMENT_ENTERED,
)
from interlock.domain.permits.fencing import place_of
from interlock.domain.permits.found import by_its_chain
from interlock.domain.permits.objections import Circumstances, objections
from interlock.domain.permits.production import Production
from interlock.domain.records import AssetReport, Blob, EnvironmentPassed, RolloutPlan
from interlock.domain.testing.defects import AcceptedDefect, new_defects
from interlock.domain.testing.results import CaseResult
from interlock.stages.approvals.sign_offs import AwaitSignOff, count_sign_off
from interlock.stages.environments import path, review
from interlock.stages.runtime import resources
from interlock.stages.testing import cases
from tests.airflow_server import ACCOUNTS, RUN, AirflowServer, airflow_server
from tests.factories import releases
from tests.git_project import git_project
from tests.mailbox import Mailbox, mail_server
from tests.memory_ledger import MemoryLedger
from tests.sshd import DEPLOY_ROOT, Fleet, make_release, sshd_fleet
from tests.task_instance import task_instance
from tests.witness import SIGNER

# Great Expectations and what it stands on warn of parts of each other that they will drop.
pytestmark = pytest.mark.filterwarnings("ignore")

ROOT = Path(__file__).parents[2]
CHAIN = release_chain(*RUN)
CASES = "".join(f'<testcase name="t{number}" classname="shop"/>' for number in range(5))
CASE = """\
cases:
  - id: basket
    title: The basket adds up
    environment: uat
    role: floor
    severity: critical
    steps: [Add two bikes]
    expected: It is the sum
"""
SUITE = f"""#!/bin/sh
test -n "$BASE_URL" && echo '<testsuite name="s">{CASES}</testsuite>' > report.xml
"""
SCAN = f"""#!/bin/sh
test -z "$BASE_URL" && echo '<testsuite name="s">{CASES}</testsuite>' > report.xml
"""
SOAK = timedelta(milliseconds=1)
FOUND = {
    "case": "basket",
    "title": "The basket adds up",
    "environment": "uat",
    "result": "failed",
    "severity": "critical",
    "step": "It is the sum",
    "by": "sam",
    "at": "2026-11-01T00:00:00Z",
}


class Way:
    """A release that was accepted on test, and what its tasks need to take it further."""

    def __init__(
        self, fleet: Fleet, ledger: MemoryLedger, airflow: AirflowServer, folder: Path, patch: pytest.MonkeyPatch
    ) -> None:
        self.fleet, self.ledger, self.airflow, self.folder, self.patch = fleet, ledger, airflow, folder, patch
        uat, *staging = fleet.hosts
        self.hosts = {"uat": (uat,), "staging": tuple(staging)}
        self.left: dict[tuple[str, str], Any] = {}

    def describe(self, *, cases: bool = False, without: dict[str, Any] | None = None, **more: dict[str, Any]) -> None:
        """Write the catalogue, with two environments in the bike shop's file.

        :param cases: people run a test case in the first.
        :param without: environments without hosts, for which there is another suite.
        """
        catalogue = self.folder / "catalogue"
        shutil.rmtree(catalogue, ignore_errors=True)
        shutil.copytree(ROOT / "include" / "catalogue", catalogue)
        file = catalogue / "services" / "bike-shop.yaml"
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
        data["health"]["port"] = self.fleet.health_port
        data["load"] = {"paths": ["/health"], "requests": 20, "concurrency": 2}
        data["suites"] = {"api": {"command": ["./suite"], "junit": ["report.xml"]}}
        sign_off = {"title": "Testers", "people": ["fay", "sam", "dan"], "quorum": 2}
        between: dict[str, dict[str, Any]] = {
            "uat": {"after": ["test"], "sign_off": sign_off},
            "staging": {"after": ["uat"], "soak": "PT0.001S", "count": 2},
        }
        for name, about in between.items():
            usual = {"hosts": {"Service": "bike-shop", "Environment": name}, "count": 1, "ssh": "interlock_test_hosts"}
            data["environments"][name] = {**usual, "deploy_root": DEPLOY_ROOT, **about, **more.get(name, {})}
        if without:
            data["without_hosts"] = without
            data["suites"]["scan"] = {"command": ["./scan"], "junit": ["report.xml"]}
        if cases:
            data["cases"] = {
                "repository": ["cases.yaml"],
                "testers": {"floor": ["sam"]},
                "defects_to": ["team@x.example"],
            }
        file.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
        self.patch.setenv("INTERLOCK_CATALOGUE", str(catalogue))

    def begin(self, version: str = "1.1.0", **plan: Any) -> None:
        """Have on record what a release has when it was accepted on test."""
        project = git_project(self.folder / "project")
        sha = project.commit({"suite": SUITE, "scan": SCAN, "cases.yaml": CASE})
        self.patch.setenv(
            "AIRFLOW_CONN_BIKE_SHOP_SOURCE", json.dumps({"conn_type": "git", "host": f"file://{project.folder}"})
        )
        built = make_release(self.fleet, self.folder, version)
        bundle = resources.store().put_file(built.bundle, f"bike-shop-{version}.tar.gz")
        policy, _, service = resources.catalogue_of("bike-shop")
        self.plan = releases.plan(version=version, commit=releases.commit(sha=sha), authors=(), **plan)
        self.artifact = releases.artifact().model_copy(update={"version": version, "commit": sha, "bundle": bundle})
        self.in_force = resolve_policy(policy, service, ChangeType.NORMAL, steps_of(service))
        self.assets = AssetReport(hosts=self.hosts, target_groups={}, tools={})
        for kind, record in (
            ("policy.resolved", self.in_force),
            ("plan.made", self.plan),
            ("artifact.built", self.artifact),
            ("assets.checked", self.assets),
        ):
            self.ledger.append(CHAIN, kind, record.to_xcom(), actor="a task", key=kind)

    def run(self, environment: str, task: Any, *args: Any) -> Any:
        """Run a task of an environment as Airflow does."""
        name = task.function.__name__
        with self.within(f"quality.{environment}.{name}"):
            self.left[environment, name] = task.function("bike-shop", environment, *map(plain, args))
        return self.left[environment, name]

    def within(self, task_id: str) -> Any:
        ti = task_instance(RUN[0], task_id)
        context: Any = {"ti": ti, "dag_run": SimpleNamespace(dag_id=RUN[0], run_id=RUN[1]), "params": {}}
        context["task_state_store"] = SimpleNamespace(get=lambda _: None, set=lambda *_: None)
        return set_current_context(context)

    def reviewed(self, name: str) -> tuple[Any, Any, Any]:
        """Deploy to an environment, test and judge; return deployment, report and waivers."""
        self.run(name, path.book, self.plan)
        deployment = self.run(name, path.deploy, self.artifact, self.assets)
        suites = self.run(name, path.run_suites, self.plan, deployment)
        load = self.run(name, path.measure_load, self.assets)
        report = self.run(name, path.judge, self.in_force, self.plan, self.artifact, suites, load)
        assert self.run(name, path.prepare_waivers, self.in_force, self.plan, report) == []
        return deployment, report, self.run(name, path.pass_gate, self.in_force, self.plan, report)

    def tested_by_people(self, choice: str, **said: str) -> Any:
        """Let a tester run the case of an environment; return what came of it."""
        with self.within("quality.uat.plan_cases"):
            facts = map(plain, (self.in_force, self.plan, self.artifact))
            tests = cases.plan_cases.function("bike-shop", "uat", *facts)
        with self.within("quality.uat.prepare_cases"):
            (asked,) = cases.prepare_cases.function("bike-shop", plain(self.plan), tests, self.left["uat", "deploy"])
        about = {field: asked[field] for field in ("subject", "body", "assigned_users")}
        form = {"comment": "It says 0", **said}
        self.airflow.answer(self.airflow.ask("quality.uat.run_case", "", **about), "sam", choice, params_input=form)
        self.witness()
        with self.within("quality.uat.record_cases"):
            return cases.record_cases.function("bike-shop", plain(self.in_force), plain(self.plan), tests)

    def judged_with_people(self, choice: str, **said: str) -> Any:
        """Deploy to the first environment, and judge it by suites, load and the result of a test case.

        :param said: fields beside the result.
        """
        self.run("uat", path.book, self.plan)
        suites = self.run("uat", path.run_suites, self.plan, self.run("uat", path.deploy, self.artifact, self.assets))
        load = self.run("uat", path.measure_load, self.assets)
        runs = self.tested_by_people(choice, **said)
        return self.run("uat", path.judge, self.in_force, self.plan, self.artifact, suites, load, runs)

    def closed(self, name: str, report: Any, waivers: Any, *soak: Any) -> Any:
        facts = (self.in_force, self.plan, self.artifact, self.assets, report, waivers, *soak)
        return self.run(name, path.close_tests, *facts)

    def asked(self, name: str, report: Any, deployment: Any, tested: Any) -> list[dict[str, Any]]:
        """Ask who signs an environment off."""
        facts = (self.plan, self.artifact, report, tested, *([deployment] if deployment else []))
        questions = self.run(name, path.prepare_sign_off, *facts)
        for number, one in enumerate(questions):
            about = {field: one[field] for field in ("subject", "body", "assigned_users")}
            self.airflow.ask(f"quality.{name}.sign_off", "", map_index=number, **about)
        return list(questions)

    def vote(self, user: str, choice: str = "Approve") -> None:
        """Answer a ballot at Airflow's API."""
        for question in self.airflow.questions:
            if question["assigned_users"][0]["id"] == user:
                self.airflow.answer(question, user, choice, comment="seen")
        self.witness()

    def witness(self) -> None:
        """Have on record what came in at Airflow's API, also what the clerk closed."""
        for given in (one for one in self.airflow.witnessed() if one.kind == ANSWER_GIVEN):
            key = f"{ANSWER_GIVEN}/{given.actor}/{given.payload['map_index']}"
            if self.ledger.find(CHAIN, key) is None:
                self.ledger.append(CHAIN, ANSWER_GIVEN, given.payload, actor=given.actor, key=key)

    def decided(self, name: str, tested: Any, questions: Any) -> Any:
        task_id = f"quality.{name}.await_sign_off"
        waiting = AwaitSignOff(task_id=task_id, service="bike-shop", environment=name, tested=tested, ballots=questions)
        try:
            with self.within(task_id):
                return waiting.execute({})
        finally:
            self.witness()

    def signed_uat(self) -> Any:
        deployment, report, waivers = self.reviewed("uat")
        tested = self.closed("uat", report, waivers)
        questions = self.asked("uat", report, deployment, tested)
        self.vote("fay")
        self.vote("sam")
        self.decided("uat", tested, questions)
        return self.run("uat", path.conclude, self.plan)

    def soaked_staging(self) -> Any:
        _, report, waivers = self.reviewed("staging")
        begun = self.run("staging", path.begin_soak, self.plan, waivers)
        assert datetime.fromisoformat(begun["until"]) <= datetime.now(UTC)
        soak = self.run("staging", path.end_soak, self.plan, self.artifact, self.assets)
        self.closed("staging", report, waivers, soak)
        return self.run("staging", path.conclude, self.plan)

    def frozen(self, *passed: Any) -> RolloutPlan:
        return releases.rollout(
            version=self.plan.version,
            bundle=self.artifact.bundle,
            environments=tuple(EnvironmentPassed.from_xcom(one) for one in passed),
        )

    def said(self, plan: RolloutPlan) -> list[str]:
        """Return what speaks against a permit because of the environments."""
        catalogue = resources.catalogue_of("bike-shop")
        with self.within("implementation.wave_1"):
            found = by_its_chain(catalogue, plan, self.ledger.entries(CHAIN), partial(count_sign_off, catalogue))
        circumstances = Circumstances(
            frozen=None,
            decision=None,
            catalogue="c" * 64,
            bundle=None,
            quality=None,
            environments=found["environments"],
        )
        said = (one.what for one in objections(plan, circumstances, datetime.now(UTC)))
        return [one for one in said if one.startswith(("lab", "uat", "staging", "The plan names"))]


def plain(value: Any) -> Any:
    return value.to_xcom() if hasattr(value, "to_xcom") else value


@pytest.fixture
def way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    ledger = MemoryLedger()
    store = {"conn_type": "fs", "extra": {"path": str(tmp_path / "store")}}
    monkeypatch.setenv(f"AIRFLOW_CONN_{resources.ARTIFACTS.upper()}", json.dumps(store))
    with ExitStack() as stack:
        fleet = stack.enter_context(sshd_fleet(tmp_path, 3))
        airflow = stack.enter_context(airflow_server())
        for connection, user in ((resources.AIRFLOW, "reader"), (resources.BOARD_CLERK, "board_clerk")):
            url = f"http://{user}:{ACCOUNTS[user]}@127.0.0.1:{airflow.port}"
            monkeypatch.setenv(f"AIRFLOW_CONN_{connection.upper()}", url)
        for room, name, value in (
            (resources, "ledger", lambda: ledger),
            (resources, "signer", lambda: SIGNER),
            (resources, "login", lambda _: fleet.login),
            (resources, "production", lambda *_: Production()),  # what AWS says of it is test_production's matter
            (review, "deployed", lambda *_: None),  # the event of the asset is Airflow's
        ):
            monkeypatch.setattr(room, name, value)
        found = Way(fleet, ledger, airflow, tmp_path, monkeypatch)
        found.describe()
        yield found


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    with mail_server(monkeypatch) as box:
        yield box


def kinds(way: Way) -> list[tuple[str, str]]:
    return [
        (entry.kind, entry.payload["environment"])
        for entry in way.ledger.entries(CHAIN)
        if entry.kind.startswith(("path.", "sign_off."))
    ]


def test_a_release_goes_through_two_environments_on_real_hosts_and_a_permit_proves_both(way: Way) -> None:
    way.begin()
    uat = way.signed_uat()
    staging = way.soaked_staging()
    assert [machine.current for machine in way.fleet.machines] == [way.artifact.release] * 3
    shared = ("deployed", "suites_run", "loaded", "judged", "gated")
    assert kinds(way) == [
        *((f"path.{kind}", "uat") for kind in (*shared, "tested")),
        ("sign_off.decided", "uat"),
        ("path.passed", "uat"),
        *((f"path.{kind}", "staging") for kind in (*shared, "soaked", "tested", "passed")),
    ]
    assert uat["signed_off"].startswith("Testers: approved by Fay Tanaka (fay) and Sam Novak (sam)")
    plan = way.frozen(uat, staging)
    assert way.said(plan) == []
    assert "The plan names uat between test and production" in way.said(way.frozen(uat))[0]
    assert "The plan names no environment" in way.said(releases.rollout())[0]

    way.airflow.wipe("quality.uat.sign_off")
    assert way.said(plan) == [
        "uat: a recount of the votes does not sign it off. Testers: not approved in time: only 0 of 2 approvals by the "
        "deadline. Dan Mbeki (dan), Fay Tanaka (fay) and Sam Novak (sam) did not answer in time."
    ]


def test_an_environment_without_hosts_is_passed_by_its_suite_and_its_sign_off_and_a_permit_proves_it(way: Way) -> None:
    signs = {"title": "Security team", "people": ["cora"]}
    without = {"lab": {"after": ["test"], "suites": ["scan"], "sign_off": signs}}
    way.describe(without=without, uat={"suites": ["api"]}, staging={"suites": ["api"]})
    way.begin()
    way.run("lab", path.begin, way.plan)
    suites = way.run("lab", path.run_suites, way.plan)
    report = way.run("lab", path.judge, way.in_force, way.plan, way.artifact, suites)
    assert (report["success"], {one["suite"] for one in report["suites"]}) == (True, {"tests", "kinds", "record"})
    assert way.run("lab", path.prepare_waivers, way.in_force, way.plan, report) == []
    tested = way.closed("lab", report, way.run("lab", path.pass_gate, way.in_force, way.plan, report))
    questions = way.asked("lab", report, None, tested)
    assert "This environment has no hosts of its own" in questions[0]["body"]
    assert way.artifact.bundle.sha256 in questions[0]["body"]
    way.vote("cora")
    way.decided("lab", tested, questions)
    lab = way.run("lab", path.conclude, way.plan)
    assert kinds(way) == [
        *((f"path.{kind}", "lab") for kind in ("suites_run", "judged", "gated", "tested")),
        ("sign_off.decided", "lab"),
        ("path.passed", "lab"),
    ]
    plan = way.frozen(lab, way.signed_uat(), way.soaked_staging())
    assert way.said(plan) == []
    way.airflow.wipe("quality.lab.sign_off")
    assert [one.partition(".")[0] for one in way.said(plan)] == ["lab: a recount of the votes does not sign it off"]


def test_a_vote_that_did_not_come_in_at_the_api_is_found_when_the_permit_is_asked(way: Way) -> None:
    way.begin()
    plan = way.frozen(way.signed_uat(), way.soaked_staging())
    for question in way.airflow.questions:
        if question["assigned_users"][0]["id"] == "dan":
            way.airflow.answer(question, "dan", "Approve")
    with pytest.raises(Exception, match="was not submitted through Airflow's API"):
        way.said(plan)


def test_too_few_approvals_end_the_release_and_nothing_passes(way: Way) -> None:
    way.begin()
    deployment, report, waivers = way.reviewed("uat")
    tested = way.closed("uat", report, waivers)
    questions = way.asked("uat", report, deployment, tested)
    way.vote("fay", "Reject")
    way.vote("sam", "Reject")
    with pytest.raises(AirflowFailException, match="2 approvals can no longer be reached"):
        way.decided("uat", tested, questions)
    with pytest.raises(AirflowFailException, match="The ledger does not have its sign-off in uat"):
        way.run("uat", path.conclude, way.plan)


def test_a_host_that_was_changed_meanwhile_is_not_what_was_tested(way: Way, tmp_path: Path) -> None:
    way.begin()
    _, report, waivers = way.reviewed("uat")
    link = way.fleet.machines[0].root / "current"
    (way.fleet.machines[0].root / "releases" / "9.9.9-0123456789ab").mkdir()
    link.unlink()
    link.symlink_to("releases/9.9.9-0123456789ab")
    with pytest.raises(AirflowFailException, match="uat was changed while"):
        way.closed("uat", report, waivers)


def test_what_hosts_before_production_may_run_is_on_record_also_of_a_deployment_that_failed(way: Way) -> None:
    def may_run(environment: str) -> list[Any]:
        entered = way.ledger.entries(place_of(environment, "bike-shop"), kind=ENVIRONMENT_ENTERED)
        found = sandbox_record(entered, way.ledger.entries, environment)
        return [found and found.allowed(host.address, host.instance_id) for host in way.hosts[environment]]

    way.begin()
    assert may_run("uat") == [None]
    for name in ("uat", "staging"):
        way.run(name, path.book, way.plan)
    way.run("uat", path.deploy, way.artifact, way.assets)
    assert may_run("uat") == [{way.artifact.release}]
    way.fleet.machines[2].turn_off()
    with pytest.raises(Exception, match="1 of 2 hosts of staging did not get the release"):
        way.run("staging", path.deploy, way.artifact, way.assets)
    (failed,) = way.ledger.entries(CHAIN, kind=DEPLOYMENT_FAILED)
    assert [one["outcome"] for one in failed.payload["results"]] == ["deployed", "failed"]
    assert may_run("staging") == [{way.artifact.release}, None]


def test_people_and_suites_are_judged_together_and_a_failed_case_is_a_defect_of_its_environment(
    way: Way, mailbox: Mailbox
) -> None:
    way.describe(cases=True)
    way.begin(previous_commit=None)
    report = way.judged_with_people("Failed")
    assert {suite["suite"] for suite in report["suites"]} >= {"tests", "performance", "cases"}
    assert [(one["suite"], one["expected"]) for one in report["failures"]] == [("cases", "no test case failed")]
    assert [(one["id"], one["state"], one["environment"]) for one in report["defects"]] == [("basket-1", "new", "uat")]
    assert mailbox.to == ["sam", "team"]
    with pytest.raises(AirflowFailException, match="in uat failed"):
        way.run("uat", path.pass_gate, way.in_force, way.plan, report)


def _with_known_defect(way: Way) -> None:
    """Have a release of a service whose case of uat has a defect that is accepted as known."""
    way.describe(cases=True)
    way.begin(previous_commit=None)
    found = CaseResult.model_validate({**FOUND, "artifact": way.artifact.bundle.sha256, "binds": "0" * 64})
    (defect,) = new_defects([], [found], service="bike-shop", owner="us", version="1.0.0", release="before")
    until = datetime.now(UTC) + timedelta(days=1)
    known = AcceptedDefect(id=defect.id, by="ben", reason="Few do", until=until)
    for kind, one in ((DEFECT_OPENED, defect), (DEFECT_ACCEPTED, known)):
        way.ledger.append("defects/bike-shop", kind, one.to_xcom(), actor="ben", key=kind)


def test_another_failure_of_its_case_is_not_covered_by_a_known_defect(way: Way, mailbox: Mailbox) -> None:
    _with_known_defect(way)
    report = way.judged_with_people("Failed", step="1", defect="basket-1")
    (failure,) = report["failures"]
    assert (failure["suite"], failure["expected"]) == ("cases", "no test case failed")
    told = "basket-1 is accepted as known at the step “It is the sum”, but this failed at the step “Add two bikes”"
    assert told in failure["rows"][0]
    assert [(one["id"], one["state"]) for one in report["defects"]] == [("basket-1", "accepted"), ("basket-2", "new")]
    assert mailbox.to == ["sam", "team"], "the developers hear of the new defect"


def test_a_known_defect_lets_its_case_fail_and_the_plan_shows_it(way: Way, mailbox: Mailbox) -> None:
    _with_known_defect(way)
    report = way.judged_with_people("Failed", step="2", defect="basket-1")
    assert report["success"], report["failures"]
    (line,) = report["defects"]
    assert (line["id"], line["state"], line["stops"]) == ("basket-1", "accepted", "its test case failed again")
    waivers = way.run("uat", path.pass_gate, way.in_force, way.plan, report)
    tested = way.closed("uat", report, waivers)
    questions = way.asked("uat", report, way.left["uat", "deploy"], tested)
    assert "open from before, accepted as known until" in questions[0]["body"]
    way.vote("fay")
    way.vote("sam")
    way.decided("uat", tested, questions)
    passed = way.run("uat", path.conclude, way.plan)
    assert passed["defects"] == report["defects"]
    assert passed["cases"]["counts"] == {"failed": 1}
    plan = way.frozen(passed, way.soaked_staging())
    assert way.said(plan) == []


def test_the_data_of_an_environment_is_prepared_before_its_suites_and_kept(way: Way) -> None:
    way.describe(uat={"data": {"command": ["sh", "-c", 'echo "filled $BASE_URL"']}})
    way.begin()
    way.reviewed("uat")
    runs = way.left["uat", "run_suites"]
    assert f"filled http://{way.hosts['uat'][0].address}:".encode() in resources.store().get_bytes(
        Blob.model_validate(runs["data"])
    )
    way.reviewed("staging")
    assert "data" not in way.left["staging", "run_suites"]


def test_an_environment_without_its_data_ends_the_release(way: Way) -> None:
    way.describe(uat={"data": {"command": ["sh", "-c", "echo no database; exit 3"]}})
    way.begin()
    with pytest.raises(
        AirflowFailException, match=r"prepares the test data, ended with exit code 3[\s\S]*\nno database"
    ):
        way.reviewed("uat")
    assert ("path.suites_run", "uat") not in kinds(way)


def test_an_environment_has_the_thresholds_of_its_own(way: Way) -> None:
    way.describe(uat={"thresholds": {"min_tests": 6}})
    way.begin()
    with pytest.raises(AirflowFailException, match="in uat failed"):
        way.reviewed("uat")
    failed = [entry for entry in way.ledger.entries(CHAIN) if entry.kind == "path.judged"]
    assert failed[0].payload["success"] is False


def test_a_soak_that_was_cut_short_is_refused(way: Way) -> None:
    way.describe(staging={"soak": "PT1H"})
    way.begin()
    way.signed_uat()
    way.reviewed("staging")
    with pytest.raises(AirflowFailException, match=r"ran in staging for .* only; the soak is 1 hour"):
        way.run("staging", path.end_soak, way.plan, way.artifact, way.assets)


def test_what_the_policy_leaves_out_is_skipped_and_named(way: Way) -> None:
    way.describe()
    file = way.folder / "catalogue" / "policy.yaml"
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    data["change_types"]["normal"]["environments"] = ["uat"]
    file.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    way.begin()
    with pytest.raises(AirflowSkipException, match="names uat only"):
        way.run("staging", path.book, way.plan)
    left_out = way.run("staging", path.conclude, way.plan)
    assert left_out["left_out"] == "policy.yaml change_types.normal.environments names uat only"
    assert way.said(way.frozen(way.signed_uat(), left_out)) == []


def test_a_skipped_task_does_not_pass_an_environment_that_the_policy_asks(way: Way) -> None:
    way.begin()
    with pytest.raises(AirflowFailException, match="The ledger does not have what its tests came to in uat"):
        way.run("uat", path.conclude, way.plan)


def test_a_report_of_another_environment_is_not_taken(way: Way) -> None:
    way.begin()
    uat, staging = way.signed_uat(), way.soaked_staging()
    judged = {entry.payload["environment"]: entry for entry in way.ledger.entries(CHAIN) if entry.kind == "path.judged"}
    assert sha256_of(judged["uat"].payload) != sha256_of(judged["staging"].payload)
    swapped = way.frozen(uat | {"quality": staging["quality"]}, staging)
    assert "uat: what the plan says of it is not what the ledger has." in way.said(swapped)
