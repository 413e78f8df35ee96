"""Releases as issues of Jira, with versions and tickets, against jira820; and deployments of Jira Cloud."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from interlock.adapters.jira.deployments import Deployments
from interlock.adapters.jira.issues import Issues
from interlock.adapters.jira.site import open_jira
from interlock.adapters.outbox.delivering import deliver
from interlock.adapters.outbox.web import WebApi
from interlock.domain.errors import AssetMissing, DeliveryRefused, TransientError
from interlock.domain.outbox.delivery import Delivery, correlation_of
from interlock.domain.outbox.facts import Statement, statements
from interlock.domain.outbox.systems_file import Jira, JiraDefects
from interlock.domain.records import DefectLine
from tests.factories.told_releases import chain_of, chained, signed, steps
from tests.http_server import Handler, http_server
from tests.ticket_servers import TOKEN, JiraServer, jira

CHAIN = chain_of(1)
CORRELATION = correlation_of("jira", CHAIN)
DESCRIBED = Jira.model_validate(
    {
        "kind": "jira",
        "connection": "shop_jira",
        "calls_per_second": 1000,
        "project": "SHOP",
        "issue_types": {"normal": "Task", "standard": "Task"},
        "states": {
            "planned": "Open",
            "assessed": "Open",
            "scheduled": "Open",
            "implementing": "In Progress",
            "review": "In Review",
            "closed": "Done",
            "cancelled": "Done",
        },
        "sets": {"plan": "customfield_10042", "began": "customfield_10043"},
        "transition_fields": {"Done": {"resolution": {"name": "Done"}}},
        "tickets": {
            "projects": ["SHOP"],
            "versions": {"bike-shop": "Bike shop {version}"},
            "moves": {"deployed": "Done", "backed_out": "Reopened"},
        },
    }
)


def connection(url: str, **changes: Any) -> SimpleNamespace:
    fields = {"conn_id": "shop_jira", "host": url, "port": None, "schema": None, "login": "", "password": TOKEN}
    return SimpleNamespace(**{**fields, "extra_dejson": {}, **changes})


@pytest.fixture
def server() -> Iterator[JiraServer]:
    with jira() as served:
        yield served


@pytest.fixture
def system(server: JiraServer) -> Iterator[Issues]:
    with closing(Issues(open_jira(connection(server.url)), DESCRIBED)) as opened:
        yield opened


def told(end: str = "deployed", **changes: Any) -> tuple[Statement, ...]:
    entries = chained(CHAIN, steps(end, **changes))
    said = statements(entries, signed(entries))
    return tuple(one.model_copy(update={"change": one.change.model_copy(update={"tickets": TICKETS})}) for one in said)


TICKETS: tuple[str, ...] = ()


@pytest.fixture
def tickets(server: JiraServer, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Tickets of the release: one that is there, one that is not, and one of a project that is left alone."""
    found = (server.issue("Sell bikes"), "SHOP-999999", "OTHER-1")
    monkeypatch.setitem(globals(), "TICKETS", found)
    return found


def delivered(system: Issues, said: tuple[Statement, ...], delivery: Delivery | None = None) -> Delivery:
    first = delivery or Delivery(system="jira", chain=CHAIN, correlation=CORRELATION)
    return deliver(first, said, system, lambda _: None)


def issue_of(server: JiraServer) -> dict[str, Any]:
    (found,) = [one for one in server.store.issues.values() if CORRELATION in one["labels"]]
    return dict(found)


def comments(issue: dict[str, Any]) -> list[str]:
    return [one["text"] for one in issue["comments"]]


def test_a_release_is_one_issue_with_each_statement_as_a_comment(server: JiraServer, system: Issues) -> None:
    said = told()
    done = delivered(system, said)
    assert (done.error, done.told) == ("", said[-1].told)
    issue = issue_of(server)
    assert (done.number, done.url) == (issue["key"], f"{server.url}/browse/{issue['key']}")
    assert issue["summary"] == said[0].change.title
    assert issue["statusName"] == "Done"
    assert issue["custom"]["customfield_10042"] == said[-1].change.plan
    assert issue["custom"]["customfield_10043"] == "2026-03-02T09:05:00.000+0000"
    assert [text.rpartition("\n")[0] for text in comments(issue)] == [one.text for one in said]
    names = {server.store.attachments[one]["filename"] for one in issue["attachments"]}
    assert names == {one.name for statement in said for one in statement.documents}
    assert len(names) == 2


