"""What the tasks of a train do: a real repository, Airflow's API, and a ledger in memory."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from airflow.sdk.api.datamodels._generated import DagRunType
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowNotFoundException,
    AirflowRescheduleException,
    AirflowSkipException,
    TaskDeferred,
)

from interlock.adapters.source import git
from interlock.domain.board.questions import ASK_TRAIN_BOARD
from interlock.domain.calendars.bookings import booking_chain
from interlock.domain.canonical import sha256_of
from interlock.domain.change.request import parse_request
from interlock.domain.errors import PolicyViolation, TransientError
from interlock.domain.ledger.chain import INSTALLATION, release_chain
from interlock.domain.ledger.kinds import (
    ANSWER_GIVEN,
    ENVIRONMENT_BOOKED,
    MANIFEST_FROZEN,
    PASSENGER_ARRIVED,
    PASSENGER_DEPARTED,
    QUESTION_WORDED,
    RUN_ASKED,
    TRAIN_ARRIVED,
    TRAIN_DEPARTED,
)
from interlock.domain.ledger.witness import AskedRun, GivenAnswer
from interlock.domain.outbox.facts import statements
from interlock.domain.records import RolloutPlan, TrainTicket
from interlock.domain.trains.manifest import CONDUCTOR, Manifest
from interlock.domain.trains.passengers import passenger_form, passenger_run
from interlock.locations import CATALOGUE
from interlock.stages.approvals import ballots
from interlock.stages.approvals.people import BINDING
from interlock.stages.release import planning, rollout
from interlock.stages.runtime import calendars, conflicts, resources
from interlock.stages.trains import arrival, board, boarding, common, departure, passengers
from tests.airflow_server import AirflowServer
from tests.clock import NOW
from tests.dag_run import dag_run
from tests.factories import releases
from tests.integration.test_service_now import DESCRIBED
from tests.memory_ledger import MemoryLedger
from tests.witness import SIGNER, asked_payload, digest_of, given_payload, worded_payload

pytestmark = pytest.mark.usefixtures("clock")

DAY = f"{NOW + timedelta(days=3):%a}".upper()
"""Of the cadence: never today, whenever the tests run."""
TRAIN = f"""\
name: shops
title: The shops' train
owner: the office
time_zone: UTC
cadence: {{ cron: "0 20 * * {DAY}" }}
boarding: {{ opens: P3D, cut_off: PT2H }}
freeze: {{ then: move, farthest: P1D }}
passengers:
  - {{ service: stock, tags: "1.*" }}
  - {{ service: till, tags: "1.*", after: [stock] }}
  - {{ service: bike-shop, tags: "1.*" }}
"""
SERVICES = ("stock", "till", "bike-shop")
RUN = ("train_shops", "manual__1")
CHAIN = release_chain(*RUN)
MINUTE = timedelta(minutes=1)
STOP = {"id": "1", "scope": "everything", "reason": "Data is lost", "by": "ben", "until": "2099-01-01T00:00:00Z"}


def run_of_passenger(manifest: Any, service: str) -> str:
    frozen = Manifest.from_xcom(manifest)
    one = frozen.passenger(service)
    assert one is not None
    return passenger_run("shops", frozen.departure, one.version)


@contextmanager
def clock_at(instant: datetime) -> Iterator[None]:
    """Let it be some time for what a train does; what comes into the ledger meanwhile is of now."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return instant.astimezone(tz)

    with ExitStack() as clocks:
        for module in (boarding, board, common, departure, calendars, ballots):
            clocks.enter_context(patch.object(module, "datetime", Clock))
        yield


class Office:
    """A catalogue with three services and a train, a repository, Airflow and a ledger."""

    def __init__(self, folder: Path, url: str, airflow: AirflowServer) -> None:
        self.catalogue, self.url, self.airflow = folder, url, airflow
        self.ledger = MemoryLedger()
        self.results: dict[Any, Any] = {}
        self.left: dict[Any, Any] = {}
        self.repository: git.Repository | None = None
        self.troubles: dict[str, Exception] = {}
        """Service: what its repository answers."""

    @contextmanager
    def opened(self, service: Any) -> Iterator[git.Repository]:
        if service is not None and service.name in self.troubles:
            raise self.troubles[service.name]
        if self.repository is None:
            self.repository = git.open_repository(self.url, self.catalogue.parent / "repository.git")
        yield self.repository

    def change(self, old: str, new: str) -> None:
        file = self.catalogue / "trains" / "shops.yaml"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new, 1))

    def freeze(self, start: datetime, end: datetime, scope: str = "{}") -> None:
        (self.catalogue / "calendars" / "office.yaml").write_text(
            f"title: C\nowner: o\ntime_zone: UTC\nentries:\n  - name: audit\n    title: Audit\n    kind: freeze\n"
            f"    scope: {scope}\n    from: {start:%Y-%m-%dT%H:%M}\n    until: {end:%Y-%m-%dT%H:%M}\n"
        )

    def override(self, service: str, until: datetime) -> None:
        """Have somebody override the freeze for a service."""
        said = {"place": "audit in calendars/office.yaml", "service": service, "environment": "production"}
        said |= {"reason": "It cannot wait", "by": "ben", "role": "operations", "until": until.isoformat()}
        self.ledger.append(INSTALLATION, "freeze.overridden", said, actor="ben", key=f"override-{service}")

    def break_file(self, service: str) -> None:
        (self.catalogue / "services" / f"{service}.yaml").write_text("name: [")

    def stop(self, scope: str = "everything") -> None:
        self.ledger.append(INSTALLATION, "emergency_stop.declared", {**STOP, "scope": scope}, actor="ben", key="stop")

    def deployed(self, service: str, version: str, sha: str = "c" * 40) -> None:
        """Have it on record that a release of a service was deployed."""
        chain = release_chain(f"release_{service.replace('-', '_')}", f"of_{version}")
        self.ledger.append(chain, "plan.made", {"version": version, "commit": {"sha": sha}}, actor="x", key="plan")
        told = {"run": chain.removeprefix("release/"), "service": service, "version": version}
        told |= {"outcome": "deployed", "change_type": "normal"}
        self.ledger.append(INSTALLATION, "release.ended", told, actor="x", key=chain)

    def run(self, task: Any, *given: Any, user: str | None = "rita", params: Any = None, **run: Any) -> Any:
        """Run a task of the train."""
        named = {"run_type": DagRunType.MANUAL, **run}
        with dag_run(
            f"{RUN[0]}/x",
            run_id=RUN[1],
            user=user,
            params=params or {},
            results=self.results,
            ledger=self.ledger,
            **named,
        ) as self.left:
            return task.function(*given)

    def execute(self, operator: Any) -> Any:
        with dag_run(
            f"{RUN[0]}/{operator.task_id}", run_id=RUN[1], results=self.results, run_type=DagRunType.MANUAL
        ) as self.left:
            return operator.execute({})

    def manifest(self, **run: Any) -> dict[str, Any]:
        planned_run = self.run(boarding.open_train, "shops", **run)
        return dict(self.run(boarding.freeze_manifest, "shops", planned_run))

    def vote(self, manifest: Any, *choices: tuple[str, str]) -> None:
        """Have people answer their ballots, at Airflow's API."""
        frozen = Manifest.from_xcom(manifest)
        for index, (user, choice) in enumerate(choices):
            asked = self.airflow.ask(ASK_TRAIN_BOARD, user, body=BINDING.format(digest=frozen.digest), map_index=index)
            self.airflow.answer(asked, user, choice)
            at = datetime.fromisoformat(asked["responded_at"])
            words = worded_payload(CHAIN, ASK_TRAIN_BOARD, asked)
            self.ledger.append(CHAIN, QUESTION_WORDED, words, actor="a task", key=f"words-{user}-{choice}-{at}", at=at)
            given = GivenAnswer(
                user=user, task_id=ASK_TRAIN_BOARD, map_index=index, choice=choice, question=digest_of(asked)
            )
            told = given_payload(CHAIN, given, at)
            self.ledger.append(CHAIN, ANSWER_GIVEN, told, actor=user, key=f"vote-{user}-{choice}-{at}", at=at)

    def decided(self, manifest: Any, *choices: tuple[str, str]) -> Any:
        self.vote(manifest, *(choices or (("ben", "Approve"), ("cora", "Approve"))))
        ballots: list[Any] = [{}] * len(self.airflow.questions)
        return self.execute(board.AwaitTrainBoard(task_id="board.await_board", manifest=manifest, ballots=ballots))

    def departed(self, **run: Any) -> dict[str, Any]:
        manifest = self.manifest(**run)
        self.decided(manifest)
        return dict(self.run(departure.depart, "shops", manifest))

    def send(self, service: str, manifest: Any) -> Any:
        task = f"departure.send_{service.replace('-', '_')}"
        return self.execute(departure.SendPassenger(task_id=task, train="shops", service=service, manifest=manifest))

    def ends(self, service: str, outcome: str, manifest: Any, *, train: str = CHAIN, by: str = CONDUCTOR) -> None:
        """Let the release of a passenger end."""
        dag_id = f"release_{service.replace('-', '_')}"
        run_id = run_of_passenger(manifest, service)
        chain = release_chain(dag_id, run_id)
        self.ledger.append(chain, "release.requested", {"train": train, "requested_by": by}, actor=by, key="1")
        told = {"outcome": outcome, "stage": "verification", "reason": "It was slow.", "service": service}
        self.ledger.append(chain, "release.closed", {**told, "version": "1.2.0"}, actor="x", key="2")
        self.airflow.runs[dag_id, run_id]["state"] = "success" if outcome == "deployed" else "failed"

    def kinds(self) -> list[str]:
        return [entry.kind for entry in self.ledger.entries(CHAIN)]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("upstream")
    who = ["-c", "user.name=Dan", "-c", "user.email=dan@example.com"]
    for arguments in (
        ["init", "--quiet", "--initial-branch=main"],
        ["commit", "--quiet", "--allow-empty", "-m", "One"],
        ["tag", "1.1.0"],
        ["commit", "--quiet", "--allow-empty", "-m", "Two"],
        ["tag", "1.2.0"],
    ):
        subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)
    return folder.as_uri()


