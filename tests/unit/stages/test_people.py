"""Questions to people hold data from outside: commit messages, summaries, comments."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators import hitl
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, TaskAwaitingInput

from interlock.adapters.signing.signing import generate_key, load_signer
from interlock.domain.board.accounts import CLERK
from interlock.domain.catalogue import Person
from interlock.domain.errors import PolicyViolation, TransientError
from interlock.domain.ledger.kinds import QUESTION_WORDED, RELEASE_WITHDRAWN
from interlock.domain.ledger.witness import question_digest, told
from interlock.stages.approvals.people import ANSWER_PARAMS, BINDING, LABEL, Question, question, votes_on
from interlock.stages.runtime import resources
from tests.airflow_server import CHAIN, AirflowServer
from tests.clock import NOW
from tests.factories.releases import WITHDRAWAL
from tests.running_task import RunningTask
from tests.witness import worded_payload

BEN = Person(user="ben", name="Ben Okafor", email="ben@example.com", role="operations")
DIGEST = "0" * 64


def test_no_field_of_a_question_is_ever_rendered_as_a_template() -> None:
    hostile = "{{ conn.interlock_hosts.password }}"
    asked = Question(task_id="ask", subject=hostile, body=hostile, options=["Approve"], silence="Approve")
    assert not tuple(asked.template_fields)
    asked.render_template_fields(context={})
    assert (asked.subject, asked.body) == (hostile, hostile)


def test_a_question_names_the_digest_that_it_decides_on() -> None:
    asked = question("Release?", "The plan.", DIGEST, [BEN])
    assert DIGEST in asked["body"]


def test_a_question_says_at_its_beginning_whose_it_is() -> None:
    cora = Person(user="cora", name="Cora | *Lindqvist*", email="cora@example.com", role="business")
    asked = question("Release?", "The plan.", DIGEST, [BEN, cora])
    assert asked["body"].startswith("This question is for **Ben Okafor or Cora &#124; \\*Lindqvist\\***.")
    assert "Airflow's page *Home*" in asked["body"].splitlines()[0]


def test_a_question_is_assigned_to_its_people_by_user_name_and_to_the_clerk_who_closes_it() -> None:
    asked = question("Release?", "The plan.", DIGEST, [BEN])
    assert [user["id"] for user in asked["assigned_users"]] == ["ben", CLERK]


BALLOT = "rollout.cast_ballot"
ASKED: dict[str, Any] = {"subject": "Release?", "body": "The plan.", "assigned_users": [{"id": "ben", "name": "Ben"}]}


@pytest.fixture
def written(running: RunningTask, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The subjects of the requests that are written to Airflow; writing one again wipes its answer."""
    subjects: list[str] = []

    def write(subject: str, defaults: object, **_: object) -> None:
        assert defaults is None, "Airflow's form would show it in blue, and the other answers in grey"
        subjects.append(subject)

    monkeypatch.setattr(hitl, "upsert_hitl_detail", write)
    running.recorded.append((QUESTION_WORDED, worded_payload(CHAIN, BALLOT, ASKED)))
    return subjects


def run(try_number: int, map_index: int = 1, event: dict[str, Any] | None = None, **changes: Any) -> Any:
    """Run a question's task as its worker would.

    :param event: what the task goes on with after it has waited; none: it does not wait yet.
    """
    asked = Question(
        task_id=BALLOT,
        **{**ASKED, **changes},
        options=["Approve", "Reject"],
        silence="Reject",
        params={name: ANSWER_PARAMS[name] for name in ("comment", "confirmed")},
        response_timeout=timedelta(hours=1),
    )
    ti = SimpleNamespace(id="0190", try_number=try_number, map_index=map_index)
    context: Any = {"ti": ti, "task_instance": ti, "task": asked}
    return asked.execute(context) if event is None else asked.execute_complete(context, event)


def test_a_question_is_asked_and_waits(airflow: AirflowServer, written: list[str]) -> None:
    with pytest.raises(TaskAwaitingInput) as waiting:
        run(1)
    assert written == ["Release?"]
    assert (waiting.value.method_name, waiting.value.timeout) == ("execute_complete", timedelta(hours=1))
    assert airflow.asked == [], "the first try costs no look at what was asked"


def test_a_release_that_was_withdrawn_asks_nobody(running: RunningTask, written: list[str]) -> None:
    running.recorded.append((RELEASE_WITHDRAWN, WITHDRAWAL.model_dump(mode="json")))
    for number in (1, 2):
        with pytest.raises(AirflowFailException, match="rita, who requested it, withdrew the release"):
            run(number)
    assert written == []


