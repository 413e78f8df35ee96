from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from interlock.domain.catalogue import ChangeType, Flow
from interlock.domain.catalogue.outside.tickets import TicketRules
from interlock.domain.change.policy import resolve_policy
from interlock.domain.errors import PolicyViolation, TransientError
from interlock.domain.tickets.demands import refuse_unmet, unmet
from interlock.domain.tickets.facts import Ticket
from interlock.domain.tickets.names import project_of, tickets_named
from tests.unit.domain import samples

SHA = "0123456789ab" + "c" * 28
SHOP = samples.service()


def rules(*projects: dict[str, Any], **systems: Any) -> TicketRules:
    usual = {"jira": {"kind": "jira", "connection": "jira"}, "github": {"kind": "github", "connection": "github"}}
    return TicketRules.model_validate({"systems": {**usual, **systems}, "projects": list(projects)})


BOTH = rules({"key": "SHOP", "system": "jira"}, {"key": "#", "system": "github", "project": "acme/shop"})


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("SHOP-12: sell bikes", ["SHOP-12"]),
        ("Merge branch feature/SHOP-12-bikes", ["SHOP-12"]),
        ("Sell bikes\n\nPart of SHOP-12 and SHOP-13, SHOP-12", ["SHOP-12", "SHOP-13"]),
        ("Read files as UTF-8, with SHA-256", []),
        ("WEB-1 is another team's", []),
        ("XSHOP-1, SHOP-12a, SHOP-0, SHOP-012, PRE-SHOP-1, shop-1", []),
        ("Sell bikes (#12)", []),
        ("Merge pull request #12 from acme/bikes", []),
        ("Sell bikes\n\nFixes #12, #13 and #14. Refs #15", ["#12", "#13", "#14", "#15"]),
        ("closes: #3; prefixes #4", ["#3"]),
        ("Sell bikes AB#7", ["#7"]),
        ("Fixes acme/other#12", []),
    ],
)
def test_a_message_names_tickets(message: str, named: list[str]) -> None:
    assert list(tickets_named((), [(SHA, message)], BOTH)) == named


def test_what_names_a_ticket_is_on_record() -> None:
    commits = [(digit * 40, "SHOP-12") for digit in "abcdef"]
    found = tickets_named(("SHOP-12", "WEB-1"), commits, BOTH)
    assert found == {"SHOP-12": ("request", *(digit * 12 for digit in "abcd")), "WEB-1": ("request",)}


def test_a_key_belongs_to_the_project_of_the_service() -> None:
    both = rules(
        {"key": "#", "system": "github", "project": "acme/shop", "services": ["bike-shop"]},
        {"key": "#", "system": "github", "project": "acme/depot", "services": ["depot"]},
    )
    place = project_of("#1", both.concerning("depot"))
    assert place is not None
    assert place.project == "acme/depot"
    assert both.concerning("other") == TicketRules()


@pytest.mark.parametrize(
    ("projects", "said"),
    [
        ([{"key": "SHOP", "system": "other"}], "which systems lacks"),
        ([{"key": "GH", "system": "github"}], "needs project"),
        ([{"key": "#", "system": "jira"}], "# is none"),
        ([{"key": "SHOP", "system": "jira"}] * 2, "twice"),
        ([{"key": "SHOP", "system": "jira"}, {"key": "SHOP", "system": "jira", "services": ["a"]}], "twice"),
        ([{"key": "GH", "system": "github", "project": "acme/../other"}], "no names of projects"),
        ([{"key": "GH", "system": "github", "project": "acme/shop?x"}], "pattern"),
    ],
)
def test_a_key_that_leads_nowhere_certain_is_refused(projects: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        rules(*projects)


def test_only_jira_has_a_service_desk() -> None:
    with pytest.raises(ValidationError, match="service_desk is for kind: jira"):
        rules(github={"kind": "github", "connection": "a", "approved": {"service_desk": True}})


def ticket(key: str = "SHOP-12", **changes: Any) -> Ticket:
    usual = {"found": "read", "system": "jira", "status": "Done", "approved": True, "fix_versions": ("1.4.0",)}
    return Ticket(key=key, named_by=("request",), **{**usual, **changes})


def said(flow: dict[str, Any], *tickets: Ticket) -> list[str]:
    return [text for _, text in unmet(Flow.model_validate(flow), tickets, version="1.4.0", service=SHOP)]


EVERYTHING = {"tickets": ["named", "exist", "approved", "in_version"], "ticket_states": ["Ready", "done"]}


def test_tickets_that_are_as_demanded_are_no_reason() -> None:
    assert said(EVERYTHING, ticket()) == []
    assert said({}, ticket(found="missing"), ticket(found="unread"), ticket(status="Open")) == []
    assert said({"tickets": ["named"]}, ticket(found="unread", why="down")) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"status": "Open"}, "SHOP-12 is in the state Open, not in Ready or done"),
        ({"approved": False}, "SHOP-12 is not approved"),
        (
            {"approved": None},
            "SHOP-12 may be approved or not: tickets.systems.jira.approved in policy.yaml does not say when",
        ),
        ({"fix_versions": ()}, "SHOP-12 belongs to no version, not to 1.4.0"),
        ({"fix_versions": ("1.3.0", "1.4.0-rc.1")}, "SHOP-12 belongs to 1.3.0, 1.4.0-rc.1, not to 1.4.0"),
        ({"found": "missing", "why": "jira has no ticket SHOP-12"}, "SHOP-12 is not there: jira has no ticket SHOP-12"),
        ({"found": "unknown", "why": "no key"}, "SHOP-12 is not there: no key"),
        ({"found": "unread", "why": "down"}, "SHOP-12 could not be read in jira: down"),
    ],
)
def test_what_is_not_as_demanded_is_said(changes: dict[str, Any], sentence: str) -> None:
    assert said(EVERYTHING, ticket(**changes)) == [sentence]


