"""A train's one decision, which stands for the boards of all its passengers, and the conductor who asks for them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.end_to_end.people import DAG, Release, let_run, until
from tests.end_to_end.stack import Stack

from . import wave
from .databases import AirflowDatabase
from .people import APPROVER, NEW, TAMPERED, at_the_board, at_the_training, go, nobody_changes, reason_of, refused, vote
from .suite import CONDUCTOR, MANAGER, MEMBER, OWNER, WRITTEN, attack, by_admin

pytestmark = [pytest.mark.timeout(1800), pytest.mark.attacks]
TRAIN, BALLOT, BOARD = "train_weekly", "board.cast_ballot", "board.await_board"
FREEZE, DEPART, SEND = "boarding.freeze_manifest", "departure.depart", "departure.send_bike_shop"


def sent(stack: Stack, **form: str) -> Release:
    """Send the train by hand; its board is asked."""
    rita = stack.person("rita")
    train = Release(rita, rita.start(TRAIN, form).id, TRAIN)
    at_the_board(train, BALLOT, BOARD)
    return train


def approve(stack: Stack, train: Release) -> None:
    """Let the board approve the manifest."""
    for member in ("ben", "cora"):
        vote(stack, train, member, "Approve", ballot=BALLOT)


def manifest_of(train: Release) -> dict[str, Any]:
    """Return the manifest as the ledger has it."""
    return wave.entries(train, "manifest.frozen")[-1].payload


def did_not_depart(train: Release, why: str) -> None:
    """Check that a train ended where it was, for a reason that a person understands, and released nothing."""
    assert train.finish() == "failed"
    arrival = wave.entries(train, "train.arrived")[-1].payload
    assert not arrival["departed"]
    assert why in arrival["reason"], arrival["reason"]
    assert not wave.entries(train, "passenger.departed")


@pytest.fixture(scope="module")
def open_train(stack: Stack) -> Release:
    """A train on whose manifest the board is voting; its board has no other before it."""
    let_run(stack.person("rita"), TRAIN)
    return sent(stack)


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        by_admin(
            "mark a ballot on a train as success",
            "PATCH",
            f"{{run}}/taskInstances/{BALLOT}/0",
            {"new_state": "success"},
        ),
        by_admin(
            "edit the XCom of a train's manifest",
            "PATCH",
            f"{{run}}/taskInstances/{FREEZE}/xcomEntries/return_value",
            {"value": "{}", "map_index": -1},
        ),
        by_admin("mark a train's run as success", "PATCH", "{run}", {"state": "success"}),
        by_admin("clear a train's run", "POST", "{run}/clear", {"dry_run": False, "only_failed": False}),
        by_admin("delete a train's run", "DELETE", "{run}"),
    ],
)
def test_nobody_changes_a_train(stack: Stack, open_train: Release, method: str, path: str, content: Any) -> None:
    nobody_changes(stack, open_train, method, path, content)


@attack(
    "vote on the train that one sent",
    by=MANAGER,
    way="API",
    stopped="who had a hand in who boards gets no ballot",
)
def test_who_sends_a_train_does_not_vote_on_it(open_train: Release) -> None:
    asked = {user for one in open_train.questions() for user in one.assigned}
    assert {"ben", "cora", "dan"} <= asked
    assert "rita" not in asked


@attack(
    "ask for a release in a train's name",
    by=MANAGER,
    way="API",
    stopped="only the trains' conductor asks for a passenger's release; the door refuses everybody else",
)
def test_nobody_asks_in_a_trains_name(stack: Stack, open_train: Release) -> None:
    for user in ("rita", "admin"):
        reply = stack.person(user).send_form(DAG, form_of(open_train))
        assert reply.status_code == 403, reply.text
        assert "only interlock_conductor can request" in reply.text


@attack(
    "ask for what the manifest does not name, with the conductor's password",
    by=CONDUCTOR,
    way="API",
    stopped="the door holds each passenger against the frozen manifest",
)
@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"version": "1.2.0"}, "but this is 1.2.0"),
        ({"ref": "a" * 40}, "but this is"),
        ({"change_type": "emergency"}, "the change type of the train is normal"),
        ({"train": "release/train_weekly/of_another_day"}, "has no frozen manifest"),
        ({"train": None}, "names no train"),
    ],
)
def test_the_conductor_asks_for_passengers_only(
    stack: Stack, open_train: Release, changed: dict[str, Any], why: str
) -> None:
    form = {name: value for name, value in {**form_of(open_train), **changed}.items() if value is not None}
    reply = stack.person("interlock_conductor").send_form(DAG, form)
    assert reply.status_code == 403, reply.text
    assert why in reply.text


def form_of(train: Release) -> dict[str, Any]:
    """Return the form with which the conductor asks for the passenger of a train."""
    (one,) = manifest_of(train)["passengers"]
    return {
        "ref": one["commit"],
        "version": one["version"],
        "change_type": "normal",
        "summary": one["summary"],
        "tickets": [],
        "train": f"release/{TRAIN}/{train.id}",
    }


@attack(
    "have the conductor release before the board of the train decided",
    by=CONDUCTOR,
    way="API",
    stopped="no permit: the votes on the manifest are counted again, and do not approve it",
)
def test_a_passenger_is_not_ahead_of_its_board(stack: Stack, open_train: Release) -> None:
    conductor = stack.person("interlock_conductor")
    release = Release(stack.person("rita"), conductor.start(DAG, form_of(open_train)).id)
    stack.person("fay").decide(release, APPROVER, "Approve", "Works as we asked")
    assert release.finish() == "failed"
    outcome = release.outcome()
    assert outcome["stage"] == "rollout"
    assert "According to the votes on the manifest" in outcome["reason"], outcome["reason"]
    assert {one.payload["permit"]["purpose"] for one in wave.entries(release, "permit.used")} <= {"inspect"}


@attack("write approvals of a train for members who did not vote", by=OWNER, way="database", stopped=WRITTEN)
def test_written_approvals_send_no_train(open_train: Release, database: AirflowDatabase) -> None:
    for member in ("ben", "cora"):
        database.write_answer(open_train, BALLOT, member, "Approve")
    TAMPERED["a train's votes"] = open_train
    did_not_depart(open_train, "was not submitted through Airflow's API")
    assert any("was not submitted" in what for what in wave.findings(open_train))


@attack(
    "write that a train's ballots and counting succeeded",
    by=OWNER,
    way="database",
    stopped="at departure the votes are counted again from who answered what, and nobody did",
)
def test_states_send_no_train(stack: Stack, open_train: Release, database: AirflowDatabase) -> None:
    train = sent(stack)
    database.set_state(train, "success", BALLOT, f"{BALLOT}_over", BOARD)
    TAMPERED["a train's states"] = train
    did_not_depart(train, "")
    assert train.states()[DEPART] == "failed"
    assert "approv" in reason_of(train, DEPART), reason_of(train, DEPART)


@attack(
    "put another commit on the manifest that the board approved",
    by=OWNER,
    way="database",
    stopped="the next task compares it with the manifest in the ledger, and leaves a finding",
)
def test_a_manifest_that_was_edited_is_void(stack: Stack, open_train: Release, database: AirflowDatabase) -> None:
    departure = datetime.now(UTC) + timedelta(seconds=180)
    train = sent(stack, departure=departure.isoformat().replace("+00:00", "Z"))
    approve(stack, train)
    until("the board's decision", lambda: train.states()[BOARD] == "success")
    manifest = database.xcom(train, FREEZE)
    manifest["passengers"][0] |= {"commit": "a" * 40, "ref": "a" * 40}
    database.write_xcom(train, FREEZE, manifest)
    TAMPERED["a manifest"] = train
    did_not_depart(train, "differs from the record in the ledger")


@attack(
    "delete the train's run when its passenger is on the way, so that nobody can count",
    by=OWNER,
    way="database",
    stopped="no permit: the votes on the manifest are counted again, and those that are gone approve nothing",
)
def test_a_deleted_train_approves_nothing(stack: Stack, open_train: Release, database: AirflowDatabase) -> None:
    train = sent(stack)
    approve(stack, train)
    left = until("the passenger's release", lambda: wave.entries(train, "passenger.departed"))
    release = Release(stack.person("rita"), left[0].payload["run"].partition("/")[2])
    stack.person("fay").decide(release, APPROVER, "Approve", "Works as we asked")
    at_the_training(release)
    assert wave.refusal(release) == ""
    database.forget(train)
    TAMPERED["a train's run"] = train
    assert "A recount of the votes does not approve the plan." in wave.refusal(release)
    go(stack, release)
    assert release.finish() == "failed"
    assert "does not approve the plan" in release.outcome()["reason"]
    assert wave.plan_of(release).version == NEW


@attack(
    "vote on a train that has departed",
    by=MEMBER,
    way="API",
    stopped="a ballot is closed when the board has decided",
)
def test_nobody_votes_when_it_is_over(stack: Stack, open_train: Release) -> None:
    open_train.finish()
    dan = stack.person("dan")
    content = {"chosen_options": ["Approve"], "params_input": {"comment": "Better late than never"}}
    for index in range(3):
        reply = dan.send("PATCH", f"{open_train.path}/taskInstances/{BALLOT}/{index}/hitlDetails", content)
        assert reply.status_code in (403, 409), f"{reply.status_code}: {reply.text}"
        if reply.status_code == 403:
            refused(reply, "dan")
