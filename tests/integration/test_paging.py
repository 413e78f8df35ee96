"""Releases as change events of PagerDuty, against a server that takes what its published schema allows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from interlock.adapters.outbox.delivering import deliver
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


def delivered(system: PagerDuty, end: str) -> Delivery:
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