@pytest.fixture
def office(tmp_path: Path, url: str, airflow: AirflowServer, monkeypatch: pytest.MonkeyPatch) -> Office:
    copy = Path(shutil.copytree(CATALOGUE, tmp_path / "catalogue"))
    shutil.rmtree(copy / "calendars")
    (copy / "calendars").mkdir()
    text = (copy / "services" / "bike-shop.yaml").read_text()
    for name in ("stock", "till"):
        (copy / "services" / f"{name}.yaml").write_text(text.replace("name: bike-shop", f"name: {name}"))
    (copy / "trains" / "weekly.yaml").unlink()
    (copy / "trains" / "shops.yaml").write_text(TRAIN)
    monkeypatch.setenv("INTERLOCK_CATALOGUE", str(copy))
    one = Office(copy, url, airflow)
    airflow.runs[RUN] = {"state": "running"}
    monkeypatch.setattr(resources, "ledger", lambda: one.ledger)
    monkeypatch.setattr(resources, "signer", lambda: SIGNER)
    monkeypatch.setattr(resources, "repository", one.opened)
    return one


# --- boarding --------------------------------------------------------------------------------------------------------


def test_a_scheduled_train_departs_at_the_end_of_its_interval(office: Office) -> None:
    at = NOW + timedelta(days=2)
    planned_run = office.run(
        boarding.open_train, "shops", run_type=DagRunType.SCHEDULED, data_interval_end=at, user=None
    )
    assert datetime.fromisoformat(planned_run["departure"]) == at
    assert datetime.fromisoformat(planned_run["cut_off"]) == at - timedelta(hours=2)
    assert planned_run["asked_by"] == ""


def test_a_train_that_is_sent_by_hand_departs_when_the_form_says_and_once(office: Office) -> None:
    at = NOW + timedelta(days=9)
    planned_run = office.run(boarding.open_train, "shops", params={"departure": at.isoformat()})
    assert (datetime.fromisoformat(planned_run["departure"]), planned_run["asked_by"]) == (at, "rita")
    assert office.run(boarding.open_train, "shops", params={}) == planned_run, "tried again, it is the same departure"


@pytest.mark.parametrize("departure", ["tomorrow", "2027-01-01T10:00:00", "2099-01-01T10:00:00Z"])
def test_a_departure_that_cannot_be_is_refused(office: Office, departure: str) -> None:
    with pytest.raises(AirflowFailException, match="The form of the train shops is not valid: departure: "):
        office.run(boarding.open_train, "shops", params={"departure": departure})


def test_a_backfill_sends_no_train(office: Office) -> None:
    refused = r"The train shops cannot be started by a run of the type backfill.*Rule: .*Next: trigger"
    with pytest.raises(AirflowFailException, match=refused):
        office.run(boarding.open_train, "shops", run_type=DagRunType.BACKFILL, data_interval_end=NOW)


def test_the_manifest_names_commits_in_the_order_of_what_depends_on_what(office: Office) -> None:
    manifest = Manifest.from_xcom(office.manifest())
    assert [(one.service, one.version) for one in manifest.passengers] == [(name, "1.2.0") for name in SERVICES]
    assert (manifest.requested_by, manifest.excluded) == (("rita",), ("dan",)), "dan wrote the commits"
    assert manifest.one_decision
    entry = office.ledger.entries(CHAIN, kind=MANIFEST_FROZEN)[-1]
    assert entry.payload["digest"] == manifest.digest
    assert CHAIN in office.ledger.signed


