"""Releases as signed events: the outbox, and a receiver that verifies each signature."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection
from jsonschema import Draft202012Validator

from interlock.adapters.outbox.delivering import deliver
from interlock.adapters.webhooks.sending import Webhooks
from interlock.adapters.webhooks.signatures import secrets_in, verified_id
from interlock.domain.errors import ReleaseError
from interlock.domain.ledger.events import CloudEvent
from interlock.domain.outbox.delivery import SETTLES_AFTER, Delivery, correlation_of
from interlock.domain.outbox.facts import Statement, statements
from tests.factories.told_releases import chain_of, chained, signed, steps
from tests.http_server import Handler, http_server

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
CHAIN = chain_of(1)
ENTRIES = chained(CHAIN, steps())
TOLD = statements(ENTRIES, signed(ENTRIES))
FRESH = Delivery(system="data", chain=CHAIN, correlation=correlation_of("data", CHAIN))


@dataclass
class Receiver:
    """What a receiver took, by the id of the webhook; it answers with these statuses first, and then with 204."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    taken: list[tuple[str, bytes]] = field(default_factory=list)
    answers_with: bytes = b""


@contextmanager
def receiving() -> Iterator[Receiver]:
    found = Receiver()

    class Answers(Handler):
        protocol_version = "HTTP/1.0"  # a receiver that keeps no connection

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            id = verified_id(secrets_in(SECRET, "c"), headers, body, datetime.now(UTC))
            assert (self.path, headers["content-type"]) == ("/in?for=us", "application/cloudevents+json")
            status = found.statuses.pop(0) if found.statuses else 200
            if status in (200, 504):  # 504: something between lost the answer of a receiver that took it
                found.taken.append((id, body))
            self.answer(status, found.answers_with)

    with http_server(Answers) as port:
        found.url = f"http://127.0.0.1:{port}/in?for=us"
        yield found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def told(
    receiver: Receiver,
    delivery: Delivery = FRESH,
    *,
    later: timedelta = timedelta(),
    facts: Sequence[Statement] = TOLD,
    cdevents: bool = False,
) -> Delivery:
    connection = Connection(conn_id="data", conn_type="http", host=receiver.url, password=SECRET)
    system = Webhooks.of(connection, cdevents=cdevents, site="https://airflow.example/")
    return deliver(delivery, facts, system, lambda _: None, now=lambda: datetime.now(UTC) + later)


def test_a_release_is_told_in_order_as_cloud_events(receiver: Receiver) -> None:
    assert told(receiver).told == TOLD[-1].told
    events = [CloudEvent.model_validate(json.loads(body)) for _, body in receiver.taken]
    assert [one.type for one in events] == [f"org.interlock.release.{one.event}" for one in TOLD]
    assert [one.data["text"] for one in events] == [one.text for one in TOLD]
    assert [one.time for one in events] == [one.at for one in TOLD]
    assert len({id for id, _ in receiver.taken}) == len(TOLD)
    assert {event.id for event in events} == {id for id, _ in receiver.taken}


def test_what_a_receiver_says_beside_its_status_does_not_matter(receiver: Receiver) -> None:
    receiver.answers_with = b"thanks"
    assert told(receiver).error == ""


def test_a_lost_answer_is_an_event_that_comes_again_with_its_id(receiver: Receiver) -> None:
    receiver.statuses = [200, 504]
    failed = told(receiver)
    assert failed.error
    assert failed.told == TOLD[0].told
    again = told(receiver, failed, later=SETTLES_AFTER * 2)
    assert again.told == TOLD[-1].told
    assert receiver.taken[1] == receiver.taken[2], "the same id and the same body"
    assert len({id for id, _ in receiver.taken}) == len(TOLD)


@pytest.mark.parametrize(("status", "refused"), [(500, False), (429, False), (400, True), (302, True), (410, True)])
def test_nothing_overtakes_an_event_that_was_not_taken(receiver: Receiver, status: int, refused: bool) -> None:
    receiver.statuses = [200, status]
    failed = told(receiver)
    assert failed.refused is refused
    assert failed.told == TOLD[0].told
    assert len(receiver.taken) == 1
    assert "whsec" not in failed.error


SCHEMAS = Path(__file__).parent / "cdevents"
"""JSON Schemas of CDEvents, from the tag v0.4.1 of https://github.com/cdevents/spec; its licence is beside them."""


def schema_of(event: dict[str, Any]) -> Draft202012Validator:
    """Return the specification's schema of an event, by its type."""
    *_, subject, predicate, _, _, _ = event["context"]["type"].split(".")
    return Draft202012Validator(json.loads((SCHEMAS / f"{subject}{predicate}.json").read_text()))


@pytest.mark.parametrize(
    ("end", "last", "outcome"),
    [
        ("deployed", ["service.upgraded", "pipelinerun.finished"], "success"),
        ("backed_out", ["service.rolledback", "pipelinerun.finished"], "failure"),
    ],
)
def test_a_release_is_told_in_order_as_cdevents(receiver: Receiver, end: str, last: list[str], outcome: str) -> None:
    entries = chained(CHAIN, steps(end))
    facts = statements(entries, signed(entries))
    receiver.statuses = [200, 504]
    failed = told(receiver, facts=facts, cdevents=True)
    assert told(receiver, failed, later=SETTLES_AFTER * 2, facts=facts, cdevents=True).told == facts[-1].told
    assert receiver.taken[1] == receiver.taken.pop(2), "what comes again has the same id and the same body"
    events = [CloudEvent.model_validate(json.loads(body)) for _, body in receiver.taken]
    found = [one.data for one in events]
    for one in found:
        schema_of(one).validate(one)
        assert not schema_of(one).is_valid({**one, "context": {**one["context"], "more": 1}}), "the schema is strict"
        assert one["context"]["version"] == "0.4.1"
        assert datetime.fromisoformat(one["context"]["timestamp"]).tzinfo is not None
    names = [one["context"]["type"].removeprefix("dev.cdevents.").removesuffix(".0.2.0") for one in found]
    assert names == ["pipelinerun.queued", "pipelinerun.started", *last]
    assert [one.type for one in events] == [one["context"]["type"] for one in found]
    assert [one.id for one in events] == [one["context"]["id"] for one in found]
    assert found[2]["subject"]["content"]["artifactId"] == "pkg:generic/bike-shop@1.1.0"
    content = found[-1]["subject"]["content"]
    assert content["url"].startswith("https://airflow.example/dags/release_bike_shop/runs/")
    assert content["outcome"] == outcome
    assert ("errors" in content) == (outcome != "success")


def test_a_receiver_is_reached_by_https() -> None:
    with pytest.raises(ReleaseError, match="no address of an API"):
        Webhooks.of(Connection(conn_id="data", conn_type="http", host="http://data.example", password=SECRET))