def test_a_release_must_name_a_ticket() -> None:
    assert said({"tickets": ["named"]}) == ["The release names no ticket, neither in its request nor in its commits"]


def test_a_system_that_does_not_answer_can_be_marked() -> None:
    assert said({**EVERYTHING, "tickets_unread": "mark"}, ticket(found="unread", why="down")) == []
    # What is not there is not excused by this.
    assert said({**EVERYTHING, "tickets_unread": "mark"}, ticket(found="missing", why="gone"))


@pytest.mark.parametrize("name", ["1.4.0", "v1.4.0", "Bike Shop 1.4.0", "bike-shop-v1.4.0", "bike-shop/1.4.0"])
def test_a_version_has_several_names(name: str) -> None:
    assert said({"tickets": ["in_version"]}, ticket(fix_versions=("0.1.0", name))) == []


@pytest.mark.parametrize("name", ["1.4", "11.4.0", "1.4.0.1", "depot 1.4.0", "1.4.0 or so"])
def test_another_version_is_another_one(name: str) -> None:
    assert said({"tickets": ["in_version"]}, ticket(fix_versions=(name,)))


def test_a_refusal_names_ticket_rule_place_and_next_step() -> None:
    asked = {**samples.FLOWS, "normal": {"board": "cab", "tickets": ["exist"]}}
    policy = samples.policy(change_types=asked, business_units={})
    own = samples.service(policy={"change_types": {"normal": {"ticket_states": ["Done"]}}})
    in_force = resolve_policy(policy, own, ChangeType.NORMAL)
    many = [ticket(f"SHOP-{number}", status="Open") for number in range(1, 13)]
    with pytest.raises(PolicyViolation) as refused:
        refuse_unmet(in_force, many, version="1.4.0", service=own)
    assert refused.value.what.startswith("The tickets of bike-shop 1.4.0 are not as demanded. SHOP-1 is in the state")
    assert refused.value.what.endswith("SHOP-10 is in the state Open, not in Done; 2 more.")
    assert refused.value.rule == "change_types.normal.ticket_states, in services/bike-shop.yaml"
    assert refused.value.who
    assert refused.value.next_step


def test_a_system_that_is_down_is_asked_again_before_a_release_ends() -> None:
    in_force = resolve_policy(
        samples.policy(change_types={**samples.FLOWS, "normal": {"board": "cab", "tickets": ["exist"]}}),
        SHOP,
        ChangeType.NORMAL,
    )
    down = ticket(found="unread", why="down")
    with pytest.raises(TransientError, match=r"SHOP-12 could not be read in jira: down"):
        refuse_unmet(in_force, [down], version="1.4.0", service=SHOP)
    with pytest.raises(PolicyViolation):
        refuse_unmet(in_force, [down, ticket(found="missing")], version="1.4.0", service=SHOP)


@pytest.mark.parametrize(
    ("above", "below", "holds"),
    [
        ({}, {"tickets": ["named"], "ticket_states": ["Done"]}, {"tickets": ["named"], "ticket_states": ["Done"]}),
        ({"tickets": ["exist"]}, {"tickets": ["approved"]}, {"tickets": ["approved", "exist"]}),
        ({"ticket_states": ["A", "B"]}, {"ticket_states": ["B"]}, {"ticket_states": ["B"]}),
        ({"ticket_states": ["A", "B"]}, {"ticket_states": ["C"]}, None),
        ({"ticket_states": ["A", "B"]}, {"ticket_states": []}, None),
        ({"tickets_unread": "mark"}, {"tickets_unread": "refuse"}, {}),
        ({}, {"tickets_unread": "mark"}, None),
    ],
)
def test_a_lower_level_may_only_demand_more(
    above: dict[str, Any], below: dict[str, Any], holds: dict[str, Any] | None
) -> None:
    policy = samples.policy(change_types={**samples.FLOWS, "normal": {"board": "cab", **above}})
    own = samples.service(policy={"change_types": {"normal": below}})
    if holds is None:
        with pytest.raises(PolicyViolation, match=next(iter(below))):
            resolve_policy(policy, own, ChangeType.NORMAL)
    else:
        flow = resolve_policy(policy, own, ChangeType.NORMAL).flow
        assert flow == Flow.model_validate({"board": "cab", **holds})


def test_policies_without_tickets_are_as_before_there_were_any() -> None:
    policy = samples.policy()
    assert "tickets" not in policy.model_dump(mode="json")
    assert not {"tickets", "ticket_states", "tickets_unread"} & Flow().model_dump(mode="json").keys()