def test_a_train_with_one_decision_has_one_change_where_each_passenger_would_have_one(office: Office) -> None:
    policy, till = office.catalogue / "policy.yaml", office.catalogue / "services" / "till.yaml"
    systems = {name: DESCRIBED.model_dump(mode="json", exclude_unset=True) for name in ("snow", "erp")}
    systems["erp"] = {"kind": "webhook", "connection": "erp"}
    (office.catalogue / "systems.yaml").write_text(yaml.safe_dump({"systems": systems}))
    rules = yaml.safe_load(policy.read_text())
    rules["change_types"]["normal"]["records"] = {"snow": "mirror", "erp": "mirror"}
    policy.write_text(yaml.safe_dump(rules))
    manifest = Manifest.from_xcom(office.manifest())
    assert manifest.records == {"snow": "mirror"}, "who follows events is told of each release"
    assert passengers.recorded_with(CHAIN) == ("snow",)
    assert passengers.recorded_with(None) == ()
    told = statements(office.ledger.entries(CHAIN), 99)
    assert [part.title for part in told[0].change.waves] == [f"{name} 1.2.0" for name in SERVICES]
    office.ledger.kept.pop(CHAIN)
    of_till = yaml.safe_load(till.read_text())
    of_till.setdefault("policy", {}).setdefault("change_types", {})["normal"] = {"records": {"snow": "authority"}}
    till.write_text(yaml.safe_dump(of_till))
    assert Manifest.from_xcom(office.manifest()).records == {}, "its change is approved for its own plan"


def test_a_manifest_is_frozen_once(office: Office) -> None:
    first = office.manifest()
    office.change('{ service: bike-shop, tags: "1.*" }', '{ service: bike-shop, tags: "7.*" }')
    assert office.manifest() == first
    assert office.kinds().count(MANIFEST_FROZEN) == 1


def test_who_is_late_stays_behind_with_what_depends_on_it(office: Office) -> None:
    office.change('{ service: stock, tags: "1.*" }', '{ service: stock, tags: "7.*" }')
    manifest = Manifest.from_xcom(office.manifest())
    assert [one.service for one in manifest.passengers] == ["bike-shop"]
    assert {one.service: one.why for one in manifest.left} == {
        "stock": "no tag with the pattern 7.* is a version",
        "till": "it depends on stock, which stays behind",
    }


def test_a_train_waits_for_who_is_late_without_a_worker_or_stops(office: Office) -> None:
    office.change('{ service: stock, tags: "1.*" }', '{ service: stock, tags: "7.*", late: wait }')
    with pytest.raises(AirflowRescheduleException):
        office.manifest()
    assert MANIFEST_FROZEN not in office.kinds()


def test_a_train_stops_for_who_is_late(office: Office) -> None:
    office.change('{ service: stock, tags: "1.*" }', '{ service: stock, tags: "7.*", late: stop }')
    with pytest.raises(AirflowFailException, match="does not depart without stock: no tag with the pattern 7"):
        office.manifest()


def test_a_train_that_is_taken_off_schedule_ends_the_journey_that_has_begun(office: Office) -> None:
    voyage = office.run(boarding.open_train, "shops")
    office.change("time_zone: UTC", "time_zone: UTC\non_schedule: false")
    assert Manifest.from_xcom(office.run(boarding.freeze_manifest, "shops", voyage)).file == voyage["file"]


def test_a_train_whose_file_changed_since_boarding_opened_freezes_no_manifest(office: Office) -> None:
    planned_run = office.run(boarding.open_train, "shops")
    office.change(f'"0 20 * * {DAY}"', f'"0 21 * * {DAY}"')
    with pytest.raises(
        AirflowFailException, match=r"shops\.yaml changed since boarding opened.*Rule: .*the office.*Next"
    ):
        office.run(boarding.freeze_manifest, "shops", planned_run)
    assert MANIFEST_FROZEN not in office.kinds()


def test_a_voyage_that_was_opened_before_it_named_its_file_goes_on(office: Office) -> None:
    opened = {name: one for name, one in office.run(boarding.open_train, "shops").items() if name != "file"}
    office.ledger.kept.pop(CHAIN)
    office.ledger.append(CHAIN, "train.opened", opened, actor="x", key="old")
    assert office.run(boarding.open_train, "shops") == opened
    assert office.run(boarding.freeze_manifest, "shops", opened)["passengers"]


def test_a_train_waits_no_longer_than_its_patience(office: Office) -> None:
    office.change('{ service: stock, tags: "1.*" }', '{ service: stock, tags: "7.*", late: wait }')
    office.change("passengers:", "patience: PT1S\npassengers:")
    planned_run = office.run(boarding.open_train, "shops")
    past = {**planned_run, "cut_off": f"{NOW - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"}
    office.ledger.append(CHAIN, "train.opened", past, actor="x", key="past")
    assert Manifest.from_xcom(office.run(boarding.freeze_manifest, "shops", past)).passengers[0].service == "bike-shop"


def test_whom_a_freeze_keeps_from_departing_stays_behind(office: Office) -> None:
    office.freeze(NOW - timedelta(hours=1), NOW + timedelta(hours=9), "{ services: [till] }")
    manifest = Manifest.from_xcom(office.manifest())
    assert [one.service for one in manifest.passengers] == ["stock", "bike-shop"]
    assert "closed by Audit" in manifest.left[0].why


@pytest.mark.parametrize("rule", ["stop", "wait"])
def test_a_freeze_is_no_lateness_that_could_be_waited_for(office: Office, rule: str) -> None:
    office.change("cadence:", f"late: {rule}\ncadence:")
    office.freeze(NOW - timedelta(hours=1), NOW + timedelta(hours=9), "{ services: [stock] }")
    manifest = Manifest.from_xcom(office.manifest())
    assert [one.service for one in manifest.passengers] == ["bike-shop"]
    assert manifest.why_left("till") == "it depends on stock, which stays behind"


def test_whose_freeze_is_overridden_boards(office: Office) -> None:
    office.freeze(NOW - timedelta(hours=1), NOW + timedelta(hours=9), "{ services: [till, bike-shop] }")
    office.override("till", NOW + timedelta(hours=2))
    office.override("bike-shop", NOW - timedelta(minutes=5))
    manifest = Manifest.from_xcom(office.manifest())
    assert [one.service for one in manifest.passengers] == ["stock", "till"], "the other override is over"


def test_a_repository_that_does_not_answer_leaves_its_passenger_behind_and_nobody_else(office: Office) -> None:
    office.troubles["bike-shop"] = TransientError("Its repository does not answer.")
    planned_run = office.run(boarding.open_train, "shops")
    with pytest.raises(AirflowRescheduleException) as again:
        office.run(boarding.freeze_manifest, "shops", planned_run)
    assert again.value.reschedule_date <= datetime.now(UTC) + MINUTE
    past = {**planned_run, "cut_off": f"{NOW - timedelta(hours=5):%Y-%m-%dT%H:%M:%SZ}"}
    office.ledger.append(CHAIN, "train.opened", past, actor="x", key="past")
    manifest = Manifest.from_xcom(office.run(boarding.freeze_manifest, "shops", past))
    assert [one.service for one in manifest.passengers] == ["stock", "till"]
    assert manifest.why_left("bike-shop") == "Its repository does not answer"


