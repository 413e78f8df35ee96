"""A rollback on a real ledger: what it takes over from the release before, and everything that refuses it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException
from airflow.sdk.execution_time.context import set_current_context

from interlock.adapters.artifacts.store import ArtifactStore, Folder
from interlock.adapters.aws import ec2
from interlock.adapters.ledger.ledger import Ledger, open_ledger
from interlock.adapters.permits.issuer import PermitIssuer
from interlock.adapters.signing.signing import generate_key, load_signer
from interlock.domain.calendars.bookings import Booking
from interlock.domain.canonical import sha256_of
from interlock.domain.errors import LostRight
from interlock.domain.ledger.chain import INSTALLATION, release_chain
from interlock.domain.ledger.kinds import ENVIRONMENT_BOOKED, RELEASE_ENDED
from interlock.domain.permits.objections import objections
from interlock.domain.records import (
    BackOutPlan,
    FailedExpectation,
    LoadReport,
    LoadResult,
    QualityReport,
    Record,
    RolloutPlan,
    RunningRelease,
    SmokeReport,
    SmokeResult,
    Vote,
    Waiver,
)
from interlock.estate.settings import Settings
from interlock.estate.stack import postgres
from interlock.stages.controls import marks
from interlock.stages.release import planning, rollout
from interlock.stages.release.acceptance import acceptance_digest
from interlock.stages.rollback import earlier_release
from interlock.stages.rollback import planning as rollback_planning
from interlock.stages.rollback import policy as rollback_policy
from interlock.stages.runtime import bookings, permits, requests, resources, versions
from tests.factories import releases
from tests.integration.ledger_server import ledger_connection, witness_connection
from tests.running_task import asked_at_the_api
from tests.task_instance import task_instance

CONNECTION = "interlock_aws"
BACK = ("rollback_bike_shop", "manual__2026-11-24")
ROOT = Path(__file__).parents[2]
HOSTS = (releases.host(1), releases.host(2), releases.host(3))


def as_owner(settings: Settings, table: str, statement: str) -> None:
    """Do what nobody may: change or remove what is in the ledger."""
    with closing(postgres.connect(settings, postgres.LEDGER)) as connection, connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE ledger.{table} DISABLE TRIGGER append_only")
        cursor.execute(statement)
        cursor.execute(f"ALTER TABLE ledger.{table} ENABLE ALWAYS TRIGGER append_only")
        connection.commit()


def connect(patch: pytest.MonkeyPatch, **edits: Any) -> None:
    """Write the connection, with some edits."""
    about = {"conn_type": "aws", "login": "AKIA", "password": "secret", "extra": {"region_name": "eu-west-3"}, **edits}
    patch.setenv(f"AIRFLOW_CONN_{CONNECTION.upper()}", json.dumps(about))


class Office:
    """An installation in which releases were deployed, and what its tasks need."""

    def __init__(
        self, ledger: Ledger, witness: Ledger, store: ArtifactStore, signer: Any, patch: pytest.MonkeyPatch
    ) -> None:
        self.ledger, self.witness, self.store, self.signer, self.patch = ledger, witness, store, signer, patch
        self.form: dict[str, Any] = {"version": "1.1.0", "reason": "The checkout is broken", "incident": "INC-7"}
        self.user: str | None = "rita"
        self.pushed: dict[str, Any] = {}

    def put(self, chain: str, kind: str, what: Record | dict[str, Any], *, seal: bool = False) -> None:
        payload = what.to_xcom() if isinstance(what, Record) else what
        self.ledger.append(chain, kind, payload, actor="a task", key=f"{kind}/{len(self.ledger.entries(chain))}")
        if seal:
            self.ledger.sign_head(chain, self.signer)

    def deployed(
        self,
        version: str = "1.1.0",
        *,
        outcome: str = "deployed",
        quality: QualityReport | None = None,
        waivers: tuple[Waiver, ...] = (),
        risk: dict[str, bool] | None = None,
        board: bool = True,
        permits: bool = True,
        **changes: Any,
    ) -> str:
        """Let a release have been deployed; return its chain.

        :param board: the board approved it; ``permits``: each wave had one.
        """
        run = ("release_bike_shop", f"manual__{version}")
        chain, report = release_chain(*run), quality or releases.quality()
        bundle = self.store.put_bytes(f"the bytes of {version}".encode(), f"bike-shop-{version}.tar.gz")
        artifact = releases.artifact().model_copy(update={"version": version, "bundle": bundle})
        digest = acceptance_digest(artifact, report)
        plan = releases.rollout(
            version=version, bundle=bundle, quality_digest=sha256_of(report), acceptance_digest=digest, **changes
        )
        smoke = SmokeResult(host="h", path="/", expected="status 200, containing 'Bike shop'", found="", passed=True)
        load = LoadResult(host="h", path="/", requests=1, errors=0, p50_ms=1, p95_ms=1, p99_ms=1)
        self.put(chain, "release.requested", {"risk": risk or {}})
        self.put(chain, "plan.made", releases.plan(version=version))
        self.put(chain, "artifact.built", artifact)
        self.put(chain, "quality.judged", report)
        for waiver in waivers:
            self.put(chain, "quality.waived", waiver)
        self.put(chain, "acceptance.decided", releases.decision("acceptance", digest=digest))
        self.put(chain, "rollout.frozen", {**plan.to_xcom(), "digest": plan.digest}, seal=True)
        decided = releases.decision(digest=plan.digest, approved=board, required=True)
        self.put(chain, "board.decided", decided, seal=True)
        desk = PermitIssuer(self.signer, self.ledger, actor="a task")
        for wave, hosts in enumerate(plan.waves if permits else (), start=1):
            desk.redeem(
                desk.issue(
                    purpose="deploy",
                    chain=chain,
                    environment=plan.environment,
                    hosts=[host.address for host in hosts],
                    catalogue="c" * 64,
                    service="bike-shop",
                    wave=wave,
                    plan=plan.digest,
                    bundle=bundle.sha256,
                ),
                purposes=("deploy",),
                environment=plan.environment,
            )
        self.put(chain, "hosts.smoked", SmokeReport(results=(smoke,)))
        self.put(chain, "load.measured", LoadReport(moment="after", results=(load,), seconds=1))
        ended = releases.outcome().model_copy(update={"outcome": outcome, "version": version})
        self.put(chain, "release.closed", ended, seal=True)
        told = {"run": "/".join(run), "service": "bike-shop", "version": version, "change_type": "normal"}
        self.put(INSTALLATION, RELEASE_ENDED, {**told, "outcome": outcome})
        return chain

    def runs(self, version: str) -> None:
        """Let the hosts run a version."""
        said = tuple(
            RunningRelease(host=host.address, release=f"{version}-{'9' * 12}", version=version, commit="c" * 40)
            for host in HOSTS
        )
        self.patch.setattr(rollback_planning, "what_runs", lambda *_: said)

    def task(self, task: Any, *args: Any) -> Any:
        """Run a task's function as Airflow does."""
        ti = task_instance(BACK[0], task.function.__name__)
        ti.xcom_push.side_effect = lambda key, value: self.pushed.__setitem__(key, value)
        return self.within(lambda: task.function(*args), ti)

    def within(self, what: Callable[[], Any], ti: Any = None) -> Any:
        dag_run = asked_at_the_api(self.witness, BACK, self.user)
        context: Any = {"ti": ti, "dag_run": dag_run, "params": self.form}
        with set_current_context(context):
            return what()

    def planned(self) -> tuple[Any, Any]:
        in_force = self.task(rollback_policy.resolve_rollback, "bike-shop")
        return in_force, self.task(rollback_planning.plan_rollback, "bike-shop", in_force)

    def frozen(self) -> RolloutPlan:
        """Go as far as the frozen plan."""
        in_force, plan = self.planned()
        self.task(planning.decide_plan, "bike-shop", plan)
        assets = releases.assets()
        self.put(release_chain(*BACK), "assets.checked", assets)
        artifact = self.task(earlier_release.take_artifact, "bike-shop", plan)
        report = self.task(earlier_release.take_report, artifact)
        waivers = self.task(earlier_release.take_waivers, report)
        accepted = self.task(earlier_release.take_acceptance, artifact, report)
        facts = ("bike-shop", in_force, plan, assets.to_xcom(), artifact, report, waivers, accepted)
        return RolloutPlan.from_xcom(self.task(rollout.freeze_plan, *facts))

    def said(self, plan: RolloutPlan) -> str:
        """Say what speaks against a permit for the plan now."""

        def ask() -> str:
            catalogue = resources.catalogue_of("bike-shop")
            found = permits.circumstances(catalogue, plan, rollout.count(catalogue, plan))
            return " ".join(one.what for one in objections(plan, found, datetime.now(UTC)))

        ti = task_instance(BACK[0], "implementation.wave_1")
        return str(self.within(ask, ti))


