"""A release waits for the approval of its change in ServiceNow: the task and its trigger, a real ledger and server."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk import BaseHook, Connection, get_current_context
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from interlock.adapters.ledger.ledger import Ledger, open_ledger
from interlock.adapters.outbox.runs import deliver_due
from interlock.adapters.outbox.web import WebApi
from interlock.adapters.servicenow.changes import Changes
from interlock.adapters.servicenow.instance import open_instance
from interlock.adapters.signing.signing import Signer, generate_key, load_signer
from interlock.console.pages import downloads
from interlock.domain.calendars.conflicts import conflicts_in
from interlock.domain.catalogue import ChangeType
from interlock.domain.ledger.chain import INSTALLATION
from interlock.domain.ledger.findings import findings_about
from interlock.domain.ledger.kinds import FINDING, RECORD_APPROVED, RECORD_DECIDED, RELEASE_WITHDRAWN
from interlock.domain.ledger.runs import run_of
from interlock.domain.outbox.delivery import correlation_of
from interlock.domain.permits.withdrawal import Withdrawal
from interlock.domain.records import Decision, RolloutPlan
from interlock.estate.settings import Settings
from interlock.locations import CATALOGUE
from interlock.stages.approvals import await_authorities
from interlock.stages.approvals.authorities import read_for_permit
from interlock.stages.approvals.await_authorities import AuthorityTrigger, AwaitAuthorities
from interlock.stages.approvals.elsewhere import note_conflicts_elsewhere
from interlock.stages.controls import deliveries
from interlock.stages.reconcile.findings import record_findings
from interlock.stages.reconcile.reconcile_records import find_missing_records, settle_found_records
from interlock.stages.runtime import resources
from tests.dag_run import dag_run
from tests.factories.told_releases import chain_of, steps
from tests.integration.ledger_server import ledger_connection
from tests.integration.test_service_now import DESCRIBED, connection
from tests.service_now import CANCELED, PASSWORD, USER, Instance, serving

NUMBERS = count(1)


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    key = tmp_path_factory.mktemp("key") / "signing.pem"
    generate_key(key)
    return load_signer(key.as_uri())


@pytest.fixture(scope="module")
def ledger(server: Settings) -> Iterator[Ledger]:
    with open_ledger(ledger_connection(server)) as opened:
        yield opened


class World:
    """A release up to its board's decision, and the instance whose approval it needs."""

    def __init__(
        self,
        ledger: Ledger,
        signer: Signer,
        url: str,
        instance: Instance,
        change_type: ChangeType = ChangeType.NORMAL,
        number_of_steps: int = 4,
    ) -> None:
        self.ledger, self.instance, self.chain = ledger, instance, chain_of(next(NUMBERS))
        self.keys, self.url = [signer.public_key], url
        run = run_of(self.chain)
        assert run is not None
        self.dag_id, self.run_id = run
        facts = [*steps(records={"snow": "authority"}, change_type=change_type)][:number_of_steps]
        for place, (kind, payload) in enumerate(facts):
            ledger.append(self.chain, kind, payload, actor="rita", key=f"{kind}/{place}")
        ledger.sign_head(self.chain, signer)
        _, _, frozen, decided, *_ = ledger.entries(self.chain)
        self.plan = RolloutPlan.model_validate(
            {name: value for name, value in frozen.payload.items() if name != "digest"}
        )
        self.decision = Decision.model_validate(
            {name: value for name, value in decided.payload.items() if name != "board"}
        )

    def told(self) -> None:
        """Tell the instance of the release."""
        api = open_instance(connection(self.url))
        try:
            deliver_due("snow", Changes(api, DESCRIBED), self.ledger, lambda service: (service,), self.keys)
        finally:
            api.close()

    @property
    def change(self) -> dict[str, Any]:
        """The change there."""
        (change,) = self.instance.live(correlation_of("snow", self.chain))
        return change

    def approve(self, *people: str, by: str = "") -> None:
        """Have people approve there."""
        for person in people:
            self.instance.decide(self.change, person, "approved", by=by)

    @contextmanager
    def task(self, name: str) -> Iterator[dict[Any, Any]]:
        """Run a task of the release."""
        with dag_run(f"{self.dag_id}/{name}", run_id=self.run_id) as left:
            yield left

    def execute(self) -> dict[str, Any]:
        """Run the task that waits; return its result."""
        with self.task("rollout.await_authorities") as self.left:
            waiting = AwaitAuthorities(
                task_id="await_authorities",
                service="bike-shop",
                rollout=self.plan.to_xcom(),
                decision=self.decision.to_xcom(),
            )
            return waiting.execute(get_current_context())

    def waits(self) -> AuthorityTrigger:
        """Run the task; return the trigger for which it waits."""
        with pytest.raises(TaskDeferred) as deferred:
            self.execute()
        assert isinstance(deferred.value.trigger, AuthorityTrigger)
        return deferred.value.trigger

    def recorded(self, kind: str) -> list[dict[str, Any]]:
        """Return the payloads of a kind in the chain."""
        return [one.payload for one in self.ledger.entries(self.chain) if one.kind == kind]