def test_a_repository_without_a_connection_leaves_its_passenger_behind(office: Office) -> None:
    office.troubles["bike-shop"] = AirflowNotFoundException("The conn_id `shop_git` isn't defined")
    manifest = Manifest.from_xcom(office.manifest())
    assert [one.service for one in manifest.passengers] == ["stock", "till"]
    assert "shop_git" in manifest.why_left("bike-shop")


# --- the board -------------------------------------------------------------------------------------------------------


def test_each_member_gets_one_ballot_for_the_whole_train(office: Office) -> None:
    manifest = office.manifest()
    ballots = office.run(board.prepare_ballots, "shops", manifest)
    assert [one["assigned_users"][0]["id"] for one in ballots] == ["ben", "cora"], "dan wrote it"
    body = ballots[0]["body"]
    assert Manifest.from_xcom(manifest).digest in body
    for said in ("stock", "1.2.0", "One decision for all", "Change Advisory Board", "Rita Reyes (rita)"):
        assert said in body


def test_a_train_that_is_stopped_asks_no_board(office: Office) -> None:
    manifest = office.manifest()
    office.stop()
    with pytest.raises(AirflowFailException, match="An emergency stop is in force: everything, by ben: Data is lost"):
        office.run(board.prepare_ballots, "shops", manifest)


def test_a_ballot_on_a_train_says_which_passengers_are_stopped(office: Office) -> None:
    manifest = office.manifest()
    office.stop(scope="stock")
    for ballot in office.run(board.prepare_ballots, "shops", manifest):
        assert "**In force now:**\n\n- Emergency stop: stock, by ben: Data is lost" in ballot["body"]


def test_a_board_that_cannot_come_to_its_quorum_is_refused(office: Office) -> None:
    manifest = office.manifest(user="ben")
    with pytest.raises(AirflowFailException, match="cannot decide on this release"):
        office.run(board.prepare_ballots, "shops", manifest)


def test_the_board_decides_on_the_manifest(office: Office) -> None:
    manifest = office.manifest()
    with pytest.raises(TaskDeferred):
        office.decided(manifest, ("ben", "Approve"))
    office.airflow.questions.clear()
    decision = office.decided(manifest, ("ben", "Approve"), ("cora", "Approve"))
    assert decision["approved"]
    assert decision["digest"] == Manifest.from_xcom(manifest).digest


def test_a_veto_keeps_the_train_from_departing(office: Office) -> None:
    with pytest.raises(AirflowFailException, match="rejected by Cora"):
        office.decided(office.manifest(), ("cora", "Reject"))


def test_a_passenger_whose_file_is_broken_while_the_board_votes_decides_nothing(office: Office) -> None:
    """What its boards ask cannot be told for a minute; when the time is up, the others' boards decide."""
    manifest = office.manifest()
    office.break_file("bike-shop")
    with pytest.raises(TaskDeferred) as waiting:
        office.decided(manifest)
    assert waiting.value.trigger.until <= datetime.now(UTC) + MINUTE
    with clock_at(Manifest.from_xcom(manifest).decide_by):
        assert office.decided(manifest)["approved"]
    for service in ("stock", "till"):
        office.break_file(service)
    with clock_at(Manifest.from_xcom(manifest).decide_by), pytest.raises(AirflowFailException) as refused:
        office.decided(manifest, ("ben", "Approve"))
    assert "services/stock.yaml" in str(refused.value), "nobody's board decides nothing"


def test_a_standard_train_asks_nobody(office: Office) -> None:
    office.change("cadence:", "change_type: standard\ncadence:")
    manifest = office.manifest()
    assert office.run(board.prepare_ballots, "shops", manifest) == []
    task = board.AwaitTrainBoard(task_id="board.await_board", manifest=manifest, ballots=[])
    assert office.execute(task)["required"] is False


# --- departure -------------------------------------------------------------------------------------------------------


def test_a_train_departs_and_its_passengers_are_asked_for_by_the_conductor(office: Office) -> None:
    manifest = office.departed()
    assert TRAIN_DEPARTED in office.kinds()
    with pytest.raises(TaskDeferred) as waiting:
        office.send("stock", manifest)
    ((key, run),) = [(key, run) for key, run in office.airflow.runs.items() if key != RUN]
    assert key == ("release_stock", run_of_passenger(manifest, "stock"))
    assert run["by"] == "interlock_conductor"
    assert run["conf"]["train"] == CHAIN
    policy = resources.catalogue_of("stock").policy
    assert parse_request(run["conf"], policy=policy).version == "1.2.0"
    assert waiting.value.trigger.dag_id == "release_stock"
    with pytest.raises(TaskDeferred):
        office.send("stock", manifest)
    assert office.kinds().count(PASSENGER_DEPARTED) == 1
    office.ends("stock", "deployed", manifest)
    assert office.send("stock", manifest)["outcome"] == "deployed"


def test_a_passenger_is_held_back_if_what_it_replaces_was_replaced_since(office: Office) -> None:
    office.deployed("stock", "1.1.0")
    manifest = office.departed()
    office.deployed("stock", "1.2.1")
    why = (
        r"stock 1\.2\.0 is held back: the last deployed version is 1\.2\.1, but it was 1\.1\.0 when.*Rule: .*Who.*Next"
    )
    with pytest.raises(AirflowFailException, match=why):
        office.send("stock", manifest)
    assert PASSENGER_DEPARTED not in office.kinds()
    assert list(office.airflow.runs) == [RUN]


def test_a_passenger_goes_if_another_release_brought_the_same(office: Office) -> None:
    manifest = office.departed()
    one = Manifest.from_xcom(manifest).passenger("stock")
    assert one is not None
    office.deployed("stock", one.version, one.commit)
    with pytest.raises(TaskDeferred):
        office.send("stock", manifest)


def test_a_passenger_that_departed_under_another_name_is_waited_for_under_that(office: Office) -> None:
    manifest = office.departed()
    with pytest.raises(TaskDeferred):
        office.send("stock", manifest)
    (departed,) = [entry for entry in office.ledger.kept[CHAIN] if entry.kind == PASSENGER_DEPARTED]
    renamed = departed.model_copy(update={"payload": {**departed.payload, "run": "release_stock/train__shops__2026"}})
    office.ledger.kept[CHAIN] = [renamed if one is departed else one for one in office.ledger.kept[CHAIN]]
    office.airflow.runs["release_stock", "train__shops__2026"] = {"state": "running"}
    before = len(office.airflow.runs)
    with pytest.raises(TaskDeferred) as waiting:
        office.send("stock", manifest)
    assert waiting.value.trigger.run_id == "train__shops__2026"
    assert len(office.airflow.runs) == before