def test_a_question_whose_worker_died_before_it_asked_is_asked_by_the_next(
    airflow: AirflowServer, written: list[str]
) -> None:
    airflow.answer(airflow.ask(BALLOT, "ben", map_index=0), "ben", "Approve")
    airflow.ask("acceptance.ask_approver", "fay", map_index=1)
    with pytest.raises(TaskAwaitingInput):
        run(2)
    assert written == ["Release?"]


def test_a_question_whose_worker_died_after_it_asked_waits_on_for_the_answer(
    airflow: AirflowServer, written: list[str]
) -> None:
    airflow.ask(BALLOT, "cora", map_index=1)
    with pytest.raises(TaskAwaitingInput) as waiting:
        run(2)
    assert written == []
    assert (waiting.value.method_name, waiting.value.timeout) == ("execute_complete", timedelta(hours=1))


TIME_IS_UP = {"error": "The response timeout has passed without a response.", "error_type": "timeout"}


def test_a_question_that_nobody_answered_in_time_is_closed_by_the_clerk_as_a_rejection(
    airflow: AirflowServer, written: list[str]
) -> None:
    for map_index in (0, 1):
        airflow.ask(BALLOT, "cora", map_index=map_index)
    assert run(1, event=TIME_IS_UP) is None
    other, closed = airflow.questions
    assert not other["response_received"]
    assert (closed["responded_by_user"]["name"], closed["chosen_options"]) == (CLERK, ["Reject"])
    assert closed["params_input"] == {"comment": "Closed by board_clerk: there was no answer in time."}


def test_an_answer_in_the_last_moment_stands(airflow: AirflowServer, written: list[str]) -> None:
    airflow.answer(airflow.ask(BALLOT, "cora", map_index=1), "cora", "Approve")
    assert run(1, event=TIME_IS_UP) is None
    assert airflow.questions[0]["responded_by_user"]["name"] == "cora"


@pytest.mark.parametrize("asked_ago", [timedelta(minutes=10), timedelta(hours=2)])
def test_a_later_try_waits_only_for_the_rest_of_the_time(
    airflow: AirflowServer, written: list[str], asked_ago: timedelta
) -> None:
    airflow.ask(BALLOT, "cora", map_index=1, created_at=(datetime.now(UTC) - asked_ago).isoformat())
    if asked_ago > timedelta(hours=1):
        assert run(2) is None
        assert airflow.questions[0]["chosen_options"] == ["Reject"]
        return
    with pytest.raises(TaskAwaitingInput) as waiting:
        run(2)
    assert waiting.value.timeout is not None
    assert timedelta() < waiting.value.timeout <= timedelta(minutes=50)


def test_a_question_that_could_not_be_closed_is_closed_by_the_next_try(
    airflow: AirflowServer, written: list[str]
) -> None:
    asked = airflow.ask(BALLOT, "cora", map_index=1, created_at="2026-01-01T00:00:00+00:00")
    airflow.troubles = [(503, b"starting")]
    with pytest.raises(TransientError):
        run(1, event=TIME_IS_UP)
    assert not asked["response_received"]
    assert run(2) is None
    assert asked["responded_by_user"]["name"] == CLERK


@pytest.mark.parametrize("form", [{}, {"comment": "Fine"}, {"comment": None, "confirmed": True}])
def test_an_answer_ends_the_wait_whatever_the_form_says(written: list[str], form: dict[str, Any]) -> None:
    given = {"chosen_options": ["Approve"], "params_input": form, "responded_by_user": {"id": "3", "name": "ben"}}
    assert run(1, event={**given, "responded_at": datetime.now(UTC)})["chosen_options"] == ["Approve"]


@pytest.mark.parametrize("user", [pytest.param("cora", id="by a person"), pytest.param(None, id="by the time-out")])
def test_a_question_that_was_answered_is_not_asked_again(
    airflow: AirflowServer, written: list[str], user: str | None
) -> None:
    airflow.answer(airflow.ask(BALLOT, "cora", map_index=1), user, "Approve")
    assert run(2) is None
    assert written == []