def test_a_comment_whose_answer_was_lost_is_not_written_again(
    server: JiraServer, system: Issues, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, lost = told(), []
    send = WebApi.send

    def loses(self: WebApi, method: str, path: str, **more: Any) -> Any:
        answer = send(self, method, path, **more)
        if method == "POST" and len(lost) < 3 and path not in lost:
            lost.append(path)
            raise TransientError("The answer was lost.")
        return answer

    monkeypatch.setattr(WebApi, "send", loses)
    delivery = Delivery(system="jira", chain=CHAIN, correlation=CORRELATION)
    for _ in range(5):
        delivery = deliver(delivery, said, system, lambda _: None, settles_after=timedelta())
    assert len(lost) == 3
    assert delivery.error == ""
    issue = issue_of(server)
    assert [text.rpartition("\n")[0] for text in comments(issue)] == [one.text for one in said]
    assert len(issue["attachments"]) == 2


def test_what_others_write_says_nothing_of_how_far_it_was_told(server: JiraServer, system: Issues) -> None:
    said = told()
    done = delivered(system, said[:2])
    server.store.add_comment(done.number, "Interlock 99.0", author="mallory")
    (found,) = system.find(CORRELATION)
    assert found.told == said[1].told


def test_an_issue_that_a_repeated_request_made_is_withdrawn(server: JiraServer, system: Issues) -> None:
    said = told()
    first = system.create(CORRELATION, said[0])
    second = system.create(CORRELATION, said[0])
    assert delivered(system, said).number == first.number
    assert issue_of(server)["key"] == first.number
    withdrawn = server.store.issues[second.number]
    assert (withdrawn["labels"], withdrawn["statusName"]) == (["interlock-duplicate"], "Done")
    assert f"The record of the release is {first.number}." in comments(withdrawn)[0]


def test_a_workflow_that_does_not_allow_a_status_is_shown_with_what_it_allows(
    server: JiraServer, system: Issues
) -> None:
    server.store.workflow.scheme = {"Open": ["In Review"]}
    refused = delivered(system, told())
    assert refused.refused
    assert "cannot go to In Progress in Jira" in refused.error
    assert "Possible: In Review" in refused.error
    server.store.workflow.scheme = {}
    assert delivered(system, told(), refused.retried(refused.next_at)).error == ""  # type: ignore[arg-type]


def test_an_issue_that_was_not_approved_in_time_is_cancelled_when_the_release_ends(
    server: JiraServer, system: Issues
) -> None:
    server.store.workflow.scheme = {"Open": ["Done"]}
    said = told("withdrawn")
    assert delivered(system, said).error == ""
    issue = issue_of(server)
    assert issue["statusName"] == "Done"
    assert [text.rpartition("\n")[0] for text in comments(issue)] == [one.text for one in said]


def test_versions_and_tickets_follow_a_deployment(server: JiraServer, system: Issues, tickets: tuple[str, ...]) -> None:
    said = told()
    delivered(system, said[:1])
    version = next(one for one in server.store.versions if one["name"] == "Bike shop 1.1.0")
    assert not version["released"]
    ticket = server.store.issues[tickets[0]]
    assert [one["name"] for one in ticket["fixVersions"]] == ["Bike shop 1.1.0"]
    delivered(system, said)
    assert version["released"]
    assert version["releaseDate"] == "2026-03-02"
    assert ticket["statusName"] == "Done"
    number = issue_of(server)["key"]
    assert comments(ticket) == [
        f"{said[0].change.title}: deployed. It is in production.\n[Interlock {number}, deployed]"
    ]
    system.change(system.find(CORRELATION)[0], said[-1])
    assert len(comments(ticket)) == 1, "it is told once, however often"
    assert "SHOP-999999 is not there, or the account may not see it." in comments(issue_of(server))[0]


def test_a_release_that_is_backed_out_leaves_its_version_unreleased_and_its_tickets_say_so(
    server: JiraServer, system: Issues, tickets: tuple[str, ...]
) -> None:
    delivered(system, told("backed_out"))
    version = next(one for one in server.store.versions if one["name"] == "Bike shop 1.1.0")
    assert not version["released"]
    ticket = server.store.issues[tickets[0]]
    assert ticket["statusName"] == "Reopened"
    assert "It is not in production." in comments(ticket)[0]


def test_a_rollback_takes_the_release_of_the_version_back(
    server: JiraServer, system: Issues, tickets: tuple[str, ...]
) -> None:
    delivered(system, told())
    back = [
        one.model_copy(
            update={
                "change": one.change.model_copy(
                    update={"rolls_back": True, "version": "1.0.0", "previous": "1.1.0", "tickets": ()}
                )
            }
        )
        for one in told()
    ]
    other = Delivery(system="jira", chain="release/rollback_bike_shop/1", correlation="interlock-back")
    assert deliver(other, back, system, lambda _: None).error == ""
    released = {one["name"]: one["released"] for one in server.store.versions if one["name"].startswith("Bike shop ")}
    assert released == {"Bike shop 1.0.0": True, "Bike shop 1.1.0": False}


def test_a_change_type_without_a_type_of_issue_is_refused_with_the_place(system: Issues) -> None:
    (planned,) = [one for one in told() if one.event == "planned"]
    emergency = planned.model_copy(update={"change": planned.change.model_copy(update={"change_type": "emergency"})})
    with pytest.raises(DeliveryRefused, match="issue_types of the system"):
        system.create(CORRELATION, emergency)


def test_a_connection_without_a_token_says_so() -> None:
    with pytest.raises(AssetMissing, match="lacks a password"):
        open_jira(connection("http://127.0.0.1:1", password=""))


# -- Jira Cloud's deployments

TEXT = {"type": "string", "minLength": 1, "maxLength": 255}
SCHEMA = {
    "type": "object",
    "required": ["deployments"],
    "additionalProperties": False,
    "properties": {
        "deployments": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": [
                    *("deploymentSequenceNumber", "updateSequenceNumber", "associations", "displayName", "url"),
                    *("description", "lastUpdated", "state", "pipeline", "environment"),
                ],
                "properties": {
                    "deploymentSequenceNumber": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
                    "updateSequenceNumber": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
                    "associations": {
                        "type": "array",
                        "minItems": 1,
                        "items": {
                            "type": "object",
                            "required": ["associationType", "values"],
                            "properties": {
                                "associationType": {"const": "issueIdOrKeys"},
                                "values": {"type": "array", "minItems": 1, "maxItems": 500, "items": TEXT},
                            },
                        },
                    },
                    "displayName": TEXT,
                    "url": {"type": "string", "format": "uri", "pattern": "^https?://", "maxLength": 2000},
                    "description": TEXT,
                    "lastUpdated": {"type": "string", "format": "date-time"},
                    "label": TEXT,
                    "state": {
                        "enum": [
                            "unknown",
                            "pending",
                            "in_progress",
                            "cancelled",
                            "failed",
                            "rolled_back",
                            "successful",
                        ]
                    },
                    "pipeline": {
                        "type": "object",
                        "required": ["id", "displayName", "url"],
                        "properties": {
                            "id": TEXT,
                            "displayName": TEXT,
                            "url": {"type": "string", "pattern": "^https?://"},
                        },
                    },
                    "environment": {
                        "type": "object",
                        "required": ["id", "displayName", "type"],
                        "properties": {
                            "id": TEXT,
                            "displayName": TEXT,
                            "type": {"enum": ["unmapped", "development", "testing", "staging", "production"]},
                        },
                    },
                },
            },
        }
    },
}
"""Of submitDeployments, as Atlassian publishes it."""