def test_a_passenger_that_was_asked_for_before_a_crash_is_waited_for_whatever_has_come_since(office: Office) -> None:
    manifest = office.departed()
    frozen = Manifest.from_xcom(manifest)
    one = frozen.passenger("stock")
    assert one is not None
    form = passenger_form(frozen, one, CHAIN)
    run = ("release_stock", run_of_passenger(manifest, "stock"))
    office.airflow.runs[run] = {"state": "running"}
    office.stop()
    asked = AskedRun(dag_id=run[0], run_id=run[1], user=CONDUCTOR, conf=sha256_of({**form, "version": "1.0.0"}))
    office.ledger.append(
        asked.chain, RUN_ASKED, asked_payload(asked, datetime.now(UTC)), actor=CONDUCTOR, key=asked.key
    )
    with pytest.raises(AirflowFailException, match="an emergency stop is in force"):
        office.send("stock", manifest)
    office.ledger.kept.pop(asked.chain)
    asked = asked.model_copy(update={"conf": sha256_of(form)})
    office.ledger.append(
        asked.chain, RUN_ASKED, asked_payload(asked, datetime.now(UTC)), actor=CONDUCTOR, key=asked.key
    )
    with pytest.raises(TaskDeferred):
        office.send("stock", manifest)
    assert office.kinds().count(PASSENGER_DEPARTED) == 1


def in_line(office: Office) -> dict[str, Any]:
    """Send the stock while another release of it is under way; return the manifest."""
    manifest = office.departed()
    other = release_chain("release_stock", "manual__2")
    office.ledger.append(other, "release.requested", {"requested_by": "rita"}, actor="rita", key="1")
    office.airflow.runs["release_stock", "manual__2"] = {"state": "running"}
    run = ("release_stock", run_of_passenger(manifest, "stock"))
    with pytest.raises(TaskDeferred):
        office.send("stock", manifest)
    office.airflow.runs[run]["state"] = "queued"
    with pytest.raises(AirflowRescheduleException) as again:
        office.send("stock", manifest)
    assert again.value.reschedule_date <= datetime.now(UTC) + MINUTE
    return manifest


def test_a_passenger_waits_in_line_for_as_long_as_the_train_is_patient(office: Office) -> None:
    manifest = in_line(office)
    why = (
        r"stock 1\.2\.0 ended as never begun: It did not start within 4 hours: it waits for manual__2 of release_stock"
    )
    with clock_at(datetime.now(UTC) + timedelta(hours=5)), pytest.raises(AirflowFailException, match=why):
        office.send("stock", manifest)
    (entry,) = office.ledger.entries(CHAIN, kind=PASSENGER_ARRIVED)
    assert entry.payload["outcome"] == "never begun"
    one = Manifest.from_xcom(manifest).passenger("stock")
    assert one is not None
    with pytest.raises(PolicyViolation, match="the train has given up on it: It did not start"):
        refuse(office, CONDUCTOR, service="stock", ref=one.commit, train=CHAIN)


def test_a_passenger_whose_dag_was_paused_meanwhile_says_so(office: Office) -> None:
    manifest = in_line(office)
    office.airflow.runs["release_stock", "manual__2"]["state"] = "success"
    office.airflow.more["/api/v2/dags/release_stock"] = {"is_paused": True}
    later, why = clock_at(datetime.now(UTC) + timedelta(hours=5)), "release_stock is paused"
    with later, pytest.raises(AirflowFailException, match=why):
        office.send("stock", manifest)


def test_a_passenger_that_fails_fails_its_task_with_the_reason(office: Office) -> None:
    manifest = office.departed()
    with pytest.raises(TaskDeferred):
        office.send("stock", manifest)
    office.ends("stock", "backed_out", manifest)
    with pytest.raises(AirflowFailException, match=r"stock 1\.2\.0 ended as backed out: It was slow"):
        office.send("stock", manifest)
    with pytest.raises(TaskDeferred):
        office.send("bike-shop", manifest)


def test_a_passenger_whose_failure_stops_the_train_keeps_the_others(office: Office) -> None:
    office.change('{ service: stock, tags: "1.*" }', '{ service: stock, tags: "1.*", failed: stop }')
    manifest = office.departed()
    with pytest.raises(TaskDeferred):
        office.send("stock", manifest)
    office.ends("stock", "failed", manifest)
    with pytest.raises(AirflowFailException, match="ended as failed"):
        office.send("stock", manifest)
    with pytest.raises(AirflowFailException, match="the train was stopped because stock"):
        office.send("bike-shop", manifest)


def test_a_train_waits_for_a_failed_passenger_until_it_is_there_after_all(office: Office) -> None:
    office.change('{ service: stock, tags: "1.*" }', '{ service: stock, tags: "1.*", failed: wait }')
    manifest = office.departed()
    with pytest.raises(TaskDeferred):
        office.send("stock", manifest)
    office.ends("stock", "failed", manifest)
    with pytest.raises(AirflowRescheduleException):
        office.send("stock", manifest)
    told = {"run": "release_stock/again", "service": "stock", "version": "1.2.0", "outcome": "deployed"}
    office.ledger.append(INSTALLATION, "release.ended", told, actor="x", key="again")
    assert office.send("stock", manifest)["run"] == "release_stock/again"
    assert office.ledger.entries(CHAIN, kind=PASSENGER_ARRIVED)[-1].payload["outcome"] == "deployed"


def test_a_run_with_a_passengers_id_that_somebody_else_asked_for_is_none(office: Office) -> None:
    manifest = office.departed()
    with pytest.raises(TaskDeferred):
        office.send("stock", manifest)
    office.ends("stock", "deployed", manifest, train="", by="rita")
    with pytest.raises(AirflowFailException, match="was triggered by rita, not by this train"):
        office.send("stock", manifest)


def test_who_is_not_on_board_is_skipped_with_the_reason(office: Office) -> None:
    office.change('{ service: stock, tags: "1.*" }', '{ service: stock, tags: "7.*" }')
    manifest = office.departed()
    with pytest.raises(AirflowSkipException, match="no tag with the pattern 7"):
        office.send("stock", manifest)


def test_a_freeze_that_was_added_after_boarding_makes_the_train_wait_or_stops_it(office: Office) -> None:
    manifest = office.manifest()
    office.decided(manifest)
    end = NOW + timedelta(hours=5)
    office.freeze(NOW - timedelta(hours=1), end)
    with pytest.raises(AirflowRescheduleException) as put_off:
        office.run(departure.depart, "shops", manifest)
    assert put_off.value.reschedule_date <= datetime.now(UTC) + MINUTE, "a freeze may be lifted before its end"
    with clock_at(end - MINUTE / 2), pytest.raises(AirflowRescheduleException) as put_off:
        office.run(departure.depart, "shops", manifest)
    assert put_off.value.reschedule_date == end
    office.freeze(NOW - timedelta(hours=1), NOW + timedelta(days=3))
    with pytest.raises(AirflowFailException, match=r"does not depart: .* closed by Audit"):
        office.run(departure.depart, "shops", manifest)
    assert TRAIN_DEPARTED not in office.kinds()


