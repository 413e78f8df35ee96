"""Trains, calendars and stops, end to end: a real Airflow, its conductor, and people at the public REST API.

Three services are on the train. The stock cannot be built, the till depends on the stock, and the corner shop can be
released: its hosts are changed one after the other. A fourth has a train to itself, which departs meanwhile.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from interlock.estate.commands.client import ENDED, Run

from .people import Colleague, Release, dag_of, let_run, until
from .stack import CORNER_SHOP, Stack, add_service

pytestmark = [pytest.mark.timeout(2400), pytest.mark.end_to_end]
SERVICE, DAG = CORNER_SHOP, dag_of(CORNER_SHOP)
TRAIN, BALLOT, HOURLY = "train_shops", "board.cast_ballot", "hourly"
FILE = """\
name: shops
title: The shops' train
owner: the office
time_zone: UTC
cadence: { cron: "0 20 * * TUE" }
freeze: { then: drop }
passengers:
  - { service: stock, tags: "1.0.*" }
  - { service: till, tags: "1.0.*", after: [stock] }
  - { service: corner-shop, tags: "1.1.*" }
"""
FREEZE = """\
title: Calendar
owner: the office
time_zone: UTC
entries:
  - name: audit
    title: The audit
    kind: freeze
    scope: {{ services: [stock, till, corner-shop] }}
    from: {start:%Y-%m-%dT%H:%M}
    until: {end:%Y-%m-%dT%H:%M}
"""


@pytest.fixture(scope="module", autouse=True)
def shops_train(stack: Stack) -> None:
    """The services and the train, which is let run."""
    folder = stack.settings.catalogue
    for name, target in (("stock", "no-such-target"), ("till", "build"), ("museum", "build")):
        add_service(folder, name, like=SERVICE, hosts=False, **{"build: [build]": f"build: [{target}]"})
    (folder / "trains" / "shops.yaml").write_text(FILE)
    stack.parse("train_weekly", DAG)
    rita = stack.person("rita")
    let_run(rita, TRAIN)
    for dag in map(dag_of, ("stock", "till", "museum")):
        until(dag, lambda dag=dag: rita.send("GET", f"dags/{dag}").is_success)


@pytest.fixture(scope="module", autouse=True)
def departure(stack: Stack, shops_train: None) -> datetime:
    """When a train departs that Airflow's scheduler sends while other tests run; its one passenger is not there."""
    departure = datetime.now(UTC) + timedelta(minutes=4)
    text = FILE.replace("name: shops", f"name: {HOURLY}").replace("The shops' train", "The hourly train")
    text = text.replace('"0 20 * * TUE"', f'"{departure.minute} * * * *"')
    text = f'{text.partition("  - {")[0]}  - {{ service: museum, tags: "9.*" }}\n'
    file = stack.settings.catalogue / "trains" / f"{HOURLY}.yaml"
    file.write_text(f"{text}boarding: {{ opens: PT30M, cut_off: PT1M }}\n")
    stack.parse(TRAIN)
    let_run(stack.person("rita"), f"train_{HOURLY}")
    return departure


@pytest.fixture(scope="module")
def rita(stack: Stack) -> Colleague:
    return stack.person("rita")


def send(rita: Colleague, **form: str) -> Release:
    """Send the train by hand."""
    return Release(rita, rita.start(TRAIN, form).id, TRAIN)


def vote(stack: Stack, run: Release, *users: str) -> None:
    """Let people approve the manifest of a train."""
    for user in users:
        stack.person(user).decide(run, BALLOT, "Approve", "Fine")


def ended(run: Run, within: float = 900) -> str:
    until(f"{run.id} of {run.dag_id} to end", lambda: run.state in ENDED, within=within)
    return run.state


def states(run: Run) -> dict[str, str]:
    return {task["task_id"]: str(task["state"]) for task in run.tasks()}


def test_the_timetable_is_shown_and_gives_the_next_departure(rita: Colleague) -> None:
    dag = rita.get(f"dags/{TRAIN}/details")
    assert dag["timetable_summary"] == "0 20 * * TUE UTC"
    assert dag["timetable_description"].startswith("Departs 0 20 * * TUE UTC; boarding opens 1 day before")
    found = until("the next run", lambda: rita.get(f"dags/{TRAIN}")["next_dagrun_data_interval_end"])
    departure = datetime.fromisoformat(found)
    assert (departure.weekday(), departure.hour, departure.minute) == (1, 20, 0)
    assert departure > datetime.now(UTC)