@pytest.fixture
def office(server: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    for table in ("heads", "entries"):
        as_owner(server, table, f"DELETE FROM ledger.{table}")
    generate_key(tmp_path / "key")
    signer, store = load_signer((tmp_path / "key").as_uri()), ArtifactStore(Folder(tmp_path / "store"))
    back = BackOutPlan(releases={}, versions={}, on_hosts=True)
    for room, name, value in (
        (resources, "ledger", lambda: open_ledger(ledger_connection(server))),
        (resources, "signer", lambda: signer),
        (resources, "store", lambda: store),
        (resources, "aws", lambda *_: None),
        (ec2, "find_hosts", lambda *_: HOSTS),
        (ec2, "find_instances", lambda *_: HOSTS),
        (rollout, "prove_back_out", lambda *_: back),  # what hosts say of themselves is the fleet's tests
        (permits, "_done_by_hand", lambda *_: ()),
        (permits.installation, "faults_now", lambda *_, **__: ()),  # test_permit_installation.py
        (resources, "connections_of", lambda _: frozenset((resources.LEDGER, CONNECTION))),
        (resources, "connection_or_none", lambda name: BaseHook.get_connection(name) if name == CONNECTION else None),
    ):
        monkeypatch.setattr(room, name, value)
    connect(monkeypatch)
    with open_ledger(ledger_connection(server)) as ledger, open_ledger(witness_connection(server)) as witness:
        made = Office(ledger, witness, store, signer, monkeypatch)
        made.runs("1.3.0")
        yield made


def test_production_goes_back_to_what_it_ran_by_the_same_permits_and_without_a_board(office: Office) -> None:
    before = office.deployed("1.1.0")
    plan = office.frozen()
    closed = office.ledger.entries(before, kind="release.closed")[-1]
    assert plan.rolls_back is not None
    assert (plan.rolls_back.chain, plan.rolls_back.closed) == (before, closed.hash)
    assert plan.rolls_back.template.startswith("rollback: ")
    assert (plan.version, plan.change_type, plan.requested_by) == ("1.1.0", "standard", "rita")
    assert [host for wave in plan.waves for host in wave] == list(HOSTS)
    assert office.said(plan) == ""


def test_a_connection_that_was_edited_after_the_plan_was_frozen_is_found_by_what_it_is(office: Office) -> None:
    office.deployed("1.1.0")
    plan = office.frozen()
    assert plan.connections is not None
    assert set(plan.connections.of[CONNECTION]) == {"type", "login", "extra.region_name"}
    connect(office.patch, password="rotated")
    assert office.said(plan) == ""
    connect(office.patch, extra={"region_name": "eu-west-3", "endpoint_url": "http://evil.example.com"})
    assert office.said(plan) == (
        "The connection interlock_aws is not what it was when the plan was frozen: it differs in extra.endpoint_url."
    )
    old = plan.model_copy(update={"connections": None})
    assert "connection" not in office.said(old), "a plan from before has nothing to compare with"


def test_the_chain_of_a_rollback_has_what_a_release_has_and_the_proof_of_the_one_before(office: Office) -> None:
    before = office.deployed("1.1.0")
    office.frozen()
    entries = {entry.kind: entry.payload for entry in office.ledger.entries(release_chain(*BACK))}
    kinds = ("release.requested", "policy.resolved", "plan.made", "plan.decided", "artifact.built", "quality.judged")
    assert {*kinds, "acceptance.decided", "rollout.frozen", "rollback.proven"} <= set(entries)
    then = {entry.kind: entry.payload for entry in office.ledger.entries(before)}
    for taken in ("artifact.built", "quality.judged"):
        assert entries[taken] == then[taken]
    assert entries["acceptance.decided"]["required"] is False
    assert before in entries["acceptance.decided"]["reason"]
    proof = entries["rollback.proven"]
    assert [entry["kind"] for entry in proof["entries"]] == ["rollout.frozen", "release.closed"]
    assert len(proof["heads"]) == 2


@pytest.mark.parametrize(
    ("version", "words"),
    [("1.0.0", "production never ran 1.0.0"), ("1.4.0", "1.4.0 is later than the running version 1.3.0")],
)
def test_a_version_that_is_no_way_back_is_refused(office: Office, version: str, words: str) -> None:
    office.deployed("1.1.0")
    office.deployed("1.4.0")
    office.form["version"] = version
    with pytest.raises(AirflowFailException, match=words) as refused:
        office.planned()
    assert "choose one of 1.1.0" in str(refused.value)


@pytest.mark.parametrize("outcome", ["backed_out", "failed", "rejected"])
def test_a_release_that_did_not_end_well_is_nothing_to_go_back_to(office: Office, outcome: str) -> None:
    office.deployed("1.1.0", outcome=outcome)
    with pytest.raises(AirflowFailException, match=r"never ran 1\.1\.0"):
        office.planned()


@pytest.mark.parametrize("lacks", ["board", "permits"])
def test_what_no_board_approved_or_no_permit_let_in_was_not_deployed_whatever_its_chain_says(
    office: Office, lacks: str
) -> None:
    """Whoever has the password of the ledger's writer can write that a rejected release was deployed."""
    office.deployed("1.1.0", **{lacks: False})
    with pytest.raises(AirflowFailException, match=r"never ran 1\.1\.0"):
        office.planned()


def test_a_permit_that_the_installation_did_not_sign_let_nobody_in(office: Office, tmp_path: Path) -> None:
    real = office.signer
    generate_key(tmp_path / "forger")
    forged = PermitIssuer(load_signer((tmp_path / "forger").as_uri()), office.ledger, actor="mallory")
    chain = office.deployed("1.1.0", permits=False)
    frozen = office.ledger.entries(chain, kind="rollout.frozen")[-1].payload
    for wave, hosts in enumerate(frozen["waves"], start=1):
        forged.issue(
            purpose="deploy",
            chain=chain,
            environment="production",
            hosts=[host["address"] for host in hosts],
            catalogue="c" * 64,
            wave=wave,
            plan=frozen["digest"],
            bundle=frozen["bundle"]["sha256"],
        )
    assert office.signer is real
    with pytest.raises(AirflowFailException, match=r"never ran 1\.1\.0"):
        office.planned()


def test_an_end_that_nobody_signed_proves_no_deployment(office: Office) -> None:
    chain = office.deployed("1.1.0", outcome="failed")
    office.put(chain, "release.closed", releases.outcome())
    with pytest.raises(AirflowFailException, match=r"never ran 1\.1\.0"):
        office.planned()


def test_the_ledger_takes_no_decision_after_the_end(office: Office) -> None:
    chain = office.deployed("1.1.0", outcome="rejected")
    with pytest.raises(LostRight, match=r"has ended, and board\.decided must not follow"):
        office.put(chain, "board.decided", releases.decision())


def test_a_rehearsal_or_another_environment_is_nothing_to_go_back_to(office: Office) -> None:
    office.deployed("1.1.0", rehearsal=True, environment="test")
    office.deployed("1.2.0", environment="staging")
    for version in ("1.1.0", "1.2.0"):
        office.form["version"] = version
        with pytest.raises(AirflowFailException, match=f"never ran {version}"):
            office.planned()


def test_a_chain_that_somebody_edited_proves_nothing(office: Office, server: Settings) -> None:
    chain = office.deployed("1.1.0")
    plan = office.frozen()
    office.put(release_chain("release_bike_shop", "other"), "finding", {"what": "nothing"})
    statement = f"UPDATE ledger.entries SET actor = 'mallory' WHERE chain = '{chain}' AND kind = 'quality.judged'"
    as_owner(server, "entries", statement)
    assert f"According to the ledger, production never ran {plan.release}" in office.said(plan)
    with pytest.raises(AirflowFailException, match=r"never ran 1\.1\.0"):
        office.planned()


def test_bytes_that_are_gone_or_others_are_refused(office: Office, tmp_path: Path) -> None:
    office.deployed("1.1.0")
    _, plan = office.planned()
    (stored,) = (tmp_path / "store").rglob("*.tar.gz")
    stored.chmod(0o644)
    stored.write_bytes(b"other bytes")
    with pytest.raises(AirflowFailException):
        office.task(earlier_release.take_artifact, "bike-shop", plan)
    shutil.rmtree(stored.parent)
    with pytest.raises(AirflowFailException):
        office.task(earlier_release.take_artifact, "bike-shop", plan)


def mark(office: Office, verdict: str, version: str = "1.1.0", *, run: str = "one") -> Any:
    form = {"service": "bike-shop", "environment": "production", "version": version, "verdict": verdict}
    ti = task_instance("mark_version", "record_mark")
    dag_run = asked_at_the_api(office.witness, ("mark_version", run), office.user)
    context: Any = {"ti": ti, "dag_run": dag_run, "params": {**form, "reason": "It loses orders."}}
    with set_current_context(context):
        return marks.record_mark.function()


def test_what_is_marked_bad_is_refused_until_it_is_good_again(office: Office) -> None:
    office.deployed("1.1.0")
    mark(office, "bad")
    with pytest.raises(AirflowFailException, match=r"1\.1\.0 of bike-shop is marked bad in production by rita"):
        office.planned()
    mark(office, "good", run="two")
    office.planned()
    assert len(office.ledger.entries(INSTALLATION, kind="version.*")) == 2
    assert office.ledger.check(INSTALLATION, [office.signer.public_key]) is None


def test_what_is_marked_after_the_plan_was_frozen_gets_no_permit(office: Office) -> None:
    office.deployed("1.3.0")
    office.deployed("1.1.0")
    plan = office.frozen()
    mark(office, "bad")
    assert "marked bad in production by rita" in office.said(plan)
    mark(office, "good", run="two")
    mark(office, "pin", "1.3.0", run="three")
    assert "production of bike-shop is pinned to 1.3.0 by rita" in office.said(plan)
    mark(office, "pin", "1.1.0", run="four")
    assert office.said(plan) == ""


def test_a_mark_is_of_a_person_a_version_and_a_place_that_there_is(office: Office) -> None:
    with pytest.raises(AirflowFailException, match="not a semantic version"):
        mark(office, "bad", "one")
    with pytest.raises(AirflowFailException, match=r"bike-shop has no version 7\.0\.0 that could be marked"):
        mark(office, "bad", "7.0.0")
    office.deployed("1.1.0")
    with pytest.raises(AirflowFailException, match="Input should be"):
        mark(office, "worse")
    office.user = None
    office.patch.setattr(requests, "WITNESS_TIMEOUT_SECONDS", 0)
    with pytest.raises(AirflowFailException, match="the ledger has no request for it"):
        mark(office, "bad", run="two")
    assert office.ledger.entries(INSTALLATION, kind="version.*") == ()


def test_a_task_that_marks_again_writes_once(office: Office) -> None:
    office.deployed("1.1.0")
    assert mark(office, "bad") == mark(office, "bad")
    assert len(office.ledger.entries(INSTALLATION, kind="version.*")) == 1


def test_without_a_version_whoever_asks_is_shown_what_there_is(office: Office) -> None:
    office.deployed("1.0.5")
    office.deployed("1.1.0")
    office.deployed("1.2.0", outcome="backed_out")
    office.form["version"] = None
    in_force = office.task(rollback_policy.resolve_rollback, "bike-shop")
    (asked,) = office.task(rollback_planning.offer_releases, "bike-shop", in_force)
    offered, last, cancel = (option.partition(" · ")[0] for option in asked["options"])
    assert (offered, last, cancel) == ("1.1.0", "1.0.5", rollback_planning.CANCEL)
    assert [user["id"] for user in asked["assigned_users"]] == ["rita", "board_clerk"]

    def answered(user: str, choice: str) -> None:
        office.patch.setattr(
            rollback_planning, "votes_on", lambda *_: (Vote(user=user, assigned="rita", choice=choice),)
        )

    for user, choice in (("olga", asked["options"][1]), ("rita", rollback_planning.CANCEL)):
        answered(user, choice)
        with pytest.raises(AirflowFailException, match="No release was chosen"):
            office.task(rollback_planning.plan_rollback, "bike-shop", in_force)
    answered("rita", asked["options"][1])
    assert office.task(rollback_planning.plan_rollback, "bike-shop", in_force)["version"] == "1.0.5"


def test_a_rollback_waits_until_the_release_that_is_under_way_has_ended(office: Office) -> None:
    office.deployed("1.0.5")
    in_force = office.task(rollback_policy.resolve_rollback, "bike-shop")
    office.patch.setattr(bookings, "is_under_way", lambda chain: chain == "release/release_bike_shop/other")
    since = datetime.now(UTC)
    other = Booking(
        environment="production",
        service="bike-shop",
        holder="release/release_bike_shop/other",
        version="1.1.0",
        by="rita",
        since=since,
        until=since + timedelta(hours=6),
    )
    office.put("booking/production/bike-shop", ENVIRONMENT_BOOKED, other.model_dump(mode="json"))
    with pytest.raises(AirflowRescheduleException):
        office.task(rollback_planning.offer_releases, "bike-shop", in_force)
    office.patch.setattr(bookings, "is_under_way", lambda chain: False)
    assert office.task(rollback_planning.offer_releases, "bike-shop", in_force) == []


def test_a_rollback_that_no_person_asked_for_is_refused(office: Office) -> None:
    office.deployed("1.1.0")
    office.user = None
    office.patch.setattr(requests, "WITNESS_TIMEOUT_SECONDS", 0)
    with pytest.raises(AirflowFailException, match="the ledger has no request for it"):
        office.planned()


def test_past_a_release_without_a_way_back_only_a_board_goes(office: Office) -> None:
    office.deployed("1.0.5", risk={"irreversible": True})
    office.deployed("1.1.0")
    office.planned()
    office.deployed("1.2.0", outcome="backed_out", risk={"irreversible": True})
    office.planned()
    office.deployed("1.3.0", risk={"irreversible": True})
    with pytest.raises(AirflowFailException, match="irreversible was answered with yes"):
        office.planned()


def with_policy(office: Office, folder: Path, old: str, new: str) -> None:
    shutil.copytree(ROOT / "include" / "catalogue", folder / "catalogue")
    policy = folder / "catalogue" / "policy.yaml"
    text = policy.read_text()
    assert old in text
    policy.write_text(text.replace(old, new, 1))
    office.patch.setenv("INTERLOCK_CATALOGUE", str(folder / "catalogue"))


def test_a_policy_without_a_template_for_it_allows_no_rollback(office: Office, tmp_path: Path) -> None:
    office.deployed("1.1.0")
    with_policy(office, tmp_path, "steps: [rollback]", "steps: [same]")
    with pytest.raises(AirflowFailException, match="The release is not a standard change of bike-shop"):
        office.planned()


def test_a_policy_whose_template_is_for_less_risk_allows_no_rollback(office: Office, tmp_path: Path) -> None:
    office.deployed("1.1.0")
    with_policy(office, tmp_path, "risk_up_to: 60", "risk_up_to: 1")
    with pytest.raises(AirflowFailException, match="allows a risk of 1 at most"):
        office.planned()


def test_where_standard_changes_need_a_board_a_rollback_does_too(office: Office, tmp_path: Path) -> None:
    office.deployed("1.1.0")
    with_policy(
        office, tmp_path, "  standard:\n    acceptance: false", "  standard:\n    acceptance: false\n    board: cab"
    )
    office.patch.setattr(rollout, "votes_on", lambda *_: ())
    plan = office.frozen()
    assert plan.decide_by is not None
    assert "does not approve the plan" in office.said(plan)


def test_a_waiver_of_then_counts_while_it_holds(office: Office) -> None:
    failure: FailedExpectation = releases.failure()
    now = datetime.now(UTC)
    waiver = Waiver(
        expectation=failure.expected,
        suite=failure.suite,
        reason="It is slow, and known to be.",
        by="ben",
        at=now - timedelta(days=2),
        until=now + timedelta(days=1),
    )
    report = releases.quality(failure)
    office.deployed("1.1.0", quality=report, waivers=(waiver,))
    plan = office.frozen()
    assert plan.waivers == (waiver,)
    assert office.said(plan) == ""
    over = waiver.model_copy(update={"until": now - timedelta(days=1)})
    office.deployed("1.0.5", quality=report, waivers=(over,))
    office.form["version"] = "1.0.5"
    with pytest.raises(AirflowFailException, match="was deployed with waivers that have expired: performance"):
        office.frozen()


def test_another_release_that_changed_the_hosts_since_voids_the_plan(office: Office) -> None:
    office.deployed("1.1.0")
    plan = office.frozen()
    other = release_chain("release_bike_shop", "manual__other")
    used = {"purpose": "inspect", "environment": "production", "hosts": [HOSTS[0].address]}
    office.put(other, "permit.used", {"permit": used})
    assert office.said(plan) == ""
    office.put(other, "permit.used", {"permit": {**used, "purpose": "deploy"}})
    assert f"{other} changed hosts of production" in office.said(plan)


def test_a_rollback_asks_only_for_what_the_release_answered_then(office: Office) -> None:
    office.deployed("1.1.0")
    plan = office.frozen()
    described = resources.catalogue_of("bike-shop").service
    asked = versions.as_it_was(described, plan)
    assert [check.path for check in asked.smoke] == ["/"]
    assert asked.load.paths == ("/",)
    release = plan.model_copy(update={"rolls_back": None})
    assert versions.as_it_was(described, release) is described


def test_a_decision_of_then_about_other_bytes_is_refused(office: Office) -> None:
    office.deployed("1.1.0")
    _, plan = office.planned()
    artifact = office.task(earlier_release.take_artifact, "bike-shop", plan)
    report = office.task(earlier_release.take_report, artifact)
    other = {**report, "docs": "elsewhere"}
    office.put(release_chain(*BACK), "quality.judged", other)
    with pytest.raises(AirflowFailException, match="another artifact or another quality report"):
        office.task(earlier_release.take_acceptance, artifact, other)