def test_an_override_ends_the_wait_for_a_freeze(office: Office) -> None:
    manifest = office.departed()
    office.freeze(NOW - timedelta(hours=1), NOW + timedelta(hours=5))
    with pytest.raises(AirflowRescheduleException):
        office.send("stock", manifest)
    office.override("stock", NOW + timedelta(hours=2))
    assert office.run(departure.depart, "shops", manifest) == manifest
    with pytest.raises(TaskDeferred):
        office.send("stock", manifest)


@pytest.mark.parametrize(("minutes", "waits"), [(-1, True), (0, False)])
def test_a_departure_waits_for_no_freeze_that_lasts_up_to_the_next_date(
    office: Office, minutes: int, waits: bool
) -> None:
    following = NOW + timedelta(hours=3)
    office.change(f'"0 20 * * {DAY}"', f'"{following.minute} {following.hour} * * *"')
    manifest = office.manifest()
    office.decided(manifest)
    office.freeze(NOW - timedelta(hours=1), following + minutes * MINUTE)
    with pytest.raises(AirflowRescheduleException if waits else AirflowFailException):
        office.run(departure.depart, "shops", manifest)


def test_calendars_that_cannot_be_read_are_looked_at_again_for_as_long_as_it_could_depart(office: Office) -> None:
    manifest = office.manifest()
    office.decided(manifest)
    (office.catalogue / "calendars" / "office.yaml").write_text("title: [")
    with pytest.raises(AirflowRescheduleException) as again:
        office.run(departure.depart, "shops", manifest)
    assert again.value.reschedule_date <= datetime.now(UTC) + MINUTE
    later = clock_at(Manifest.from_xcom(manifest).departure + timedelta(days=1))
    why = "does not depart: The calendars cannot be read"
    with later, pytest.raises(AirflowFailException, match=why):
        office.run(departure.depart, "shops", manifest)


def test_a_train_does_not_depart_before_its_time(office: Office) -> None:
    at = NOW + timedelta(hours=20)
    manifest = office.manifest(params={"departure": at.isoformat()})
    office.decided(manifest)
    with pytest.raises(AirflowRescheduleException) as early:
        office.run(departure.depart, "shops", manifest)
    assert early.value.reschedule_date == at
    assert TRAIN_DEPARTED not in office.kinds()
    with clock_at(at):
        assert office.run(departure.depart, "shops", manifest)


def test_a_passenger_whose_file_is_broken_after_the_cut_off_is_held_back_and_nobody_else(office: Office) -> None:
    manifest = office.manifest()
    office.decided(manifest)
    office.break_file("stock")
    assert office.run(departure.depart, "shops", manifest)
    with pytest.raises(AirflowFailException, match=r"stock does not depart: .*services/stock\.yaml.*Next"):
        office.send("stock", manifest)
    with pytest.raises(TaskDeferred):
        office.send("bike-shop", manifest)
    for service in ("till", "bike-shop"):
        office.break_file(service)
    with pytest.raises(AirflowFailException, match=r"The shops' train does not depart: .*services/stock\.yaml"):
        office.run(departure.depart, "shops", manifest)


def test_an_emergency_stop_keeps_train_and_passengers(office: Office) -> None:
    manifest = office.departed()
    office.stop()
    with pytest.raises(AirflowFailException, match="emergency stop is in force: everything, by ben"):
        office.send("stock", manifest)
    with pytest.raises(AirflowFailException, match="does not depart: an emergency stop is in force"):
        office.run(departure.depart, "shops", manifest)


def test_a_train_whose_file_changed_does_not_depart(office: Office) -> None:
    manifest = office.manifest()
    office.decided(manifest)
    office.change("title: The shops' train", "title: Another")
    with pytest.raises(AirflowFailException, match=r"trains/shops\.yaml changed since the manifest was frozen"):
        office.run(departure.depart, "shops", manifest)


def test_votes_that_are_gone_at_departure_keep_the_train(office: Office) -> None:
    manifest = office.manifest()
    office.decided(manifest)
    office.airflow.questions.pop()
    with pytest.raises(AirflowFailException, match="Change Advisory Board"):
        office.run(departure.depart, "shops", manifest)


def test_a_manifest_that_was_edited_on_its_way_is_refused(office: Office) -> None:
    manifest = office.departed()
    edited = {**manifest, "title": "Edited"}
    with pytest.raises(AirflowFailException, match="received a Manifest that differs from the record in the ledger"):
        office.send("stock", edited)


def test_a_release_whose_dag_is_paused_is_not_asked_for(office: Office) -> None:
    manifest = office.departed()
    office.airflow.more["/api/v2/dags/release_stock"] = {"is_paused": True}
    with pytest.raises(AirflowFailException, match="release_stock is paused"):
        office.send("stock", manifest)


# --- arrival ---------------------------------------------------------------------------------------------------------


def test_the_arrival_says_what_became_of_each_and_the_run_fails_if_somebody_is_missing(office: Office) -> None:
    manifest = office.departed()
    for service, outcome in (("stock", "backed_out"), ("bike-shop", "deployed")):
        with pytest.raises(TaskDeferred):
            office.send(service, manifest)
        office.ends(service, outcome, manifest)
    with pytest.raises(AirflowFailException):
        office.send("stock", manifest)
    office.send("bike-shop", manifest)
    came = office.run(arrival.record_arrival, "shops")
    assert {one["service"]: one["outcome"] for one in came["passengers"]} == {
        "stock": "backed_out",
        "till": "not departed",
        "bike-shop": "deployed",
    }
    assert TRAIN_ARRIVED in office.kinds()
    with pytest.raises(AirflowFailException, match=r"backed_out\. It was slow\.; till 1\.2\.0: not departed"):
        office.run(arrival.close_train)


def test_a_passenger_that_the_train_did_not_see_end_is_under_way(office: Office) -> None:
    manifest = office.departed()
    with pytest.raises(TaskDeferred):
        office.send("stock", manifest)
    came = {one["service"]: one for one in office.run(arrival.record_arrival, "shops")["passengers"]}
    assert (came["stock"]["outcome"], came["till"]["outcome"]) == ("under way", "not departed")
    assert came["stock"]["run"] == office.ledger.entries(CHAIN, kind=PASSENGER_DEPARTED)[0].payload["run"]
    assert "had not ended when the train arrived" in came["stock"]["reason"]


def test_a_train_that_did_not_depart_fails_with_the_reason(office: Office) -> None:
    office.manifest()
    office.results[("board.await_board", "reason")] = "Rejected by Cora."
    office.run(arrival.record_arrival, "shops")
    with pytest.raises(AirflowFailException, match=r"did not depart\. Rejected by Cora"):
        office.run(arrival.close_train)


