"""How the wait for the board goes on, ends, and closes what is left open: the operator against a small real API."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from interlock.adapters.airflow.rest_api import AirflowApi
from interlock.domain.board.accounts import CLERK
from interlock.domain.board.questions import ASK_BOARD
from interlock.domain.catalogue import ChangeType
from interlock.domain.errors import TransientError
from interlock.domain.records import Decision, RolloutPlan
from interlock.stages.approvals import ballots as ballot_box
from interlock.stages.approvals.people import question
from interlock.stages.release import rollout as stage
from interlock.stages.runtime import resources
from interlock.stages.runtime.triggers import AnswersTrigger, digest_of_answers
from tests.airflow_server import RUN, AirflowServer
from tests.clock import NOW
from tests.factories import releases
from tests.running_task import RunningTask

pytestmark = pytest.mark.usefixtures("clock")

SOON = NOW + timedelta(days=2)
LATE = NOW - timedelta(minutes=1)
CAB = ("ben", "cora", "dan")


@pytest.fixture(autouse=True)
def left(running: RunningTask, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The XComs that the task leaves."""
    monkeypatch.setattr(ballot_box, "sleep", lambda _: None)
    return running.xcoms


def body(digest: str) -> str:
    return str(question("Release?", "The plan.", digest, [])["body"])


def ballots(airflow: AirflowServer, planned: RolloutPlan, members: tuple[str, ...] = CAB) -> list[dict[str, Any]]:
    text = body(planned.digest)
    return [airflow.ask(ASK_BOARD, user, body=text, map_index=number) for number, user in enumerate(members)]


def waiting(planned: RolloutPlan, number: int) -> stage.AwaitBoard:
    """Return the task that waits; the plan is on record."""
    resources.ledger().knows("rollout.frozen", planned)  # type: ignore[attr-defined]  # it is a RunningTask
    return stage.AwaitBoard(
        task_id="await_board", service=planned.service, rollout=planned.to_xcom(), ballots=[{"subject": "?"}] * number
    )


def wait(planned: RolloutPlan, number: int = len(CAB)) -> Decision:
    """Return the decision as the task leaves it."""
    return Decision.from_xcom(waiting(planned, number).execute({}))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        pytest.param({"change_type": ChangeType.STANDARD}, "requires no vote for a standard change", id="standard"),
        pytest.param({"rehearsal": True, "environment": "test"}, "A rehearsal needs no vote", id="rehearsal"),
    ],
)
def test_a_release_that_asks_no_board_is_approved_without_asking_airflow(
    airflow: AirflowServer, changes: dict[str, Any], why: str
) -> None:
    planned = releases.rollout(decide_by=None, **changes)
    decision = wait(planned, 0)
    assert (decision.approved, decision.required, decision.digest) == (True, False, planned.digest)
    assert why in decision.reason
    assert airflow.asked == []


def test_a_release_whose_board_must_vote_is_not_approved_because_no_ballot_was_prepared(
    airflow: AirflowServer, left: dict[str, Any]
) -> None:
    with pytest.raises(AirflowFailException, match="not approved in time"):
        wait(releases.rollout(decide_by=LATE), 0)
    assert not Decision.from_xcom(left["return_value"]).approved


def test_while_the_board_can_go_either_way_the_task_waits_for_the_next_answer(airflow: AirflowServer) -> None:
    planned = releases.rollout(decide_by=SOON)
    cast = ballots(airflow, planned)
    airflow.answer(cast[0], "ben", "Approve")
    with pytest.raises(TaskDeferred) as deferred:
        wait(planned)
    trigger = deferred.value.trigger
    assert isinstance(trigger, AnswersTrigger)
    assert (trigger.dag_id, trigger.run_id, trigger.question_id) == (*RUN, ASK_BOARD)
    with resources.airflow_api() as api:
        known = digest_of_answers(api.answers(*RUN, ASK_BOARD))
    assert (trigger.known, trigger.until) == (known, SOON - timedelta(hours=12)), "then it reminds who has not voted"
    assert deferred.value.method_name == "execute_again"
    assert not cast[1]["response_received"], "nobody's ballot is closed while the board is open"


def test_woken_too_early_it_waits_again(airflow: AirflowServer) -> None:
    planned = releases.rollout(decide_by=SOON)
    ballots(airflow, planned)
    with pytest.raises(TaskDeferred) as deferred:
        waiting(planned, 3).execute_again({}, {"why": "1 answers"})
    assert deferred.value.trigger.known == digest_of_answers(())


