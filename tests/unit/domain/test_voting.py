from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.domain.board.seats import ballots, careful_seats, describe_exclusions, seat_of
from interlock.domain.board.voting import Ballot, Seat, VotingRule, board_rule, longest_deadline, merge, voting_rule
from interlock.domain.catalogue import ChangeType
from tests.unit.domain.samples import FLOWS, ROLES, board, book, policy, service

BOARDS = {
    "cab": {"title": "CAB", "members": ["ben", "cora", "dan"], "quorum": {"approvals": 2, "veto": ["cora"]}},
    "ecab": {"title": "ECAB", "members": ["ben", "cora"], "quorum": {"approvals": 1, "deadline": "PT1H"}},
}
NOW = datetime(2026, 12, 5, 12, tzinfo=UTC)


def rule(
    *rules: dict[str, Any],
    kind: str = "normal",
    risk: int = 0,
    own: dict[str, Any] | None = None,
    unit: dict[str, Any] | None = None,
    **service_changes: Any,
) -> VotingRule | None:
    rules_of_all = policy(change_types=FLOWS, business_units={"retail": unit or {}})
    released = service(policy=own or {}, **service_changes)
    people = book(BOARDS, rules=list(rules))
    return voting_rule(rules_of_all, people, released, change_type=ChangeType(kind), risk=risk)


def places(*rules: dict[str, Any], **release: Any) -> list[str]:
    found = rule(*rules, **release)
    return [demand.place for demand in found.demands] if found else []


def cab_and(**more: Any) -> VotingRule:
    found = rule({"name": "more", **more})
    assert found is not None
    return found


# --- which rules match

ARCHITECTS = {"name": "architects", "members": ["eve"], "quorum": {"approvals": 1}}


def test_the_flow_names_the_board_and_a_standard_change_has_none() -> None:
    assert places() == ["board.yaml boards.cab"]
    assert places(kind="emergency") == ["board.yaml boards.ecab"]
    assert rule(kind="standard") is None


@pytest.mark.parametrize(
    ("when", "release", "matching"),
    [
        ({}, {}, True),
        ({"risk_from": 50}, {"risk": 50}, True),
        ({"risk_from": 50}, {"risk": 49}, False),
        ({"tiers": [1, 2]}, {"tier": 2}, True),
        ({"tiers": [1, 2]}, {"tier": 3}, False),
        ({"change_types": ["emergency"]}, {}, False),
        ({"change_types": ["normal"]}, {}, True),
        ({"business_units": ["retail"]}, {"business_unit": "retail"}, True),
        ({"business_units": ["retail"]}, {}, False),
        ({"services": ["bike-shop"]}, {}, True),
        ({"services": ["car-shop"]}, {}, False),
        ({"services": ["bike-shop"], "risk_from": 50}, {"risk": 49}, False),
    ],
)
def test_a_rule_matches_when_everything_that_it_names_holds(
    when: dict[str, Any], release: dict[str, Any], matching: bool
) -> None:
    found = places({**ARCHITECTS, "when": when}, **release)
    assert ("board.yaml rules.architects" in found) is matching


def test_a_board_has_its_own_rule_whatever_it_votes_on() -> None:
    alone = board_rule(book(BOARDS), "ecab")
    assert alone == rule(kind="emergency")
    assert alone != board_rule(book(BOARDS), "cab")


def test_rules_make_a_board_vote_on_what_is_pre_authorised() -> None:
    assert places(ARCHITECTS, kind="standard") == ["board.yaml rules.architects"]


def test_lower_levels_add_boards_and_rules() -> None:
    unit = {"change_types": {"normal": {"further_boards": ["ecab"]}}, "board_rules": [ARCHITECTS]}
    own = {"board_rules": [{"name": "all", "board": "cab", "quorum": {"approvals": 3}}]}
    assert places(unit=unit, own=own, business_unit="retail") == [
        "board.yaml boards.cab",
        "board.yaml boards.ecab",
        "policy.yaml business_units.retail board_rules.architects",
        "services/bike-shop.yaml board_rules.all",
    ]