def test_a_train_with_nobody_on_board_ends_as_skipped_and_says_why(office: Office) -> None:
    with office.opened(None) as repository:
        sha = repository.resolve("1.2.0").sha
    for name in SERVICES:
        office.deployed(name, "1.2.0", sha)
    manifest = office.manifest()
    assert manifest["passengers"] == []
    assert office.run(board.prepare_ballots, "shops", manifest) == []
    office.execute(board.AwaitTrainBoard(task_id="board.await_board", manifest=manifest, ballots=[]))
    office.run(departure.depart, "shops", manifest)
    assert office.run(arrival.record_arrival, "shops")["departed"]
    with pytest.raises(AirflowSkipException, match=r"departed without passengers\. stock: .*; till: .*; bike-shop: "):
        office.run(arrival.close_train)
    assert office.left["reason"].startswith("The train shops departed without passengers.")


# --- a passenger's release -------------------------------------------------------------------------------------------


def plan_of(manifest: Any, **changes: Any) -> RolloutPlan:
    """Return the rollout plan of a passenger."""
    frozen = Manifest.from_xcom(manifest)
    one = frozen.passenger("bike-shop")
    assert one is not None
    said: dict[str, Any] = {
        "version": one.version,
        "commit": one.commit,
        "requested_by": CONDUCTOR,
        "excluded": (),
        "decide_by": None,
        "train": TrainTicket(chain=CHAIN, manifest=frozen.digest),
    }
    return releases.rollout(**{**said, **changes})


def counted(plan: RolloutPlan) -> Any:
    with dag_run("release_bike_shop/rollout.await_board", run_id="train__shops"):
        return rollout.count(resources.catalogue_of("bike-shop"), plan, expired=True)


def test_the_votes_on_the_manifest_are_counted_for_a_passenger(office: Office) -> None:
    manifest = office.departed()
    plan = plan_of(manifest)
    decision = counted(plan)
    assert (decision.approved, decision.required, decision.digest) == (True, True, plan.digest)
    assert [vote.user for vote in decision.votes] == ["ben", "cora"]
    assert "According to the votes on the manifest" in decision.reason


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"version": "1.3.0"}, r"but this is 1\.3\.0"),
        ({"commit": "b" * 40}, "at bbbbbbbbbbbb"),
        ({"requested_by": "rita"}, "only interlock_conductor can request"),
        ({"change_type": "emergency"}, "change type of the train is normal"),
        ({"train": TrainTicket(chain=CHAIN, manifest="0" * 64)}, "is not 000000000000"),
        ({"train": TrainTicket(chain="release/train_shops/none", manifest="0" * 64)}, "has no frozen manifest"),
    ],
)
def test_what_the_manifest_does_not_name_is_not_approved_by_it(
    office: Office, changes: dict[str, Any], why: str
) -> None:
    manifest = office.departed()
    with pytest.raises(PolicyViolation, match=why):
        counted(plan_of(manifest, **changes))


def test_a_vote_that_is_gone_or_a_voter_who_wrote_it_approves_nothing(office: Office) -> None:
    manifest = office.departed()
    assert not counted(plan_of(manifest, excluded=("ben",))).approved
    office.airflow.questions.pop()
    assert not counted(plan_of(manifest)).approved


def test_a_train_with_a_finding_or_without_a_signature_approves_nothing(office: Office) -> None:
    manifest = office.departed()
    heads = office.ledger._heads.pop(CHAIN)
    with pytest.raises(PolicyViolation, match="The record of the train is not intact"):
        counted(plan_of(manifest))
    office.ledger._heads[CHAIN] = heads
    office.ledger.append(CHAIN, "finding", {"what": "A ballot was cleared."}, actor="reconcile/x", key="finding")
    with pytest.raises(PolicyViolation, match="A ballot was cleared"):
        counted(plan_of(manifest))


def test_what_proves_the_trains_decision_is_kept_with_the_passenger(office: Office) -> None:
    plan = plan_of(office.departed())
    with dag_run("release_bike_shop/rollout.await_board", run_id="train__shops"):
        passengers.keep_proof(plan)
    (entry,) = office.ledger.entries(release_chain("release_bike_shop", "train__shops"))
    kinds = [one["kind"] for one in entry.payload["entries"]]
    assert kinds[-1] == "board.decided"
    assert "manifest.frozen" in kinds
    assert [one["user"] for one in entry.payload["ballots"]] == ["ben", "cora"]


def refuse(office: Office, requester: str, service: str = "bike-shop", **changes: Any) -> None:
    policy = resources.catalogue_of(service).policy
    form = {"ref": "1.2.0", "version": "1.2.0", "summary": "Sell bikes", **changes}
    with dag_run("release_bike_shop/policy.resolve_policy"):
        passengers.refuse_beside_its_train(policy, service, parse_request(form, policy=policy), requester)


def test_only_what_a_manifest_names_goes_by_train(office: Office) -> None:
    one = Manifest.from_xcom(office.departed()).passenger("bike-shop")
    assert one is not None
    refuse(office, CONDUCTOR, ref=one.commit, train=CHAIN)
    refuse(office, "rita")
    for requester, changes, why in (
        ("rita", {"ref": one.commit, "train": CHAIN}, "only interlock_conductor can request"),
        (CONDUCTOR, {"ref": "b" * 40, "train": CHAIN}, "at bbbbbbbbbbbb"),
        (CONDUCTOR, {}, "it names no train"),
    ):
        with pytest.raises(PolicyViolation, match=why):
            refuse(office, requester, **changes)


def test_a_passenger_that_stood_in_line_behind_a_later_version_is_no_step_back(office: Office) -> None:
    one = Manifest.from_xcom(office.departed()).passenger("bike-shop")
    assert one is not None
    office.deployed("bike-shop", "1.2.1")
    with pytest.raises(PolicyViolation, match=r"bike-shop 1\.2\.0 is held back: the last deployed version is 1\.2\.1"):
        refuse(office, CONDUCTOR, ref=one.commit, train=CHAIN)
    policy = resources.catalogue_of("bike-shop").policy
    form = {"ref": one.commit, "version": "1.2.0", "summary": "Sell bikes", "train": CHAIN}
    with pytest.raises(PolicyViolation, match=r"a later version than 1\.2\.0.*Next"):
        planning._refuse_contradictions(parse_request(form, policy=policy), "downgrade", same_commit=False)
    by_itself = parse_request({**form, "train": None}, policy=policy)
    planning._refuse_contradictions(by_itself, "downgrade", same_commit=False)


def test_a_change_type_that_takes_the_train_is_refused_beside_it(office: Office) -> None:
    file = office.catalogue / "policy.yaml"
    file.write_text(
        file.read_text().replace("outside: [standard, normal, emergency]", "outside: [standard, emergency]")
    )
    with pytest.raises(PolicyViolation, match=r"A normal change of bike-shop must take its train: The shops' train"):
        refuse(office, "rita")
    refuse(office, "rita", change_type="emergency")
    refuse(office, "rita", rehearsal=True)