def test_a_board_that_has_approved_closes_the_ballots_left_open(airflow: AirflowServer) -> None:
    planned = releases.rollout(decide_by=SOON)
    cast = ballots(airflow, planned)
    for ballot, user in zip(cast[:2], CAB, strict=False):
        airflow.answer(ballot, user, "Approve")
    decision = Decision.from_xcom(waiting(planned, 3).execute_again({}, {"why": "2 answers"}))
    assert (decision.approved, decision.required, decision.digest) == (True, True, planned.digest)
    assert cast[2]["responded_by_user"]["name"] == CLERK
    assert cast[2]["chosen_options"] == ["Abstain"]
    assert wait(planned).approved, "run again, it comes to the same"


def test_a_rejection_fails_for_good_with_the_members_words_and_closes_the_rest(
    airflow: AirflowServer, running: RunningTask
) -> None:
    planned = releases.rollout(decide_by=SOON)
    cast = ballots(airflow, planned)
    airflow.answer(cast[1], "cora", "Reject", "The cookie is not marked secure")
    with pytest.raises(AirflowFailException, match="The cookie is not marked secure"):
        wait(planned)
    decision = Decision.from_xcom(running.xcoms["return_value"])
    assert (decision.approved, decision.expired) == (False, False)
    assert "The cookie is not marked secure" in running.xcoms["reason"]
    decided = [payload["approved"] for kind, payload in running.recorded if kind == "board.decided"]
    assert decided == [False]
    assert all(ballot["response_received"] for ballot in cast)


def test_silence_until_the_deadline_is_a_rejection(airflow: AirflowServer, left: dict[str, Any]) -> None:
    planned = releases.rollout(decide_by=LATE)
    cast = ballots(airflow, planned)
    airflow.answer(cast[0], "ben", "Approve", responded_at=(LATE - timedelta(hours=1)).isoformat())
    with pytest.raises(AirflowFailException, match="1 of 2 approvals by the deadline"):
        wait(planned)
    assert Decision.from_xcom(left["return_value"]).expired
    assert all(ballot["response_received"] for ballot in cast)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda server, ballot: server.answer(ballot, "dan", "Approve"), id="after the deadline"),
        pytest.param(
            lambda server, ballot: (
                server.answer(ballot, "dan", "Approve", responded_at=(LATE - timedelta(hours=1)).isoformat()),
                ballot.update(body=body("0" * 64)),
            ),
            id="on another plan",
        ),
        pytest.param(
            lambda server, ballot: server.answer(
                ballot, "ben", "Approve", responded_at=(LATE - timedelta(hours=1)).isoformat()
            ),
            id="as somebody else",
        ),
    ],
)
def test_an_approval_that_does_not_count_does_not_make_the_quorum(
    airflow: AirflowServer, answer: Callable[[AirflowServer, dict[str, Any]], None]
) -> None:
    planned = releases.rollout(decide_by=LATE)
    cast = ballots(airflow, planned)
    airflow.answer(cast[0], "ben", "Approve", responded_at=(LATE - timedelta(hours=1)).isoformat())
    answer(airflow, cast[2])
    with pytest.raises(AirflowFailException, match="1 of 2 approvals by the deadline"):
        wait(planned)


def test_the_requesters_approval_does_not_count(airflow: AirflowServer) -> None:
    planned = releases.rollout(decide_by=SOON, requested_by="dan")
    cast = ballots(airflow, planned)
    airflow.answer(cast[0], "ben", "Approve")
    airflow.answer(cast[2], "dan", "Approve")
    with pytest.raises(TaskDeferred):
        wait(planned)


def test_the_emergency_board_has_members_and_a_quorum_of_its_own(airflow: AirflowServer) -> None:
    planned = releases.rollout(decide_by=SOON, change_type=ChangeType.EMERGENCY)
    cast = ballots(airflow, planned, ("ben", "cora"))
    airflow.answer(cast[0], "ben", "Approve")
    assert wait(planned, 2).approved


def test_a_ballot_that_never_appears_does_not_hold_up_the_decision(
    airflow: AirflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ballot_box, "CLOSING_TIME", 0.2)
    planned = releases.rollout(decide_by=SOON)
    cast = ballots(airflow, planned, CAB[:2])
    for ballot, user in zip(cast, CAB, strict=False):
        airflow.answer(ballot, user, "Approve")
    assert wait(planned, 3).approved  # the decision stands; what is open runs out of time