@pytest.fixture
def world(
    ledger: Ledger, signer: Signer, server: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    shutil.copytree(CATALOGUE, tmp_path / "catalogue")
    described = DESCRIBED.model_dump(mode="json", exclude_defaults=True, exclude={"calls_per_second"})
    (tmp_path / "catalogue" / "systems.yaml").write_text(yaml.safe_dump({"systems": {"snow": described}}))
    monkeypatch.setenv("INTERLOCK_CATALOGUE", str(tmp_path / "catalogue"))
    own = ledger_connection(server)
    url = f"postgres://{own.login}:{own.password}@{own.host}:{own.port}/{own.schema}"
    monkeypatch.setenv(f"AIRFLOW_CONN_{resources.LEDGER.upper()}", url)
    monkeypatch.setattr(resources, "signer", lambda: signer)
    monkeypatch.setattr(await_authorities, "FIRST_LOOK", 0.05)
    monkeypatch.setattr(Connection, "async_get", classmethod(_from_environment))
    instance = Instance(approvals=True)
    with serving(instance) as address:
        there = address.replace("http://", f"http://{USER}:{PASSWORD}@")
        monkeypatch.setenv("AIRFLOW_CONN_SERVICE_NOW", there)
        yield World(ledger, signer, address, instance)


async def _from_environment(cls: type[Connection], conn_id: str) -> Connection:
    return BaseHook.get_connection(conn_id)


async def fired(trigger: AuthorityTrigger) -> str:
    async for event in trigger.run():
        return str(event.payload["why"])
    raise AssertionError("it did not fire")


def test_it_waits_until_people_approve_there_and_then_goes_on(world: World) -> None:
    before = world.waits()
    assert "snow has no change of this release yet" in world.left["waits_for"]
    world.told()
    assert asyncio.run(fired(before)) == "an authority says something else"
    waiting = world.waits()
    number = world.change["number"]
    said = world.left["waits_for"]
    assert said.startswith(f"the approval of {number} in snow, until ")
    assert f"{number} in snow is not approved; asked there: ben, cora" in said
    assert world.recorded(RECORD_DECIDED) == []
    world.approve("ben", "cora")
    assert asyncio.run(fired(waiting)) == "an authority says something else"
    assert world.execute() == world.decision.to_xcom()
    (decided,) = world.recorded(RECORD_DECIDED)
    assert (decided["approved"], decided["required"], decided["reason"]) == (True, True, f"Approved: {number} in snow.")
    assert {one["user"] for one in decided["read"][0]["answers"]} == {"ben", "cora"}


def test_an_approval_by_a_service_account_is_waited_for_until_a_person_gives_theirs(world: World) -> None:
    world.told()
    world.approve("ben", "cora", by=USER)
    world.waits()
    assert "is approved, but no approval counts" in world.left["waits_for"]
    world.approve("ben")
    assert world.execute() == world.decision.to_xcom()


def test_a_rejection_there_ends_the_release_as_rejected(world: World) -> None:
    world.told()
    world.instance.decide(world.change, "cora", "rejected")
    with pytest.raises(AirflowFailException, match=r"rejected or cancelled, by cora.*Who can change it: the people"):
        world.execute()
    (decided,) = world.recorded(RECORD_DECIDED)
    assert (decided["subject"], decided["approved"], decided["expired"]) == ("record", False, False)


def test_a_change_that_is_cancelled_there_ends_the_release(world: World) -> None:
    world.told()
    world.change["state"] = CANCELED
    with pytest.raises(AirflowFailException, match="rejected or cancelled"):
        world.execute()


def test_no_approval_in_time_ends_the_release_as_expired(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.told()
    monkeypatch.setattr(AwaitAuthorities, "_until", lambda *_: datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(AirflowFailException, match=r"Not approved until .* is not approved; asked there: ben, cora"):
        world.execute()
    (decided,) = world.recorded(RECORD_DECIDED)
    assert (decided["approved"], decided["expired"]) == (False, True)


def test_a_service_that_is_down_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.told()
    up = world.instance.answer
    monkeypatch.setattr(world.instance, "answer", lambda _: (503, {}, b""))
    down = world.waits()
    assert "could not be read: ServiceNow answered GET" in world.left["waits_for"]
    monkeypatch.setattr(world.instance, "answer", up)
    world.approve("ben", "cora")
    assert asyncio.run(fired(down)) == "an authority says something else"
    assert world.execute() == world.decision.to_xcom()


def test_a_release_that_is_withdrawn_while_it_waits_ends(world: World) -> None:
    world.told()
    waiting = world.waits()
    withdrawal = Withdrawal(
        release="bike-shop 1.1.0", by="rita", role="release_manager", at=datetime.now(UTC), reason="A fault.", run="w/1"
    ).model_dump(mode="json")
    world.ledger.append(world.chain, RELEASE_WITHDRAWN, withdrawal, actor="rita", key="withdrawn")
    assert asyncio.run(fired(waiting)) == "the release was called off"
    with pytest.raises(AirflowFailException, match="A fault"):
        world.execute()


def test_the_trigger_fires_when_the_time_is_up_and_survives_being_stored(world: World) -> None:
    world.told()
    trigger = world.waits()
    path, arguments = trigger.serialize()
    assert path == "interlock.stages.approvals.await_authorities.AuthorityTrigger"
    again = AuthorityTrigger(**{**arguments, "until": datetime.now(UTC) + timedelta(seconds=0.2)})
    assert asyncio.run(fired(again)) == "the time is up"


def test_an_approval_that_is_withdrawn_between_vote_and_wave_is_seen_at_the_permit(world: World) -> None:
    world.told()
    world.approve("ben", "cora")
    world.execute()
    with world.task("implementation.wave_1"):
        (well,) = read_for_permit(world.plan, world.ledger.entries(world.chain))
        assert (well.why, len(world.recorded(RECORD_APPROVED))) == ("", 1)
        world.instance.decide(world.change, "ben", "requested")
        (now,) = read_for_permit(world.plan, world.ledger.entries(world.chain))
    assert f"{world.change['number']} in snow is not approved; asked there: ben." == now.why
    assert len(world.recorded(RECORD_APPROVED)) == 1
    assert not now.unread


def test_a_service_that_is_down_at_the_permit_is_told_apart_from_one_that_does_not_approve(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.told()
    monkeypatch.setattr(world.instance, "answer", lambda _: (503, {}, b""))
    with world.task("implementation.wave_1"):
        (down,) = read_for_permit(world.plan, world.ledger.entries(world.chain))
    assert down.unread


def test_all_systems_are_told_by_connections_that_are_closed_afterwards(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[WebApi] = []
    begin = WebApi.__init__

    def noted(self: WebApi, *given: Any, **named: Any) -> None:
        begin(self, *given, **named)
        opened.append(self)

    monkeypatch.setattr(WebApi, "__init__", noted)
    assert deliveries.deliver_all() == (["snow"], [])
    assert world.plan.digest in world.change["correlation_display"]
    assert [api._client.is_closed for api in opened] == [True]


def test_a_system_without_a_connection_is_tried_again_after_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_SERVICE_NOW")
    assert deliveries.deliver_all() == (["snow"], ["snow"])
    with world.task("deliver_records"), pytest.raises(TaskDeferred) as deferred:
        deliveries.DeliverRecords(task_id="deliver_records").execute(get_current_context())
    after = deferred.value.trigger.serialize()[1]["after"]
    assert after > datetime.now(UTC) + deliveries.AFTER_FAILURE / 2


def test_an_emergency_change_without_a_record_there_is_a_finding_until_the_record_is_there(
    world: World, signer: Signer
) -> None:
    def missing(world: World) -> list[str]:
        with world.task("reconcile"):
            settle_found_records(world.ledger)
            record_findings(world.ledger, find_missing_records(world.ledger, {world.chain}))
        return [*downloads.findings(world.dag_id, world.run_id, lambda: nullcontext(world.ledger)).missing]

    def emergency(number_of_steps: int) -> World:
        return World(world.ledger, signer, world.url, world.instance, ChangeType.EMERGENCY, number_of_steps)

    assert missing(emergency(5)) == [], "production is not changed yet"
    urgent = emergency(6)
    assert [urgent.chain.removeprefix("release/") in what for what in missing(urgent)] == [True]
    assert len(missing(urgent)) == 1, "it is found once"
    found = urgent.ledger.entries(INSTALLATION, kind=FINDING)
    assert [*findings_about(found, urgent.chain)] == [], "it gets in the way of no permit"
    with urgent.task("implementation.wave_1"):
        assert read_for_permit(urgent.plan, urgent.ledger.entries(urgent.chain)) == ()
    urgent.told()
    assert missing(urgent) == []


def test_what_the_change_clashes_with_there_is_shown_with_the_conflicts_of_the_plan(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noted() -> list[str]:
        with world.task("rollout.prepare_ballots"):
            note_conflicts_elsewhere()
        return [str(one) for one in conflicts_in(world.ledger.entries(world.chain))]

    assert noted() == ["note: snow has no change of this release yet, so its conflicts there are not known."]
    world.told()
    rows = [
        {"type": "CI Already\nScheduled", "configuration_item.name": "Shop", "conflicting_change.number": "CHG7"},
        {"type": "Blackout", "schedule.name": "End of year"},
    ]
    world.instance.conflicts[world.change["sys_id"]] = [{**row, "sys_id": "c" * 32} for row in [*rows, rows[0]]]
    number = world.change["number"]
    assert noted() == [
        f"warning: {number} in snow: CI Already Scheduled (Shop; CHG7).",
        f"warning: {number} in snow: Blackout (End of year).",
    ]
    monkeypatch.setattr(world.instance, "answer", lambda _: (503, {}, b""))
    assert noted()[0].startswith("note: snow did not say what the change clashes with: ServiceNow answered GET")
    shown = downloads.findings(world.dag_id, world.run_id, lambda: nullcontext(world.ledger))
    assert [*shown.conflicts] == noted()