class Cloud:
    """A Jira Cloud: its deployments by pipeline, environment and number; what is not newer changes nothing."""

    def __init__(self) -> None:
        self.deployments: dict[tuple[str, str, int], dict[str, Any]] = {}
        self.history: list[str] = []
        self.rejects = ""

    def take(self, body: dict[str, Any]) -> dict[str, Any]:
        Draft202012Validator(SCHEMA).validate(body)
        for one in body["deployments"]:
            key = (one["pipeline"]["id"], one["environment"]["id"], one["deploymentSequenceNumber"])
            if self.rejects:
                rejected = {"key": {}, "errors": [{"message": self.rejects}]}
                return {"acceptedDeployments": [], "rejectedDeployments": [rejected], "unknownIssueKeys": []}
            known = self.deployments.get(key)
            if known is None or known["updateSequenceNumber"] < one["updateSequenceNumber"]:
                self.deployments[key] = one
                self.history.append(one["state"])
        return {"acceptedDeployments": [{}], "rejectedDeployments": [], "unknownIssueKeys": []}


@pytest.fixture
def cloud() -> Iterator[tuple[Cloud, Deployments]]:
    state = Cloud()

    class Answers(Handler):
        def do_POST(self) -> None:
            body = (
                json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}")
                if "json" in str(self.headers["Content-Type"])
                else httpx.QueryParams(self.rfile.read(int(self.headers["Content-Length"])).decode())
            )
            if self.path == "/oauth/token":
                good = body["client_secret"] == "s3cret" and body["audience"] == "api.atlassian.com"
                self.answer(200 if good else 401, json.dumps({"access_token": "t", "expires_in": 900}).encode(), {})
            elif self.headers["Authorization"] != "Bearer t" or self.path != "/jira/deployments/0.1/cloud/c1/bulk":
                self.answer(401, b"{}", {})
            else:
                self.answer(202, json.dumps(state.take(body)).encode(), {})

    with http_server(Answers) as port:
        account = {"password": "s3cret", "extra_dejson": {"client_id": "id", "cloud_id": "c1"}}
        own = connection(f"http://127.0.0.1:{port}", **account)
        with closing(Deployments.of(own, site="https://airflow.example.com")) as system:
            yield state, system