def test_a_train_whose_change_type_has_no_one_decision_gives_no_ticket(office: Office) -> None:
    file = office.catalogue / "policy.yaml"
    file.write_text(file.read_text().replace("one_decision: [standard, normal]", "one_decision: [standard]"))
    manifest = Manifest.from_xcom(office.manifest())
    one = manifest.passenger("bike-shop")
    assert one is not None
    assert not manifest.one_decision
    policy = resources.catalogue_of("bike-shop").policy
    request = parse_request(passenger_form(manifest, one, CHAIN), policy=policy)
    assert request.train == CHAIN
    assert passengers.decision_of(CHAIN) == (None, ("rita",))
    assert office.run(board.prepare_ballots, "shops", manifest.to_xcom()) == []


# --- conflicts -------------------------------------------------------------------------------------------------------


def another_train(office: Office) -> None:
    text = TRAIN.replace("name: shops", "name: nightly").replace("The shops' train", "Another train")
    (office.catalogue / "trains" / "nightly.yaml").write_text(text.replace(f'"0 20 * * {DAY}"', '"30 20 * * *"'))


def test_a_train_that_clashes_with_another_says_so_when_boarding_opens_and_on_the_ballot(office: Office) -> None:
    another_train(office)
    manifest = office.manifest()
    (planned_run,) = office.ledger.entries(CHAIN, kind="train.opened")
    (said,) = planned_run.payload["conflicts"]
    assert "Another train (nightly) departs at" in said
    assert "both with stock, till, bike-shop" in said
    assert "Next free slot" in said
    assert "Another train" in office.run(board.prepare_ballots, "shops", manifest)[0]["body"]


def test_a_board_that_could_not_come_to_its_quorum_is_found_when_boarding_opens(office: Office) -> None:
    named = "named: { ref: 1.1.0, version: 1.1.0, by: ben }"
    office.change('{ service: stock, tags: "1.*" }', f"{{ service: stock, {named} }}")
    office.change('{ service: till, tags: "1.*"', f"{{ service: till, {named.replace('ben', 'dan')}")
    planned_run = office.run(boarding.open_train, "shops")
    (said,) = planned_run["conflicts"]
    assert said.startswith("severe: The board Change Advisory Board cannot decide on this release")


def noted(office: Office) -> list[tuple[str, str]]:
    """Return kind and text of what a departure clashes with."""
    (entry,) = office.ledger.entries(CHAIN, kind="conflicts.found")
    return [(one["kind"], one["what"]) for one in entry.payload["conflicts"]]


def test_a_departure_says_what_each_passenger_clashes_with(office: Office) -> None:
    departure = NOW + timedelta(hours=9)
    booking = {"environment": "production", "service": "stock", "holder": "release/release_stock/x", "version": "1.1.0"}
    booking |= {"by": "rita", "since": NOW.isoformat(), "until": (departure + timedelta(hours=1)).isoformat()}
    office.ledger.append(booking_chain("production", "stock"), ENVIRONMENT_BOOKED, booking, actor="x", key="1")
    office.deployed("till", "1.0.0")
    chain = release_chain("release_till", "of_1.0.0")
    for kind, at in (("baseline.measured", NOW), ("release.closed", NOW + timedelta(hours=3))):
        office.ledger.append(chain, kind, {}, actor="x", key=kind, at=at + timedelta(days=1))
    office.freeze(departure + timedelta(hours=2), departure + timedelta(hours=4), "{ services: [till] }")
    office.run(boarding.open_train, "shops", params={"departure": departure.isoformat()})
    found = noted(office)
    assert [kind for kind, _ in found] == ["environment", "window", "dependency"]
    assert "production of stock is already booked at that time" in found[0][1]
    assert "production of till may be changed for 2 hours only" in found[1][1]
    assert "stock, which till depends on, changes in the same window" in found[2][1]


def test_a_departure_by_hand_clashes_with_other_trains_and_the_next_free_slot_is_in_no_freeze(office: Office) -> None:
    another_train(office)
    tomorrow = (NOW + timedelta(days=1)).replace(hour=20, minute=0)
    office.freeze(tomorrow + timedelta(hours=1), tomorrow + timedelta(hours=3), "{ services: [till] }")
    planned_run = office.run(boarding.open_train, "shops", params={"departure": tomorrow.isoformat()})
    (said,) = planned_run["conflicts"]
    assert f"The shops' train (shops) at {tomorrow:%Y-%m-%d} 20:00 UTC" in said
    assert said.endswith(f"Next free slot: {tomorrow:%Y-%m-%d} 23:00 UTC.")


def test_who_sends_a_train_and_who_wrote_what_boards_do_not_come_to_its_quorum(office: Office) -> None:
    """Dan wrote the commits, so Ben and Cora are two; and Ben sends it."""
    office.run(boarding.open_train, "shops", user="ben")
    ((kind, what),) = noted(office)
    assert kind == "quorum"
    assert "and only Cora Lindqvist (cora) may vote" in what


def test_a_release_that_is_under_way_is_a_conflict_of_the_train_as_far_as_airflow_says(office: Office) -> None:
    in_line(office)
    office.ledger.kept.pop(CHAIN)
    office.run(boarding.open_train, "shops")
    ((kind, what),) = noted(office)
    assert (kind, what.partition(";")[0]) == ("line", "stock is being released by manual__2")
    office.ledger.kept.pop(CHAIN)
    office.airflow.accounts.clear()
    office.airflow.forget_tokens()
    office.run(boarding.open_train, "shops")
    assert noted(office) == []


def test_calendars_that_cannot_be_read_are_one_conflict(office: Office) -> None:
    (office.catalogue / "calendars" / "office.yaml").write_text("title: [")
    office.run(boarding.open_train, "shops")
    assert [kind for kind, _ in noted(office)] == ["window"]


def test_a_release_that_is_planned_says_what_it_clashes_with(office: Office) -> None:
    another_train(office)
    departure = office.run(boarding.open_train, "shops", params={})["departure"]
    assert departure
    tonight = NOW.replace(hour=20, minute=30) + timedelta(days=2)
    plan = releases.plan(not_before=tonight, requested_by="rita")
    with dag_run("release_bike_shop/planning.plan_release", run_id="one") as left:
        found = conflicts.note_of_release(plan, releases.policy(), by_train=False)
        again = conflicts.noted()
    (one,) = [each for each in found if "(nightly)" in each.what]
    assert (one.kind, one.severity) == ("environment", "warning")
    assert one.next_free == tonight + timedelta(hours=1)
    assert left["conflicts"] == again == [str(each) for each in found]
    with dag_run("release_bike_shop/planning.plan_release", run_id="two"):
        assert conflicts.note_of_release(plan, releases.policy(), by_train=True) == []