# --- merging


def test_merged_rules_are_the_union_of_people_the_highest_minimum_and_the_shortest_deadline() -> None:
    quorum = {
        "approvals": 1,
        "require": {"operations": 1},
        "veto": ["eve"],
        "veto_roles": ["business"],
        "deadline": "PT6H",
    }
    merged = cab_and(members=["ann", "eve"], quorum=quorum)
    assert merged.members == ("ann", "ben", "cora", "dan", "eve")
    assert merged.approvals == 2
    assert merged.require == {"operations": 1}
    assert merged.veto == ("ann", "cora", "eve")
    assert merged.deadline == timedelta(hours=6)
    assert merged.title == "CAB and Rule more"


def test_a_rule_without_a_deadline_takes_the_others() -> None:
    assert cab_and(members=["eve"], quorum={}).deadline == timedelta(days=2)
    alone = rule({**ARCHITECTS, "quorum": {}}, kind="standard")
    assert alone is not None
    assert alone.deadline == timedelta(days=2)


@pytest.mark.parametrize(
    ("quorum", "expected"),
    [
        pytest.param({}, timedelta(hours=12), id="a quarter of two days"),
        pytest.param({"deadline": "PT8H"}, timedelta(hours=2), id="a quarter of the shortest deadline"),
        pytest.param({"remind_before": "PT3H"}, timedelta(hours=3), id="what a rule says"),
        pytest.param({"remind_before": "P3D"}, timedelta(hours=12), id="not before anybody is asked"),
    ],
)
def test_who_has_not_voted_is_reminded_before_the_deadline(quorum: dict[str, Any], expected: timedelta) -> None:
    merged = cab_and(members=["eve"], quorum=quorum)
    assert merged.remind_before == expected


def test_who_voted_by_which_rule_is_shown_with_its_place() -> None:
    merged = cab_and(members=["ann", "eve"], quorum={"require": {"operations": 1}})
    assert merged.lines() == (
        "CAB (board.yaml boards.cab): 2 approvals of 3; a rejection by Cora (cora) is a veto; within 2 days",
        "Rule more (board.yaml rules.more): 1 approval of 2, 1 by operations",
        "in total: 5 may vote, at least 2 approvals, 1 by operations, and each line must be met; within 2 days",
    )
    plain = rule(kind="emergency")
    assert plain is not None
    assert plain.lines() == ("ECAB (board.yaml boards.ecab): 1 approval of 2; within 1 hour",)


groups = st.lists(st.sampled_from(sorted(ROLES)), min_size=1, max_size=4, unique=True)
quorums = st.fixed_dictionaries(
    {"approvals": st.integers(1, 4)},
    optional={
        "require": st.dictionaries(st.sampled_from(["operations", "security", "business"]), st.integers(1, 2)),
        "veto_roles": st.lists(st.sampled_from(["security", "business"]), unique=True),
        "deadline": st.sampled_from(["PT1H", "P1D", "P3D"]),
    },
)
rules = st.builds(
    lambda name, members, quorum: rule({"name": name, "members": members, "quorum": quorum}, kind="standard"),
    st.sampled_from(["a", "b", "c"]),
    groups,
    quorums,
).filter(lambda found: found is not None)


@given(rules, rules, rules)
def test_merging_does_not_depend_on_order_or_repetition(one: VotingRule, two: VotingRule, three: VotingRule) -> None:
    assert merge(one, two) == merge(two, one)
    assert merge(merge(one, two), three) == merge(one, merge(two, three))
    assert merge(one, one) == one
    assert merge(merge(one, two), two) == merge(one, two)
    assert merge(one, two).lines() == merge(two, one).lines()


