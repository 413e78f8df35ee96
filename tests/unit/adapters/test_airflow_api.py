"""Reading from Airflow's REST API who answered what, against a small real server."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from interlock.adapters.airflow._tls import authorities
from interlock.adapters.airflow.rest_api import AirflowApi
from interlock.domain.errors import ReleaseError, TransientError
from tests.airflow_server import RUN, AirflowServer, airflow_server

BALLOT = "rollout.cast_ballot"


@dataclass
class Login:
    """What an Airflow connection has."""

    host: str | None = "127.0.0.1"
    port: int | None = 0
    schema: str | None = None
    login: str | None = "reader"
    password: str | None = "r3ader"


@pytest.fixture
def airflow() -> Iterator[AirflowServer]:
    with airflow_server() as server:
        yield server


@pytest.fixture
def api(airflow: AirflowServer) -> Iterator[AirflowApi]:
    with AirflowApi.of(Login(port=airflow.port)) as client:
        yield client


def final(error: ReleaseError) -> bool:
    return not isinstance(error, TransientError)


@pytest.mark.parametrize("lacking", ["host", "login", "password"])
def test_a_connection_that_lacks_something_says_so(lacking: str) -> None:
    with pytest.raises(ReleaseError, match="lacks its host, login or password"):
        AirflowApi.of(Login(**{lacking: None}))


@pytest.mark.parametrize("status", [307, 400, 404, 405, 408, 409, 422, 425, 429, 500, 502, 503])
def test_what_airflow_refuses_is_final_and_what_may_pass_is_not(
    airflow: AirflowServer, api: AirflowApi, status: int
) -> None:
    airflow.troubles = [(status, b"the reason")]
    with pytest.raises(
        ReleaseError, match=f"read the answers given in .*Airflow answered {status} the reason"
    ) as error:
        api.answers(*RUN)
    assert final(error.value) == (status in (307, 400, 404, 405, 409, 422))
    assert api.answers(*RUN) == ()


def test_an_account_that_may_not_is_told_who_can_change_it(airflow: AirflowServer, api: AirflowApi) -> None:
    airflow.troubles = [(403, b"Forbidden"), (201, b'{"access_token": "token-1"}'), (403, b"Forbidden")]
    with pytest.raises(ReleaseError, match=r"Airflow answered 403 Forbidden .*the platform engineer.*role") as error:
        api.answers(*RUN)
    assert final(error.value)


def test_a_wrong_password_is_final_and_is_not_repeated(airflow: AirflowServer) -> None:
    login = Login(port=airflow.port, password="wr0ng")
    with pytest.raises(ReleaseError, match=r"log in to Airflow's API .* as reader: Airflow answered 401") as error:
        AirflowApi.of(login).__enter__()
    assert final(error.value)
    assert "wr0ng" not in str(error.value)


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_not_taken_any_more_leads_to_logging_in_again(
    airflow: AirflowServer, api: AirflowApi, status: int
) -> None:
    airflow.ask(BALLOT, "ben")
    airflow.forget_tokens()
    if status == 403:  # Airflow's answer to a token that it signed with another secret
        airflow.troubles = [(403, b'{"detail": "Invalid JWT token"}')]
    assert len(api.answers(*RUN)) == 1
    assert airflow.logins == 2
    assert len(api.answers(*RUN)) == 1
    assert airflow.logins == 2


def test_a_server_that_hangs_up_or_is_not_there_may_come_back(airflow: AirflowServer, api: AirflowApi) -> None:
    airflow.troubles = [(0, b"")]
    with pytest.raises(TransientError, match="Could not read the task states of release_bike_shop, run manual__"):
        api.task_states(*RUN)
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        with pytest.raises(TransientError, match="Could not log in"):
            AirflowApi.of(Login(port=port)).__enter__()


@pytest.mark.parametrize(
    "body",
    [b"<html>Back soon</html>", b"", b"[]", b"null", b"{}", b'{"hitl_details": [{}], "total_entries": 1}'],
)
def test_an_answer_that_is_not_airflows_is_tried_again(airflow: AirflowServer, api: AirflowApi, body: bytes) -> None:
    airflow.troubles = [(200, body)]
    with pytest.raises(TransientError, match="not one of Airflow's API"):
        api.answers(*RUN)


@pytest.mark.parametrize("page_limit", [100, 7])
def test_every_page_is_read_and_the_answers_are_in_order(
    airflow: AirflowServer, api: AirflowApi, page_limit: int
) -> None:
    airflow.page_limit = page_limit
    for number in reversed(range(120)):
        airflow.ask(BALLOT, f"member-{number}", map_index=number)
    airflow.ask("acceptance.ask_approver", "fay")
    answers = api.answers(*RUN)
    assert [(answer.task_id, answer.map_index) for answer in answers] == [
        ("acceptance.ask_approver", 0),
        *((BALLOT, number) for number in range(120)),
    ]
    assert [answer.map_index for answer in api.answers(*RUN, BALLOT)] == list(range(120))


def test_task_states_are_read_from_every_page(airflow: AirflowServer, api: AirflowApi) -> None:
    row = {"map_index": -1, "state": "success", "start_date": "2026-11-23T06:17:00Z", "end_date": None}
    airflow.tasks = [{**row, "task_id": f"task-{number}"} for number in range(205)]
    states = api.task_states(*RUN)
    assert len({state.task_id for state in states}) == 205
    assert states[0].start == datetime(2026, 11, 23, 6, 17, tzinfo=UTC)


def test_an_answer_says_who_gave_it_and_what(airflow: AirflowServer, api: AirflowApi) -> None:
    airflow.answer(airflow.ask(BALLOT, "ben", body="`abc`"), "ben", "Approve", "Fine with me")
    (answer,) = api.answers(*RUN)
    assert (answer.user, answer.choice, answer.comment, answer.body) == ("ben", "Approve", "Fine with me", "`abc`")
    vote = answer.vote()
    assert (vote.user, vote.assigned, vote.choice) == ("ben", "ben", "Approve")
    assert vote.at is not None


def test_a_question_that_nobody_answered_is_nobodys_vote(airflow: AirflowServer, api: AirflowApi) -> None:
    airflow.ask(BALLOT, "ben", assigned_users=None, body=None)
    airflow.answer(airflow.ask(BALLOT, "cora", map_index=1), None, "Abstain")
    unanswered, expired = api.answers(*RUN)
    assert (unanswered.answered, unanswered.user, unanswered.choice) == (False, None, None)
    assert (unanswered.vote().assigned, unanswered.vote().choice) == ("nobody", "")
    assert (expired.answered, expired.user, expired.vote().assigned) == (True, None, "cora")


def test_who_answers_a_question_of_somebody_else_has_not_answered_their_own(
    airflow: AirflowServer, api: AirflowApi
) -> None:
    airflow.answer(airflow.ask(BALLOT, "ben"), "eve", "Approve")
    vote = api.answers(*RUN)[0].vote()
    assert (vote.user, vote.assigned) == ("eve", "ben")


@pytest.mark.parametrize(
    "form", [None, {}, [], "words", {"comment": None}, {"comment": ["a", "b"]}, {"comment": {"x": 1}}, {"other": "x"}]
)
def test_a_form_filled_in_oddly_is_an_answer_without_a_comment(
    airflow: AirflowServer, api: AirflowApi, form: object
) -> None:
    airflow.answer(airflow.ask(BALLOT, "ben"), "ben", "Reject", params_input=form)
    (answer,) = api.answers(*RUN)
    assert (answer.choice, answer.comment) == ("Reject", "")


def test_closing_a_question_answers_it_unless_somebody_was_faster(airflow: AirflowServer) -> None:
    question = airflow.ask("stage/of dots.ask", "ben")
    with AirflowApi.of(Login(port=airflow.port, login="board_clerk", password="cl3rk")) as clerk:
        (open_question,) = clerk.answers(*RUN)
        assert clerk.close_question(*RUN, open_question, choice="Abstain", comment="Closed.")
        assert question["responded_by_user"]["name"] == "board_clerk"
        assert question["params_input"] == {"comment": "Closed."}
        assert not clerk.close_question(*RUN, open_question, choice="Reject", comment="Again.")
        assert question["chosen_options"] == ["Abstain"]
        gone = open_question.model_copy(update={"map_index": 5})
        with pytest.raises(ReleaseError, match=r"answer stage/of dots\.ask\[5\] as board_clerk: Airflow answered 404"):
            clerk.close_question(*RUN, gone, choice="Abstain", comment="")


def test_closing_a_question_that_is_not_for_this_account_is_refused(airflow: AirflowServer, api: AirflowApi) -> None:
    airflow.ask(BALLOT, "ben")
    with pytest.raises(ReleaseError, match="not a respondent") as error:
        api.close_question(*RUN, api.answers(*RUN)[0], choice="Approve", comment="")
    assert final(error.value)


def test_certificate_authorities_are_read_once_in_a_process() -> None:
    assert authorities() is authorities()
    assert authorities(False) is authorities(False)
    assert authorities().verify_mode == ssl.CERT_REQUIRED