def test_a_train_departs_one_fails_its_dependant_stays_behind_and_the_third_arrives(
    stack: Stack, rita: Colleague
) -> None:
    train = send(rita)
    vote(stack, train, "ben", "cora")
    running = until("the corner shop's release", lambda: rita.active_runs(DAG))
    release = Release(rita, running[0].id)
    assert release.id.startswith("1.1.1__")
    assert release.id.endswith("__shops")
    stack.person("fay").decide(release, "acceptance.ask_approver", "Approve", "Works", within=900)
    stack.person("sam").decide(release, "communication.acknowledge_training", "Acknowledge", "Read", within=900)
    assert release.finish() == "success", release.outcome()
    assert stack.production() == {"1.1.1"}
    assert "rollout.cast_ballot" not in {one.task_id for one in release.questions()}
    decision = release.result("rollout.await_board")
    assert decision["approved"]
    assert {vote["user"] for vote in decision["votes"]} >= {"ben", "cora"}
    plan = release.result("rollout.freeze_plan")
    assert plan["requested_by"] == "interlock_conductor"
    assert plan["train"]["chain"] == f"release/{TRAIN}/{train.id}"

    assert ended(train) == "failed", "somebody on board did not arrive"
    found = states(train)
    assert found["departure.send_corner_shop"] == "success"
    assert found["departure.send_stock"] == "failed"
    assert found["departure.send_till"] == "upstream_failed"
    came = {one["service"]: one for one in train.result("arrival.record_arrival")["passengers"]}
    assert {name: one["outcome"] for name, one in came.items()} == {
        "stock": "failed",
        "till": "not departed",
        "corner-shop": "deployed",
    }
    assert "no-such-target" in came["stock"]["reason"]
    assert came["till"]["reason"] == "It depends on stock, which did not arrive."


def test_nobody_but_the_conductor_asks_for_a_release_in_a_trains_name(stack: Stack, rita: Colleague) -> None:
    newest = rita.get(f"dags/{TRAIN}/dagRuns", order_by="-run_after", limit=1)["dag_runs"][0]
    plan = Release(rita, newest["dag_run_id"])
    manifest = Run(rita, TRAIN, plan.id).result("boarding.freeze_manifest")
    one = next(each for each in manifest["passengers"] if each["service"] == SERVICE)
    form = {"ref": one["commit"], "version": one["version"], "summary": "Sell bikes", "tickets": []}
    form["train"] = f"release/{TRAIN}/{plan.id}"
    for user in ("rita", "admin"):
        reply = stack.person(user).send_form(DAG, form)
        assert reply.status_code == 403, reply.text
        assert "only interlock_conductor can request" in reply.text
    conductor = stack.person("interlock_conductor")
    for changed, why in (({"version": "1.2.0"}, "but this is 1.2.0"), ({"train": None}, "train")):
        other = {key: value for key, value in {**form, **changed}.items() if value is not None}
        reply = conductor.send_form(DAG, other)
        assert reply.status_code == 403, reply.text
        assert why in reply.text
    assert conductor.send_form(TRAIN, {}).status_code == 403


def test_a_freeze_that_is_added_after_boarding_stops_the_departure(stack: Stack, rita: Colleague) -> None:
    departure = datetime.now(UTC) + timedelta(seconds=60)
    train = send(rita, departure=departure.isoformat().replace("+00:00", "Z"))
    vote(stack, train, "ben", "cora")
    until("the board's decision", lambda: states(train).get("board.await_board") == "success")
    now = datetime.now(UTC)
    catalogue = stack.settings.catalogue / "calendars" / "audit.yaml"
    catalogue.write_text(FREEZE.format(start=now - timedelta(hours=1), end=now + timedelta(hours=5)))
    try:
        assert ended(train) == "failed"
        assert states(train)["departure.depart"] == "failed"
        arrival = train.result("arrival.record_arrival")
        assert not arrival["departed"]
        assert "closed by The audit" in arrival["reason"]
    finally:
        catalogue.unlink()
    assert rita.active_runs("release_stock") == []


def tag_a_slow_patch(stack: Stack, folder: Path) -> str:
    """Push another version of the shop, each of whose hosts takes twenty seconds to say that it is well."""
    version = "1.1.2"
    git("clone", "--quiet", "--branch", "1.1.1", str(stack.settings.repository), str(folder))
    validate = folder / "bin" / "validate"
    validate.write_text(validate.read_text().replace("set -eu\n", "set -eu\nsleep 20\n"))
    (folder / "VERSION").write_text(f"{version}\n")
    who = ("-c", "user.name=Wim Wheel", "-c", "user.email=wim@shop.example")
    message = "Look twice whether it is well (SHOP-18)"
    git("-C", str(folder), *who, "commit", "--quiet", "--all", "--message", message)
    git("-C", str(folder), *who, "tag", "--message", version, version)
    git("-C", str(folder), "push", "--quiet", "origin", version)
    return version


