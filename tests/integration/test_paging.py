"""Releases in PagerDuty and Opsgenie, against servers that take what the published schemas allow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from interlock.adapters.outbox.delivering import deliver
from interlock.adapters.paging.opsgenie import Opsgenie
from interlock.adapters.paging.pagerduty import PagerDuty
from interlock.domain.errors import AssetMissing
from interlock.domain.outbox.delivery import Delivery
from tests.http_server import Handler, http_server
from tests.integration.test_jira_issues import CHAIN, connection, told

KEY = "0123456789abcdef0123456789abcdef"
SCHEMA = {
    "type": "object",
    "required": ["routing_key", "payload"],
    "additionalProperties": False,
    "properties": {
        "routing_key": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        "payload": {
            "type": "object",
            "required": ["summary"],
            "additionalProperties": False,
            "properties": {
                "summary": {"type": "string", "minLength": 1, "maxLength": 1024},
                "timestamp": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d$"},
                "source": {"type": "string"},
                "custom_details": {"type": "object"},
            },
        },
        "links": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["href"],
                "properties": {"href": {"type": "string", "pattern": "^https?://"}, "text": {"type": "string"}},
            },
        },
        "images": {"type": "array"},
    },
}
"""Of /v2/change/enqueue, as PagerDuty publishes it."""


class Service:
    """A service: the events that it took, and answers that it gives before."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.busy = 0


@pytest.fixture
def paged() -> Iterator[tuple[Service, PagerDuty]]:
    service = Service()

    class Answers(Handler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if service.busy:
                service.busy -= 1
                self.answer(429, b'{"status": "throttle exceeded"}', {"Retry-After": "1"})
                return
            try:
                Draft202012Validator(SCHEMA).validate(body)
            except ValidationError as error:
                said = {"status": "invalid event", "message": "Event object is invalid", "errors": [error.message]}
                self.answer(400, json.dumps(said).encode())
                return
            service.events.append(body)
            self.answer(202, b'{"status": "success", "message": "Change event processed", "link": null}')

    with http_server(Answers) as port:
        own = connection(f"http://127.0.0.1:{port}", password=KEY)
        with closing(PagerDuty.of(own, site="https://airflow.example.com/")) as system:
            yield service, system


def delivered(system: PagerDuty | Opsgenie, end: str) -> Delivery:
    return deliver(Delivery(system="pager", chain=CHAIN, correlation="one"), told(end), system, lambda _: None)


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("deployed", ["begins", "ended: deployed"]),
        ("backed_out", ["begins", "was backed out", "ended: backed out"]),
        ("rejected", []),
    ],
)
def test_who_is_on_call_sees_what_changes_production(
    paged: tuple[Service, PagerDuty], end: str, said: list[str]
) -> None:
    service, system = paged
    assert delivered(system, end).error == ""
    title = "Release bike-shop 1.1.0 to production"
    assert [one["payload"]["summary"] for one in service.events] == [f"{title} {one}" for one in said]
    for one in service.events:
        assert one["routing_key"] == KEY
        assert one["links"][0]["href"].startswith("https://airflow.example.com/dags/release_bike_shop/runs/")
        assert one["payload"]["custom_details"]["service"] == "bike-shop"


def test_a_service_that_is_busy_is_asked_later_and_the_key_is_in_no_error(paged: tuple[Service, PagerDuty]) -> None:
    service, system = paged
    service.busy = 1
    waiting = delivered(system, "deployed")
    assert waiting.state == "failing"
    assert "it is busy until" in waiting.error
    assert KEY not in waiting.error
    assert deliver(waiting, told("deployed"), system, lambda _: None).error == ""
    assert len(service.events) == 2


def test_a_connection_without_a_key_says_so() -> None:
    with pytest.raises(AssetMissing, match="lacks the integration key"):
        PagerDuty.of(connection("https://events.pagerduty.com", password=""), site="")


ALERT = {
    "type": "object",
    "required": ["message"],
    "additionalProperties": False,
    "properties": {
        "message": {"type": "string", "minLength": 1, "maxLength": 130},
        "alias": {"type": "string", "maxLength": 512},
        "description": {"type": "string", "maxLength": 15000},
        "priority": {"enum": ["P1", "P2", "P3", "P4", "P5"]},
        "source": {"type": "string", "maxLength": 100},
        "entity": {"type": "string", "maxLength": 512},
        "tags": {"type": "array", "maxItems": 20, "items": {"type": "string", "maxLength": 50}},
        "details": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
"""Of POST /v2/alerts, as Opsgenie publishes it; a note and a close have note and source."""


@pytest.mark.parametrize(
    ("end", "done"), [("deployed", ["open", "close"]), ("backed_out", ["open", "notes", "close"]), ("rejected", [])]
)
def test_a_release_is_one_alert_of_opsgenie_which_is_closed_with_it(end: str, done: list[str]) -> None:
    took: list[tuple[str, dict[str, Any]]] = []

    class Answers(Handler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            path, _, query = self.path.partition("?")
            if self.headers["Authorization"] != f"GenieKey {KEY}":
                self.answer(403, b'{"message": "You are not authorized"}')
                return
            if path == "/v2/alerts":
                Draft202012Validator(ALERT).validate(body)
            else:
                assert (query, {*body}) == ("identifierType=alias", {"note", "source"})
            took.append((path, body))
            self.answer(202, b'{"result": "Request will be processed", "took": 0.1, "requestId": "r"}')

    with http_server(Answers) as port:
        own = connection(f"http://127.0.0.1:{port}", password=KEY)
        with closing(Opsgenie.of(own, site="https://airflow.example.com/")) as system:
            assert delivered(system, end).error == ""
    names = {"/v2/alerts": "open", "/v2/alerts/one/notes": "notes", "/v2/alerts/one/close": "close"}
    assert [names[path] for path, _ in took] == done
    if took:
        opened = took[0][1]
        assert (opened["alias"], opened["priority"], opened["entity"]) == ("one", "P5", "bike-shop")
        assert opened["message"] == "Release bike-shop 1.1.0 to production begins"
        assert "https://airflow.example.com/dags/release_bike_shop/runs/" in opened["description"]
    with pytest.raises(AssetMissing, match="lacks the key"):
        Opsgenie.of(connection("https://api.opsgenie.com", password=""), site="")
