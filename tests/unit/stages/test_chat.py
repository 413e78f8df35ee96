"""What is said in chat: a running task, and a small server with the APIs of Slack and of a service of Apprise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from interlock.adapters.chat.message import MAX_LINES, Line, Message
from interlock.domain.catalogue.outside.chat import ChatRoom, rooms_for
from interlock.domain.ledger.kinds import CHAT_FAILED, CHAT_SAID, RELEASE_REQUESTED
from interlock.stages.approvals import mails
from interlock.stages.runtime import notices
from tests.chat_server import TOKEN, ChatServer, chat_server
from tests.running_task import RunningTask
from tests.unit.domain import samples

SLACK = {"kind": "slack", "connection": "shop_slack", "channel": "#releases"}
TEAMS = {"kind": "apprise", "connection": "shop_teams"}
FORGED = "Sell <!channel> @here [bikes](https://evil.example) https://evil.example <b>\nnow"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, running: RunningTask) -> Iterator[ChatServer]:
    with chat_server() as found:
        address = f"http://127.0.0.1:{found.port}/api/"
        slack = {"conn_type": "slack", "password": TOKEN, "extra": json.dumps({"base_url": address})}
        teams = {"config": {"path": f"json://127.0.0.1:{found.port}/room"}}
        monkeypatch.setenv("AIRFLOW_CONN_SHOP_SLACK", json.dumps(slack))
        monkeypatch.setenv("AIRFLOW_CONN_SHOP_TEAMS", json.dumps({"conn_type": "apprise", "extra": json.dumps(teams)}))
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/")
        rooms_are(monkeypatch, releases=SLACK)
        running.recorded.append((RELEASE_REQUESTED, {"service": "bike-shop", "version": "1.1.0"}))
        yield found


def rooms_are(monkeypatch: pytest.MonkeyPatch, **rooms: dict[str, Any]) -> None:
    monkeypatch.setattr(notices, "load_rules", lambda _: (samples.policy(chat=rooms), None))


def say(text: str = "Approve it", *, same: str = "one", about: Any = "questions", **more: Any) -> None:
    notices.say(Message(text, (Line("Fay Tanaka", "https://airflow.example/q/1"),)), about=about, same=same, **more)


def kept(running: RunningTask, kind: str) -> list[dict[str, Any]]:
    return [payload for found, payload in running.recorded if found == kind]


def test_a_release_has_one_thread(server: ChatServer, running: RunningTask) -> None:
    say(same="one")
    say(same="two")
    assert [(channel, thread) for channel, thread, _ in server.said] == [
        ("#releases", ""),
        ("#releases", "0.000100"),
        ("#releases", "0.000100"),
    ]
    assert server.words(0).startswith("bike-shop 1.1.0 https://airflow.example/dags/release_bike_shop/runs/")
    assert server.words(1) == "Approve it\nFay Tanaka https://airflow.example/q/1"
    assert [one["thread"] for one in kept(running, CHAT_SAID)] == ["0.000100", "0.000100"]


def test_the_same_is_said_once(server: ChatServer, running: RunningTask) -> None:
    for _ in range(2):
        say(same="one")
    assert len(server.said) == 2  # the thread's beginning, and the message


def test_text_of_people_calls_nobody_and_leads_nowhere(server: ChatServer) -> None:
    say(FORGED)
    message = server.said[1][2]
    assert "<" not in message["text"]
    ((section,),) = (block["elements"] for block in message["blocks"])
    assert {one["type"] for one in section["elements"]} == {"text", "link"}
    assert [one["url"] for one in section["elements"] if one["type"] == "link"] == ["https://airflow.example/q/1"]
    for called in ("@here", "://evil", "<!", "<b", "]("):
        assert called not in server.words(1), called
    assert message["unfurl_links"] is False


def test_a_message_is_no_form(server: ChatServer) -> None:
    say()
    for _, _, message in server.said:
        assert {block["type"] for block in message["blocks"]} == {"rich_text"}  # no buttons, no inputs


def test_services_of_apprise_are_told_with_the_links(
    server: ChatServer, running: RunningTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms_are(monkeypatch, teams=TEAMS)
    say(FORGED)
    ((title, body),) = server.posted
    assert "[bikes](" not in title
    assert body.splitlines()[0] == "Fay Tanaka https://airflow.example/q/1"
    assert body.splitlines()[1].startswith("bike-shop 1.1.0 https://airflow.example/")
    assert kept(running, CHAT_SAID) == [{"room": "teams", "same": "one", "thread": ""}]


@pytest.mark.parametrize("room", [SLACK, TEAMS], ids=["slack", "apprise"])
def test_chat_that_is_down_stops_nothing_and_is_on_record(
    server: ChatServer, running: RunningTask, monkeypatch: pytest.MonkeyPatch, room: dict[str, Any]
) -> None:
    rooms_are(monkeypatch, first=room, second={**SLACK, "channel": "#other"})
    server.channels |= {"#other"}
    server.down = True
    say()
    assert {one["room"] for one in kept(running, CHAT_FAILED)} == {"first", "second"}
    assert TOKEN not in json.dumps(running.recorded)
    server.down = False
    say()
    assert {one["room"] for one in kept(running, CHAT_SAID)} == {"first", "second"}, "a later try says what is missing"


def test_a_refusal_says_what_to_check(server: ChatServer, running: RunningTask) -> None:
    server.channels.clear()
    say()
    ((why),) = [one["why"] for one in kept(running, CHAT_FAILED)]
    assert "Slack refused a message to #releases: channel_not_found" in why
    assert "shop_slack" in why


def test_without_a_connection_the_release_goes_on(
    server: ChatServer, running: RunningTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_SHOP_SLACK")
    say()
    assert kept(running, CHAT_FAILED)


def test_a_broken_catalogue_stops_nothing(
    server: ChatServer, running: RunningTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise ValueError("no policy")

    monkeypatch.setattr(notices, "load_rules", broken)
    say()
    assert server.said == []


def test_a_room_is_told_what_it_is_about() -> None:
    rooms = {
        "all": ChatRoom.model_validate(SLACK),
        "shop": ChatRoom.model_validate({**TEAMS, "services": ["bike-shop"], "about": ["outcomes"]}),
    }
    assert [name for name, _ in rooms_for(rooms, "outcomes", "bike-shop")] == ["all", "shop"]
    assert [name for name, _ in rooms_for(rooms, "questions", "bike-shop")] == ["all"]
    assert [name for name, _ in rooms_for(rooms, "outcomes", None)] == ["all"]


def test_what_is_about_no_run_has_no_thread(server: ChatServer, running: RunningTask) -> None:
    say("2 findings", about="findings", of_run=False)
    assert [(thread, message["text"]) for _, thread, message in server.said] == [("", "2 findings")]
    assert kept(running, CHAT_SAID) == [{"room": "releases", "same": "one", "thread": ""}]


def test_a_long_message_is_cut() -> None:
    shown = Message("Many", tuple(Line(str(number)) for number in range(100))).shown
    assert len(shown) == MAX_LINES
    assert shown[-1].text == "… and 71 more"


def question(index: int, prepared: list[dict[str, Any]]) -> tuple[Any, Any]:
    one = prepared[index]
    asked: Any = SimpleNamespace(
        task_id="rollout.cast_ballot",
        subject=one["subject"],
        body=one["body"],
        assigned_users=one["assigned_users"],
        upstream_task_ids={"rollout.prepare_ballots", "rollout.freeze_plan"},
    )
    left = {"rollout.prepare_ballots": prepared, "rollout.freeze_plan": {"service": "bike-shop"}}
    ti = SimpleNamespace(map_index=index, xcom_pull=lambda task_ids: left[task_ids])
    return {"ti": ti, "task": asked}, asked


def test_five_ballots_are_one_message(server: ChatServer) -> None:
    users = ("ben", "cora", "dora", "eli", "finn")
    prepared = [
        {"subject": "Vote on 1.1.0", "body": "All of it.", "assigned_users": [{"id": user, "name": user}]}
        for user in users
    ]
    for index in range(5):
        mails._say(*question(index, prepared), index)
    assert len(server.said) == 2
    said = server.words(1).splitlines()
    assert said[0] == "5 answers are needed in Airflow"
    assert said[2].startswith("Cora Lindqvist: Vote on 1.1.0 https://airflow.example/dags/release_bike_shop/runs/")
    assert said[2].endswith("/tasks/rollout.cast_ballot/mapped/1/required_actions")