@given(rules, rules)
def test_merging_only_tightens(one: VotingRule, other: VotingRule) -> None:
    merged = merge(one, other)
    assert set(merged.members) == {*one.members, *other.members}
    assert set(merged.veto) == {*one.veto, *other.veto}
    assert merged.approvals == max(one.approvals, other.approvals)
    assert merged.deadline <= max(one.deadline, other.deadline)
    for role in {*one.require, *other.require}:
        assert merged.require[role] == max(one.require.get(role, 0), other.require.get(role, 0))


@given(rules, rules)
def test_a_merged_rule_comes_back_from_json_as_it_was(one: VotingRule, other: VotingRule) -> None:
    merged = merge(one, other)
    assert VotingRule.model_validate_json(merged.model_dump_json()) == merged


# --- deadlines


def test_the_longest_deadline_is_of_all_that_may_come_to_vote() -> None:
    slow = {**ARCHITECTS, "quorum": {"deadline": "P5D"}, "when": {"risk_from": 100}}
    people = book(BOARDS, rules=[slow])
    assert longest_deadline(policy(), people, service()) == timedelta(days=5)
    assert longest_deadline(policy(), book(BOARDS), service()) == timedelta(days=2)
    no_way_back = {**ARCHITECTS, "quorum": {"deadline": "P4D"}, "when": {"irreversible": True}}
    assert longest_deadline(policy(), book(BOARDS, rules=[no_way_back]), service()) == timedelta(days=4)
    nobody = policy(change_types={kind: {} for kind in FLOWS})
    assert longest_deadline(nobody, book(BOARDS), service()) is None


# --- delegates


def delegated(*delegates: tuple[str, str, str, str]) -> VotingRule:
    away = [{"for": member, "to": to, "from": first, "until": last} for member, to, first, last in delegates]
    found = voting_rule(policy(), book(BOARDS, delegates=away), service(), change_type=ChangeType.NORMAL, risk=0)
    assert found is not None
    return found


AWAY = ("cora", "eve", "2026-12-01", "2026-12-14")


@pytest.mark.parametrize(
    ("at", "seat"),
    [
        (datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC), None),
        (datetime(2026, 12, 1, tzinfo=UTC), "cora"),
        (datetime(2026, 12, 14, 23, 59, 59, tzinfo=UTC), "cora"),
        (datetime(2026, 12, 15, tzinfo=UTC), None),
        (None, None),
    ],
)
def test_a_delegate_has_the_seat_from_the_first_day_to_the_last(at: datetime | None, seat: str | None) -> None:
    assert seat_of(delegated(AWAY), "eve", at) == seat
    assert seat_of(delegated(AWAY), "cora", at) == "cora"


def test_a_member_votes_for_themselves_whoever_they_could_stand_in_for() -> None:
    both = delegated(("cora", "ben", "2026-12-01", "2026-12-14"))
    assert seat_of(both, "ben", NOW) == "ben"
    assert [ballot.voters for ballot in ballots(both, barred=(), since=NOW, until=NOW)] == [
        ("ben",),
        ("cora",),
        ("dan",),
    ]


def test_a_ballot_goes_to_the_member_and_to_who_stands_in_meanwhile() -> None:
    rule_of_now = delegated(AWAY, ("ben", "gus", "2026-12-07", "2026-12-09"))
    handed_out = ballots(rule_of_now, barred={"dan"}, since=NOW, until=NOW + timedelta(days=2))
    assert handed_out == (
        Ballot(seat=Seat(user="ben", name="Ben", role="operations"), voters=("ben", "gus")),
        Ballot(seat=Seat(user="cora", name="Cora", role="security"), voters=("cora", "eve")),
    )
    soon = ballots(rule_of_now, barred={"eve"}, since=NOW, until=NOW + timedelta(days=1))
    assert [ballot.voters for ballot in soon] == [("ben",), ("cora",), ("dan",)]
    assert "Eve (eve) may vote in place of Cora (cora) from 2026-12-01 until 2026-12-14" in rule_of_now.lines()