def test_without_a_word_from_airflow_nothing_is_asked_again(airflow: AirflowServer, written: list[str]) -> None:
    airflow.troubles = [(503, b"starting")]
    with pytest.raises(TransientError):
        run(2)
    assert written == []


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"subject": "Lunch?"}, id="another subject"),
        pytest.param({"body": "Another plan."}, id="another text"),
        pytest.param({"assigned_users": [{"id": "mallory", "name": "Ben"}]}, id="somebody else"),
    ],
)
def test_what_was_not_worded_is_not_asked_and_is_a_finding(
    airflow: AirflowServer, written: list[str], running: RunningTask, changes: dict[str, Any]
) -> None:
    with pytest.raises(
        AirflowFailException, match=r"A question of rollout\.cast_ballot was changed: its text or its assignees"
    ):
        run(1, **changes)
    assert written == []
    assert [kind for kind, _ in running.recorded] == [QUESTION_WORDED, "finding"]


def test_an_answer_to_a_text_that_was_changed_after_it_was_asked_does_not_count(
    airflow: AirflowServer, running: RunningTask
) -> None:
    asked = airflow.ask(BALLOT, "ben", body=BINDING.format(digest=DIGEST))
    airflow.answer(asked, "ben", "Approve")
    entries = airflow.witnessed()
    assert [vote.user for vote in votes_on(BALLOT, DIGEST, entries=entries)] == ["ben"]
    asked["subject"] = "Something else"
    with pytest.raises(PolicyViolation, match="was changed: its text or its assignees"):
        votes_on(BALLOT, DIGEST, entries=entries)


def test_with_another_signing_key_no_answer_counts_and_nobody_is_accused(
    airflow: AirflowServer, running: RunningTask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = airflow.ask(BALLOT, "ben", body=BINDING.format(digest=DIGEST))
    airflow.answer(asked, "ben", "Approve")
    entries = airflow.witnessed()
    generate_key(tmp_path / "other")
    monkeypatch.setattr(resources, "signer", lambda: load_signer((tmp_path / "other").as_uri()))
    before = [*running.recorded]
    with pytest.raises(PolicyViolation, match="Either the key is another one, or the entry was not written by"):
        votes_on(BALLOT, DIGEST, entries=entries)
    assert running.recorded == before, "it can prove nothing about the release"


def test_a_question_whose_entry_nobody_signed_is_a_finding_if_others_are_signed(
    airflow: AirflowServer, running: RunningTask
) -> None:
    asked = airflow.ask(BALLOT, "ben", body=BINDING.format(digest=DIGEST))
    airflow.answer(asked, "ben", "Approve")
    entries = [*airflow.witnessed()]
    asked["body"] = f"Something else.\n\n{BINDING.format(digest=DIGEST)}"
    said = question_digest(asked["subject"], asked["body"], [one["id"] for one in asked["assigned_users"]])
    payload = {"task_id": BALLOT, "questions": [said]}
    slipped_in: Any = SimpleNamespace(chain=CHAIN, kind=QUESTION_WORDED, payload=payload, sequence=99)
    with pytest.raises(PolicyViolation, match="which of the two is not known here"):
        votes_on(BALLOT, DIGEST, entries=[*entries, slipped_in])
    assert [kind for kind, _ in running.recorded][-1] == "finding"


def test_an_answer_that_the_api_server_did_not_sign_does_not_count(
    airflow: AirflowServer, running: RunningTask
) -> None:
    asked = airflow.ask(BALLOT, "ben", body=BINDING.format(digest=DIGEST))
    airflow.answer(asked, "ben", "Approve")
    entries = airflow.witnessed()
    entries[-1].payload = told(entries[-1].payload)
    with pytest.raises(PolicyViolation, match="was not submitted through Airflow's API"):
        votes_on(BALLOT, DIGEST, entries=entries)


@pytest.mark.parametrize(
    ("by", "chosen", "label"),
    [
        ({"id": "2", "name": "ben"}, ["Reject"], "Ben Okafor: Reject"),
        ({"id": "9", "name": CLERK}, ["Abstain"], "Ben Okafor: closed"),
    ],
)
@pytest.mark.parametrize("native", [True, False])
def test_airflows_pages_name_the_answer_beside_the_person(
    by: dict[str, str] | None, chosen: list[str], label: str, native: bool
) -> None:
    with DAG("ask", schedule=None, render_template_as_native_obj=native):
        asked = Question(
            task_id="cast_ballot",
            subject="Release?",
            options=["Approve", "Reject", "Abstain"],
            assigned_users=[{"id": "ben", "name": "Ben Okafor"}],
            silence="Abstain",
        )
    env = asked.dag.get_template_env()
    context: Any = {"task": asked}
    assert env.from_string(LABEL).render(context) == "Ben Okafor", "while it waits"
    event = {"chosen_options": chosen, "params_input": {}, "responded_at": NOW, "responded_by_user": by}
    asked.execute_complete(context, event)
    assert env.from_string(LABEL).render(context) == label