@pytest.mark.parametrize(
    ("end", "states"),
    [
        ("deployed", ["pending", "in_progress", "successful"]),
        ("backed_out", ["pending", "in_progress", "rolled_back"]),
        ("rejected", ["pending", "cancelled"]),
    ],
)
def test_a_release_is_a_deployment_on_its_issues(
    cloud: tuple[Cloud, Deployments], tickets: tuple[str, ...], end: str, states: list[str]
) -> None:
    state, system = cloud
    delivery = Delivery(system="cloud", chain=CHAIN, correlation=CORRELATION)
    assert deliver(delivery, told(end), system, lambda _: None).error == ""
    assert state.history == states
    ((key, one),) = state.deployments.items()
    assert key[:2] == ("interlock-bike-shop", "production")
    assert one["associations"] == [{"associationType": "issueIdOrKeys", "values": [*tickets]}]
    assert one["url"].startswith("https://airflow.example.com/dags/release_bike_shop/runs/")
    assert deliver(delivery, told(end), system, lambda _: None).error == ""
    assert state.history == states, "what is sent again changes nothing"


def test_a_release_without_tickets_is_no_deployment(cloud: tuple[Cloud, Deployments]) -> None:
    state, system = cloud
    delivery = Delivery(system="cloud", chain=CHAIN, correlation=CORRELATION)
    assert deliver(delivery, told(), system, lambda _: None).error == ""
    assert state.history == []


def test_a_deployment_that_jira_rejects_is_shown(cloud: tuple[Cloud, Deployments], tickets: tuple[str, ...]) -> None:
    state, system = cloud
    state.rejects = "Unknown issue keys"
    delivery = Delivery(system="cloud", chain=CHAIN, correlation=CORRELATION)
    refused = deliver(delivery, told(), system, lambda _: None)
    assert refused.refused
    assert "rejected the deployment: Unknown issue keys" in refused.error


# -- defects


def with_defects(said: tuple[Statement, ...], *lines: DefectLine) -> tuple[Statement, ...]:
    return tuple(
        one.model_copy(update={"change": one.change.model_copy(update={"defects": lines})})
        if one.event in ("frozen", "closed")
        else one
        for one in said
    )


DEFECT = DefectLine(
    id="bike-shop-1", title="The basket loses bikes", severity="major", environment="test", version="1.1.0", state="new"
)


@pytest.fixture
def keeper(server: JiraServer) -> Iterator[Issues]:
    """The system, with issues for defects."""
    described = DESCRIBED.model_copy(update={"defects": JiraDefects(project="SHOP")})
    with closing(Issues(open_jira(connection(server.url)), described)) as opened:
        yield opened


def test_a_defect_is_one_issue_that_is_linked_to_each_release_once(server: JiraServer, keeper: Issues) -> None:
    said = with_defects(told(), DEFECT)
    delivered(keeper, said)
    delivered(keeper, said)  # again, from the beginning
    (bug,) = [one for one in server.store.issues.values() if "interlock-defect-bike-shop-1" in one["labels"]]
    assert (bug["type"], bug["summary"]) == ("Bug", "bike-shop: The basket loses bikes")
    assert [one["key"] for one in bug["links"]] == [issue_of(server)["key"]]
    assert comments(bug) == []
    fixed = with_defects(told(), DEFECT.model_copy(update={"state": "fixed"}))
    other = Delivery(system="jira", chain=chain_of(2), correlation="interlock-next")
    deliver(other, fixed, keeper, lambda _: None)
    (text,) = comments(bug)
    assert text.startswith("Fixed in bike-shop 1.1.0, by SHOP-")
    assert len(bug["links"]) == 2


def test_a_defect_that_never_had_an_issue_gets_none_when_it_is_fixed(server: JiraServer, keeper: Issues) -> None:
    delivered(keeper, with_defects(told(), DEFECT.model_copy(update={"state": "fixed"})))
    assert not [one for one in server.store.issues.values() if "interlock-defect-bike-shop-1" in one["labels"]]