def hosts_with(stack: Stack, version: str) -> int:
    """Return how many production hosts answer with a version; one that is just being switched does not answer."""
    count = 0
    for host in stack.hosts("production"):
        with suppress(httpx.HTTPError):
            count += stack.version_of(host.address) == version
    return count


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def slow(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> str:
    return tag_a_slow_patch(stack, tmp_path_factory.mktemp("slow") / "shop")


@contextmanager
def held_between_two_hosts(stack: Stack, rita: Colleague, version: str) -> Iterator[Release]:
    """Release a version of which one host has it, and which a freeze keeps from the others for a block."""
    (before,) = stack.production()
    run = rita.release(version, change_type="standard", summary="Look twice", tickets=["SHOP-18"])
    stack.person("sam").decide(run, "communication.acknowledge_training", "Acknowledge", "Read", within=900)
    until("the first host to have it", lambda: hosts_with(stack, version) == 1, within=900)
    now = datetime.now(UTC)
    freeze = FREEZE.format(start=now - timedelta(hours=1), end=now + timedelta(hours=5))
    calendar = stack.settings.catalogue / "calendars" / "audit.yaml"
    calendar.write_text(f"{freeze}    during_rollout: stop\n")
    try:
        waits = until("the wave to wait", lambda: run.result("implementation.wave_1", "waits_for"), within=600)
        assert "The audit" in str(waits)
        assert (hosts_with(stack, version), hosts_with(stack, before)) == (1, 2), "no other was begun"
        yield run
    finally:
        calendar.unlink()


def test_a_release_that_waits_in_mid_rollout_is_withdrawn_and_backed_out(
    stack: Stack, rita: Colleague, slow: str
) -> None:
    (before,), mails = stack.production(), len(stack.mails())
    with held_between_two_hosts(stack, rita, slow) as run:
        reply = rita.withdraw(run.id, service=SERVICE)
        assert reply.status_code == 200, reply.text
        withdrawal = Run(rita, "withdraw_release", reply.json()["dag_run_id"])
        assert run.finish(within=600) == "failed", "although the freeze is still in force"
        assert ended(withdrawal) == "success"
    outcome = run.outcome()
    assert (outcome["outcome"], outcome["stage"]) == ("backed_out", "implementation"), outcome
    assert "rita, who requested it, withdrew the release: The tag is wrong." in outcome["reason"]
    assert withdrawal.result("await_end")["outcome"] == "backed_out"
    assert sorted(one["outcome"] for one in run.result("verification.back_out")["results"]) == [
        "backed_out",
        "unchanged",
        "unchanged",
    ]
    assert stack.production() == {before}
    assert stack.in_service() == 3
    told = {mail.subject: mail for mail in stack.mails()[mails:]}
    assert "The tag is wrong." in told[f"Corner shop {slow}: backed out"].text
    taken_back = told[f"Corner shop {slow}: taken back"]
    assert f"You continue to use Corner shop {before}." in taken_back.text
    announced = run.result("communication.record_communication")["sent"]
    back = [mail for mail in stack.mails()[mails:] if mail.subject == taken_back.subject]
    assert {to for mail in back for to in mail.recipients} == {to for each in announced.values() for to in each}


def test_a_freeze_holds_a_rollout_between_two_hosts_and_an_emergency_stop_halts_it(
    stack: Stack, rita: Colleague, slow: str
) -> None:
    (before,) = stack.production()
    with held_between_two_hosts(stack, rita, slow) as run:
        pass
    until("the second host to have it", lambda: hosts_with(stack, slow) == 2, within=600)
    olga, form = stack.person("olga"), {"scope": SERVICE, "reason": "The warehouse burns", "incident": "INC-9"}
    stop = Run(olga, "emergency_stop", olga.start("emergency_stop", {**form, "hours": 1, "lift": ""}).id)
    assert run.finish(within=900) == "failed"
    assert ended(stop) == "success"

    results = run.result("implementation.wave_1")["results"]
    assert sorted(one["outcome"] for one in results) == ["deployed", "failed", "unchanged"]
    halted = next(one for one in results if one["outcome"] == "failed")
    assert "The wave is halted: emergency stop of corner-shop, by olga: The warehouse burns" in halted["error"]
    assert halted["before"] == halted["after"], "a host that was held back was not changed"
    outcome = run.outcome()
    assert (outcome["outcome"], outcome["stage"]) == ("backed_out", "implementation")
    assert "The warehouse burns" in outcome["reason"]
    assert stack.production() == {before}
    assert stack.in_service() == 3
    assert any("Emergency stop of corner-shop" in mail.subject for mail in stack.mails())

    lifted = olga.start("emergency_stop", {**form, "hours": 1, "lift": stop.result("record_stop")["id"]})
    assert ended(lifted) == "success"


def test_the_scheduler_sends_a_train_by_its_timetable_at_its_time(rita: Colleague, departure: datetime) -> None:
    """Nobody is ready for it, so it departs empty: who boards is what the test of a departure by hand is about."""
    dag = f"train_{HOURLY}"
    rows = until("its run", lambda: rita.get(f"dags/{dag}/dagRuns", order_by="run_after")["dag_runs"], within=900)
    run = Run(rita, dag, rows[0]["dag_run_id"])
    assert rows[0]["run_type"] == "scheduled"
    assert datetime.fromisoformat(rows[0]["data_interval_end"]).minute == departure.minute
    planned_run = until("boarding", lambda: run.result("boarding.open_train"))
    assert datetime.fromisoformat(planned_run["departure"]) == datetime.fromisoformat(rows[0]["data_interval_end"])
    assert planned_run["asked_by"] == ""
    assert ended(run) == "success"
    assert {task["task_id"]: task["state"] for task in run.tasks()}["arrival.close_train"] == "skipped"
    came = run.result("arrival.record_arrival")
    assert came["departed"]
    (left,) = came["passengers"]
    assert (left["outcome"], left["reason"]) == ("left behind", "no tag with the pattern 9.* is a version")
