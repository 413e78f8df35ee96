from __future__ import annotations

from typing import Any

import pytest

from interlock.domain.board.voting_faults import faults_of_book, faults_of_level, faults_of_policy
from interlock.domain.catalogue.problem import Problem
from tests.unit.domain.samples import FLOWS, book, policy, service

CAB: dict[str, Any] = {"title": "CAB", "members": ["ben", "cora", "dan"], "quorum": {"approvals": 1}}


def of_book(*, services: Any = ("till",), quorum: Any = (), **changes: Any) -> list[Problem]:
    boards = {"cab": {**CAB, "quorum": {"approvals": 1, **dict(quorum)}}}
    return list(faults_of_book(book(boards, **changes), units=("retail",), services=services))


def places(found: list[Problem]) -> list[str]:
    return [".".join(map(str, fault.place)) for fault in found]


def rule(**changes: Any) -> dict[str, Any]:
    return {"name": "own", "members": ["ann", "dan"], "quorum": {}, **changes}


def test_a_pipeline_is_no_person_and_asks_for_services_that_there_are() -> None:
    pipelines = {"jenkins": ["till"], "ben": ["till"], "gitlab": ["till", "shop"]}
    found = list(
        faults_of_policy(policy(pipelines=pipelines), book({"cab": CAB, "ecab": CAB}), services=("till", "safe"))
    )
    assert found == [
        Problem(("pipelines", "ben"), "ben", "an account that no person of board.yaml has"),
        Problem(("pipelines", "gitlab", 1), "shop", "an existing service: till, safe"),
    ]


@pytest.mark.parametrize(
    "quorum",
    [
        {"approvals": 3},
        {"require": {"security": 1, "business": 1}},
        {"veto": ["ben", "cora", "dan"]},
        {"veto_roles": ["security", "operations"]},
    ],
)
def test_a_board_may_ask_what_its_members_can_just_give(quorum: dict[str, Any]) -> None:
    assert of_book(quorum=quorum) == []


def test_a_rule_may_ask_what_its_members_can_just_give() -> None:
    assert of_book(rules=[rule(quorum={"approvals": 2, "require": {"business": 2}, "veto": ["ann"]})]) == []
    assert of_book(rules=[rule(when={"business_units": ["retail"], "services": ["till"]})]) == []
    on_a_board = {"name": "own", "board": "cab", "quorum": {"approvals": 3, "veto_roles": ["business"]}}
    assert of_book(rules=[on_a_board, {"name": "bare", "board": "cab"}]) == []


def test_every_fault_is_named_not_only_the_first() -> None:
    wrong = {"approvals": 4, "require": {"security": 2, "finance": 1}, "veto": ["ann", "eve"], "veto_roles": ["x", "y"]}
    assert places(of_book(quorum=wrong, rules=[rule(), rule(name="more", when={"services": ["a", "till", "b"]})])) == [
        "boards.cab.quorum.approvals",
        "boards.cab.quorum.require.security",
        "boards.cab.quorum.require.finance",
        "boards.cab.quorum.veto.0",
        "boards.cab.quorum.veto.1",
        "boards.cab.quorum.veto_roles.0",
        "boards.cab.quorum.veto_roles.1",
        "rules.1.when.services.0",
        "rules.1.when.services.2",
    ]


def test_a_delegate_may_sit_elsewhere_but_not_beside_the_member() -> None:
    def away(member: str, to: str, month: int = 12) -> dict[str, str]:
        return {"for": member, "to": to, "from": f"2026-{month}-01", "until": f"2026-{month}-14"}

    assert of_book(delegates=[away("ben", "eve")]) == []
    assert of_book(delegates=[away("ben", "ann")], rules=[rule()]) == []  # ann sits in the rule, and ben does not
    delegates = [away("ben", "eve", 10), away("cora", "dan", 11), away("dan", "ann")]
    assert places(of_book(delegates=delegates, rules=[rule()])) == ["delegates.1.to", "delegates.2.to"]


def test_faults_of_a_service_have_their_place_in_its_file() -> None:
    own = {
        "change_types": {"normal": {"further_boards": ["cab", "tab"]}, "emergency": {"board": "bat"}},
        "board_rules": [{"name": "fine", "board": "cab"}, {"name": "own", "board": "tub", "quorum": {"approvals": 9}}],
    }
    level = service(policy=own).policy
    found = list(faults_of_level(level, book({"cab": CAB}), ("policy",), units=(), services=["bike-shop"]))
    assert places(found) == [
        "policy.change_types.normal.further_boards.1",
        "policy.change_types.emergency.board",
        "policy.board_rules.1.board",
    ]


def test_a_business_units_rule_may_name_the_services_that_there_are() -> None:
    units = {"retail": {"board_rules": [rule(when={"services": ["till", "bus"]})]}}
    rules = policy(change_types={**FLOWS, "emergency": {}}, business_units=units)
    (fault,) = faults_of_policy(rules, book({"cab": CAB}), services=("till",))
    assert (fault.place[-1], fault.found) == (1, "bus")


def test_strangers_are_named_and_their_roles_are_not_asked_for() -> None:
    wrong = rule(members=["zoe", "ann", "yan"], quorum={"approvals": 4, "veto": ["ben"]})
    units = {"retail": {"board_rules": [wrong]}, "toys": {"board_rules": [rule(when={"business_units": ["toys"]})]}}
    flows = {**FLOWS, "emergency": {}}
    found = list(faults_of_policy(policy(change_types=flows, business_units=units), book({"cab": CAB}), services=()))
    assert places(found) == [
        "business_units.retail.board_rules.0.members.0",
        "business_units.retail.board_rules.0.members.2",
    ]
    assert [fault.found for fault in found] == ["zoe", "yan"]


def test_a_policy_whose_boards_there_are_has_no_fault() -> None:
    ecab = {"title": "ECAB", "members": ["ben"], "quorum": {"approvals": 1}}
    found = faults_of_policy(policy(), book({"cab": CAB, "ecab": ecab}), services=("till",))
    assert list(found) == []