@pytest.mark.parametrize(
    ("first", "last", "may_come"),
    [
        pytest.param("2026-11-20", "2026-12-04", False, id="back before the voting"),
        pytest.param("2026-11-20", "2026-12-05", True, id="back after its first day"),
        pytest.param("2026-12-05", "2026-12-05", True, id="away on its first day"),
        pytest.param("2026-12-06", "2026-12-06", True, id="away in its midst"),
        pytest.param("2026-12-07", "2026-12-20", True, id="away from its last day"),
        pytest.param("2026-12-08", "2026-12-20", False, id="away after the voting"),
    ],
)
@pytest.mark.usefixtures("far_east")
def test_a_delegate_may_vote_who_stands_in_on_a_day_of_the_voting(first: str, last: str, may_come: bool) -> None:
    begin = datetime(2026, 12, 5, 0, 0, tzinfo=UTC)
    end = datetime.fromisoformat("2026-12-08T08:59+09:00")  # still the 7th, in UTC
    (_, cora, _) = ballots(delegated(("cora", "eve", first, last)), barred=(), since=begin, until=end)
    assert cora.voters == (("cora", "eve") if may_come else ("cora",))


def test_everything_that_a_rule_is_made_of_has_one_order() -> None:
    one = cab_and(members=["eve", "ann"], quorum={"require": {"operations": 1, "business": 1}, "veto": ["eve", "ann"]})
    own, cab = one.demands[1], one.demands[0]
    assert (cab.place, own.place) == ("board.yaml boards.cab", "board.yaml rules.more")
    assert own.members == ("ann", "eve")
    assert list(own.require) == ["business", "operations"]
    assert own.veto == ("ann", "eve")
    again = VotingRule(demands=(own, cab, own), seats=one.seats[::-1], delegations=(), delegates=())
    assert again == one


def test_merging_keeps_the_delegates_of_both() -> None:
    one, other = delegated(AWAY), delegated(("ben", "gus", "2026-12-07", "2026-12-09"))
    alone = rule({**ARCHITECTS, "members": ["ann"]}, kind="standard")
    assert alone is not None
    for merged in (merge(merge(one, alone), other), merge(other, merge(alone, one))):
        assert [delegation.for_ for delegation in merged.delegations] == ["ben", "cora"]
        assert [seat.user for seat in merged.delegates] == ["eve", "gus"]
        assert merged.called("gus") == "Gus (gus)"
        assert seat_of(merged, "eve", NOW) == "cora"


def test_who_stood_in_for_two_at_a_time_has_the_first_seat_only() -> None:
    twice = merge(delegated(AWAY), delegated(("ben", "eve", "2026-12-05", "2026-12-05")))
    assert seat_of(twice, "eve", NOW) == "ben"
    assert seat_of(twice, "eve", NOW + timedelta(days=1)) == "cora"


def test_a_member_with_a_veto_who_is_named_in_commits_has_a_ballot_and_the_ballots_say_so() -> None:
    rule = board()
    careful = careful_seats(rule, asked_by=["rita"], excluded=["cora", "dan"])
    assert [seat.user for seat in careful] == ["cora"]
    handed_out = ballots(rule, barred={"rita", "cora", "dan"}, since=NOW, until=NOW, careful=careful)
    assert [ballot.seat.user for ballot in handed_out] == ["ben", "cora"]
    assert describe_exclusions(rule, asked_by=["ben"], authors=["cora"], excluded=["cora", "dan"]) == (
        "Ben (ben) requested it, and does not vote.",
        "Cora (cora) is named as an author in its commits: their approval does not count, but their veto does.",
        "Dan (dan) contributed to it, and does not vote.",
    )
    assert describe_exclusions(rule, asked_by=["cora"], authors=[], excluded=[]) == (
        "Cora (cora) requested it, and does not vote, and has no veto.",
    )
    assert careful_seats(rule, asked_by=["cora"], excluded=["cora"]) == ()
