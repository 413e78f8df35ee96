"""Tickets, read over HTTP from servers that keep them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from airflow.sdk import Connection

from interlock.adapters.tickets.reading import READERS, read_tickets
from interlock.adapters.tickets.site import MAX_BYTES
from interlock.domain.catalogue.outside.tickets import TicketKind, TicketRules
from interlock.domain.tickets.facts import Ticket
from tests.ticket_servers import TOKEN, JiraServer, azure_devops, github, gitlab, jira, serving

FORGED = "Sell <b>bikes</b>\n| x | [y](https://evil.example) |\u202e" + "z" * 500


@pytest.fixture(scope="module")
def shop() -> Iterator[JiraServer]:
    with jira() as server:
        yield server


def rules(kind: str, *, key: str = "#", project: str = "acme/shop", **system: Any) -> TicketRules:
    return TicketRules.model_validate(
        {
            "systems": {"ours": {"kind": kind, "connection": "tickets", **system}},
            "projects": [{"key": key, "system": "ours", "project": project}],
        }
    )


def read(url: str, found: TicketRules, *keys: str, **login: Any) -> tuple[Ticket, ...]:
    connection = Connection(conn_id="tickets", conn_type="http", host=url, **(login or {"password": TOKEN}))
    return read_tickets({key: ("request",) for key in keys}, found, lambda name: connection)


def of_jira(server: JiraServer, *keys: str, **system: Any) -> tuple[Ticket, ...]:
    return read(server.url, rules("jira", key="SHOP", project="", **system), *keys)


def test_an_issue_of_jira_is_read_with_its_parent_and_versions(shop: JiraServer) -> None:
    epic = shop.issue("Sell bikes", kind="Epic")
    key = shop.issue("Price them", kind="Sub-task", parent=epic, version="1.4.0")
    shop.move(key, "In Review")
    (ticket,) = of_jira(shop, key)
    assert ticket == Ticket(
        key=key,
        named_by=("request",),
        found="read",
        system="ours",
        title="Price them",
        status="In Review",
        type="Sub-task",
        parent=epic,
        fix_versions=("1.4.0",),
        link=f"{shop.url}/browse/{key}",
    )


@pytest.mark.parametrize(
    ("decisions", "approved"),
    [(["approved"], True), (["approved", "pending"], False), (["declined"], False), ([], False), (None, False)],
    ids=["approved", "one pending", "declined", "none asked", "no request"],
)
def test_a_request_is_approved_if_all_its_approvals_are_given(
    shop: JiraServer, decisions: list[str] | None, approved: bool
) -> None:
    key = shop.issue("Change the prices")
    if decisions is not None:
        shop.approvals[key] = decisions
    (ticket,) = of_jira(shop, key, approved={"service_desk": True})
    assert ticket.approved is approved


def test_a_state_can_mean_approved(shop: JiraServer) -> None:
    done, open_ = shop.issue("Done"), shop.issue("Not done")
    shop.move(done, "Done")
    assert [one.approved for one in of_jira(shop, done, open_, approved={"states": ["done"]})] == [True, False]


def test_a_ticket_that_is_not_there_is_missing(shop: JiraServer) -> None:
    (ticket,) = of_jira(shop, "SHOP-999999")
    assert (ticket.found, ticket.system) == ("missing", "ours")
    assert "connection tickets" in ticket.why


def test_a_refused_login_is_no_missing_ticket(shop: JiraServer) -> None:
    (ticket,) = read(shop.url, rules("jira", key="SHOP", project=""), "SHOP-1", password="wrong-s3cret")
    assert ticket.found == "unread"
    assert "status 401" in ticket.why
    assert "connection tickets" in ticket.why
    assert "wrong-s3cret" not in ticket.why


def test_a_key_without_a_system_is_unknown(shop: JiraServer) -> None:
    (ticket,) = of_jira(shop, "WEB-1")
    assert ticket.found == "unknown"


def test_text_of_people_is_one_line(shop: JiraServer) -> None:
    (ticket,) = of_jira(shop, shop.issue(FORGED))
    assert ticket.title.startswith("Sell <b>bikes</b> | x |")
    assert len(ticket.title) == 300
    assert ticket.title.isprintable()


def test_an_issue_of_github_is_read() -> None:
    with serving(github) as server:
        server.issues["acme/shop", 12] = {
            "number": 12,
            "title": "Sell bikes",
            "state": "open",
            "type": {"name": "Feature"},
            "milestone": {"title": "1.4.0"},
            "labels": [{"name": "approved"}, "old"],
            "parent_issue_url": "https://api.github.com/repos/acme/shop/issues/3",
        }
        server.issues["acme/shop", 13] = {"number": 13, "title": "A patch", "state": "closed", "pull_request": {}}
        found = rules("github", approved={"labels": ["Approved"]}, site="https://github.com")
        issue, patch = read(server.url, found, "#12", "#13")
    assert (issue.title, issue.status, issue.type, issue.parent) == ("Sell bikes", "open", "Feature", "#3")
    assert (issue.fix_versions, issue.approved) == (("1.4.0",), True)
    assert issue.link == "https://github.com/acme/shop/issues/12"
    assert (patch.type, patch.approved) == ("pull request", False)


def test_an_issue_of_gitlab_is_read() -> None:
    with serving(gitlab) as server:
        server.issues["acme/web/shop", 12] = {
            "iid": 12,
            "title": "Sell bikes",
            "state": "opened",
            "issue_type": "incident",
            "milestone": {"title": "1.4.0"},
            "epic": {"title": "Bikes"},
            "labels": ["a"],
        }
        (issue,) = read(server.url, rules("gitlab", project="acme/web/shop"), "#12")
        assert issue.link == f"{server.url}/acme/web/shop/-/issues/12"
    assert (issue.title, issue.status, issue.type, issue.parent) == ("Sell bikes", "opened", "incident", "Bikes")
    assert (issue.fix_versions, issue.approved) == (("1.4.0",), None)


def test_a_work_item_of_azure_devops_is_read() -> None:
    with serving(azure_devops) as server:
        server.issues["Web shop", 12] = {
            "id": 12,
            "fields": {
                "System.Title": "Sell bikes",
                "System.State": "Active",
                "System.WorkItemType": "User Story",
                "System.Parent": 3,
                "System.Tags": "1.4.0; approved",
                "System.IterationPath": "Web shop\\Sprint 7",
                "System.Description": "not asked for",
            },
        }
        found = rules("azure_devops", project="Web shop", approved={"labels": ["approved"]})
        (item,) = read(f"{server.url}/acme", found, "#12")
        (refused,) = read(f"{server.url}/acme", found, "#12", password="wrong")
        assert item.link == f"{server.url}/acme/Web%20shop/_workitems/edit/12"
    assert (item.title, item.status, item.type, item.parent) == ("Sell bikes", "Active", "User Story", "#3")
    assert (item.fix_versions, item.approved) == (("1.4.0", "approved", "Sprint 7"), True)
    assert refused.found == "unread"  # a sign-in page with status 203 is no ticket


def test_a_system_that_asks_to_wait_is_asked_again() -> None:
    with serving(github) as server:
        server.issues["acme/shop", 12] = {"number": 12, "title": "Sell bikes", "state": "open"}
        server.faults = [(429, {"Retry-After": "0"}), (503, {"Retry-After": "0"})]
        (ticket,) = read(server.url, rules("github"), "#12")
    assert ticket.found == "read"
    assert len(server.asked) == 3


def test_a_system_that_asks_to_wait_long_is_not_waited_for_and_asked_once() -> None:
    with serving(github) as server:
        server.faults = [(429, {"Retry-After": "3600"})]
        found = read(server.url, rules("github"), "#12", "#13")
    assert [one.found for one in found] == ["unread", "unread"]
    assert all("status 429" in one.why for one in found)
    assert len(server.asked) == 1


def test_a_system_that_is_down_is_unread() -> None:
    with serving(github) as server:
        pass
    (ticket,) = read(server.url, rules("github"), "#12")
    assert (ticket.found, ticket.system) == ("unread", "ours")
    assert "does not answer" in ticket.why


def test_a_login_does_not_follow_where_a_server_leads() -> None:
    with serving(github) as server, serving(github) as elsewhere:
        server.faults = [(302, {"Location": f"{elsewhere.url}/repos/acme/shop/issues/12"})]
        (ticket,) = read(server.url, rules("github"), "#12")
    assert ticket.found == "unread"
    assert elsewhere.asked == []


def answering(said: Any) -> Any:
    return lambda tickets, path, login, query: (200, said)


@pytest.mark.parametrize(
    "said",
    [
        b"{" * 100_000,
        b"no json",
        [],
        {"number": 1},
        {"number": 12, "title": 5, "state": "open"},
        {"number": 12, "title": "x" * (MAX_BYTES + 1), "state": "open"},
    ],
    ids=["deep", "text", "list", "fields left out", "another type", "too long"],
)
def test_an_answer_of_no_use_is_unread(said: Any) -> None:
    with serving(answering(said)) as server:
        (ticket,) = read(server.url, rules("github"), "#12")
    assert ticket.found == "unread"
    assert "answers with" in ticket.why


def test_a_login_is_not_sent_over_http_to_another_machine() -> None:
    (ticket,) = read("http://jira.example", rules("github"), "#12")
    assert ticket.found == "unread"
    assert "no address of an API" in ticket.why


def test_a_connection_that_there_is_not_is_named() -> None:
    (ticket,) = read_tickets({"#12": ("request",)}, rules("github"), lambda name: None)
    assert (ticket.found, ticket.why.partition(";")[0]) == ("unread", "Airflow has no connection tickets")


def test_more_tickets_than_are_read_are_on_record(shop: JiraServer) -> None:
    found = of_jira(shop, *(f"WEB-{number}" for number in range(1, 203)))
    assert [one.found for one in found[199:]] == ["unknown", "unread", "unread"]


def test_each_kind_of_system_has_a_reader() -> None:
    assert READERS.keys() == set(get_args(TicketKind))