def test_a_ballot_that_appears_late_is_waited_for_and_closed(
    airflow: AirflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = releases.rollout(decide_by=SOON)
    cast = ballots(airflow, planned, CAB[:2])
    for ballot, user in zip(cast, CAB, strict=False):
        airflow.answer(ballot, user, "Approve")
    late: list[dict[str, Any]] = []
    text = body(planned.digest)
    monkeypatch.setattr(
        ballot_box, "sleep", lambda _: late or late.append(airflow.ask(ASK_BOARD, "dan", body=text, map_index=2))
    )
    assert wait(planned, 3).approved
    assert [ballot["responded_by_user"]["name"] for ballot in late] == [CLERK]


def test_a_member_who_answers_while_the_clerk_closes_is_not_overruled(
    airflow: AirflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = releases.rollout(decide_by=SOON)
    cast = ballots(airflow, planned)
    for ballot, user in zip(cast[:2], CAB, strict=False):
        airflow.answer(ballot, user, "Approve")
    close = AirflowApi.close_question

    def overtaken(*question: Any, **answer: Any) -> bool:
        airflow.answer(cast[2], "dan", "Reject", "Too late, but on record")
        return close(*question, **answer)

    monkeypatch.setattr(AirflowApi, "close_question", overtaken)
    assert wait(planned).approved
    assert cast[2]["responded_by_user"]["name"] == "dan"
    assert airflow.asked[-2][0] == "PATCH"


def test_an_airflow_that_is_away_is_tried_again(airflow: AirflowServer, left: dict[str, Any]) -> None:
    planned = releases.rollout(decide_by=SOON)
    ballots(airflow, planned)
    airflow.troubles = [(503, b"starting")]
    with pytest.raises(TransientError):
        wait(planned)
    assert "503" in left["reason"]


def test_a_plan_that_no_task_wrote_is_refused(airflow: AirflowServer) -> None:
    planned = releases.rollout(decide_by=SOON)
    operator = waiting(planned, 3)
    operator.rollout = {**planned.to_xcom(), "hosts": "all"}
    with pytest.raises(AirflowFailException, match="A record that this task received is not valid"):
        operator.execute({})


def test_an_approval_that_was_written_past_the_api_does_not_count_and_is_a_finding(
    airflow: AirflowServer, running: RunningTask
) -> None:
    planned = releases.rollout(decide_by=LATE)
    ben, cora, dan = ballots(airflow, planned)
    early = (LATE - timedelta(minutes=1)).isoformat()
    airflow.answer(ben, "ben", "Approve", responded_at=early)
    airflow.answer(cora, "cora", "Approve", responded_at=early, written_past_the_api=True)
    with pytest.raises(AirflowFailException, match=r"cora's answer .* was not submitted"):
        wait(planned)
    (finding,) = {payload["what"] for kind, payload in running.recorded if kind == "finding"}
    assert finding.startswith(
        "cora's answer “Approve” to rollout.cast_ballot[1] was not submitted through Airflow's API"
    )
    assert dan["responded_by_user"]["name"] == CLERK, "nobody waits for a vote on what cannot be approved any more"
    assert "can no longer be approved" in dan["params_input"]["comment"]


def test_a_digest_that_a_ballot_only_mentions_is_not_what_it_is_about(airflow: AirflowServer) -> None:
    planned = releases.rollout(decide_by=LATE)
    other = planned.model_copy(update={"summary": "Another"})
    early = (LATE - timedelta(minutes=1)).isoformat()
    for number, user in enumerate(CAB):
        text = body(other.digest).replace("The plan.", body(planned.digest))
        asked = airflow.ask(ASK_BOARD, user, body=text, map_index=number)
        airflow.answer(asked, user, "Approve", responded_at=early)
    with pytest.raises(AirflowFailException, match="not approved in time"):
        wait(planned)


@pytest.mark.parametrize("changes", [{"rehearsal": True, "environment": "test"}, {"version": "9.9.9"}])
def test_a_plan_that_is_not_the_one_on_record_is_not_decided_on(
    airflow: AirflowServer, running: RunningTask, changes: dict[str, Any]
) -> None:
    planned = releases.rollout(decide_by=SOON)
    cast = ballots(airflow, planned)
    task = waiting(planned, 3)
    task.rollout = planned.model_copy(update=changes).to_xcom()
    with pytest.raises(AirflowFailException, match="received a RolloutPlan that differs from the record in the ledger"):
        task.execute({})
    assert [kind for kind, _ in running.recorded] == ["rollout.frozen", "finding"]
    assert all(ballot["response_received"] for ballot in cast), "nobody needs to vote any more"


def test_a_board_decides_nothing_after_the_end(airflow: AirflowServer, running: RunningTask) -> None:
    planned = releases.rollout(decide_by=SOON)
    for ballot, user in zip(ballots(airflow, planned)[:2], CAB, strict=False):
        airflow.answer(ballot, user, "Approve")
    task = waiting(planned, 3)
    running.recorded.append(("release.closed", {"outcome": "deployed"}))
    with pytest.raises(AirflowFailException, match="the release is closed"):
        task.execute({})
    assert running.recorded[-1][0] == "release.closed"
