"""What an edit of the catalogue means for a release under way: asked of it, no help to it, or the end of it."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from interlock.domain.board.decision import ABSTAIN, APPROVE, REJECT, count_votes
from interlock.domain.board.voting import VotingRule, both, rule_on_record, sign_off_rule, voting_rule
from interlock.domain.catalogue import ChangeType, ServiceCatalogue, Thresholds
from interlock.domain.change.amended import amendments_of, as_begun, strictest, tightened_thresholds, what_voids
from interlock.domain.change.effective import bound_to, rules_for
from interlock.domain.change.policy import resolve_policy
from interlock.domain.ledger.kinds import POLICY_RESOLVED
from interlock.domain.records import PolicyInForce, Vote
from tests.memory_ledger import MemoryLedger
from tests.unit.domain.test_effective import (
    AWAY,
    CATALOGUE_NOW,
    GRACE,
    IRRELEVANT,
    SHOP,
    Edit,
    adds,
    edited,
    sets,
)

NORMAL = ChangeType.NORMAL
AT = datetime(2026, 11, 29, 12, tzinfo=UTC)
CAB = ("board.yaml", "boards", "cab", "quorum")
SECOND = {"name": "weekend", "when": {"tiers": [2]}, "board": "ecab"}
OWN = {"name": "own", "when": {"services": ["bike-shop"]}, "members": ["ben", "dan"], "quorum": {"approvals": 2}}
TIGHTER: dict[str, tuple[Edit, ...]] = {
    "more approvals": (sets(*CAB, "approvals", to=3),),
    "more approvals of a role": (sets(*CAB, "require", "operations", to=1), sets(*CAB, "require", "security", to=1)),
    "a veto": (sets(*CAB, "veto", to=["dan"]),),
    "another board": (sets("policy.yaml", "change_types", "normal", "further_boards", to=["ecab"]),),
    "another board by a rule": (adds("board.yaml", "rules", what=SECOND),),
    "another rule on its members": (adds("board.yaml", "rules", what=OWN),),
    "a rule from a lower risk on": (sets("board.yaml", "rules", 0, "when", "risk_from", to=10),),
    "a lower threshold": (sets(SHOP, "policy", "thresholds", "max_p95_ms", to=700),),
    "a higher minimum": (sets("policy.yaml", "thresholds", "min_tests", to=50),),
    "fewer licences": (sets("policy.yaml", "thresholds", "allowed_licences", to=["MIT"]),),
}
LOOSER: dict[str, tuple[Edit, ...]] = {
    "fewer approvals": (sets(*CAB, "approvals", to=1), sets(*CAB, "require", to={})),
    "a later deadline": (sets(*CAB, "deadline", to="P9D"),),
    "a rule less": (sets("board.yaml", "rules", to=[]),),
    "a higher threshold": (sets(SHOP, "policy", to={}),),
    "the title of a board": (sets("board.yaml", "boards", "cab", "title", to="Board"),),
    "the name of a member": (sets("board.yaml", "people", 1, "name", to="Benjamin"),),
}
VOID: dict[str, tuple[Edit, ...]] = {
    "a member more": (
        adds("board.yaml", "people", what=GRACE),
        adds("board.yaml", "boards", "cab", "members", what="grace"),
    ),
    "a member less": (sets("board.yaml", "boards", "cab", "members", to=["ben", "cora"]),),
    "the role of a member": (sets("board.yaml", "people", 1, "role", to="security"),),
    "a delegate": (adds("board.yaml", "delegates", what=AWAY),),
    "who accepts it": (sets(SHOP, "functional_approvers", to=["maya"]),),
    "where it is deployed to": (sets(SHOP, "environments", "production", "hosts", "Service", to="bike-shop-2"),),
    "the root on its hosts": (sets(SHOP, "environments", "production", "count", to=2),),
    "another board in place of the first": (sets("policy.yaml", "change_types", "normal", "board", to="ecab"),),
    "what hosts must verify": (sets("policy.yaml", "permits", to={"hosts_without_keys": "refuse"}),),
    "how risk is worked out": (sets("policy.yaml", "risk", "points_by_tier", "2", to=1),),
}
PEOPLE = ("ben", "cora", "dan", "erin", "rita", "maya")


def edited_or_not(*edits: Edit) -> ServiceCatalogue:
    """Return the catalogue after edits; edits that contradict each other are no example."""
    try:
        return edited(*edits)
    except (ValueError, LookupError):
        reject()


def effects(now: ServiceCatalogue) -> set[str]:
    return {one.effect for one in amendments_of(bound_to(CATALOGUE_NOW, NORMAL), now)}


def with_staging(thresholds: dict[str, Any]) -> ServiceCatalogue:
    """Return the catalogue with an environment between test and production."""
    described: dict[str, Any] = {"after": ["test"], "hosts": {"Environment": "staging"}, "count": 1}
    described |= {"ssh": "interlock_test_hosts", "deploy_root": "srv/bike-shop"}
    return edited(sets(SHOP, "environments", "staging", to=described | {"thresholds": thresholds}))


def with_sign_off(asked: dict[str, Any], *edits: Edit) -> ServiceCatalogue:
    """Return the catalogue with an environment that people of a role sign off, and what was edited besides."""
    described: dict[str, Any] = {"after": ["test"], "hosts": {"Environment": "staging"}, "count": 1}
    described |= {"ssh": "interlock_test_hosts", "deploy_root": "srv/bike-shop", "sign_off": asked}
    return edited(sets(SHOP, "environments", "staging", to=described), *edits)


QA = {"title": "Test team", "people": ["fay"], "roles": ["qa"], "quorum": 2}
TINA, TOM = (
    {"user": user, "name": name, "email": f"{user}@example.com", "role": "qa"}
    for user, name in (("tina", "Tina Berg"), ("tom", "Tom Hale"))
)
HAS, JOINS = (adds("board.yaml", "people", what=one) for one in (TINA, TOM))


def signing(began: PolicyInForce, now: ServiceCatalogue) -> tuple[str, ...]:
    """Return who signs the environment off, of a release that began with other rules."""
    ledger = MemoryLedger()
    ledger.append("release/r/1", POLICY_RESOLVED, began.to_xcom(), actor="a task", key="policy")
    then = as_begun(now, ledger.entries("release/r/1"))
    rule = sign_off_rule(then.board, then.service, "staging")
    assert rule is not None
    return rule.members


@pytest.mark.parametrize(
    "edits",
    [(HAS, JOINS), (JOINS, adds("board.yaml", "people", what={**TINA, "role": "sales"})), (JOINS,)],
    ids=["one has the role later", "one has it no more", "one is not in the book any more"],
)
def test_who_had_the_role_when_the_release_began_signs_the_environment_off(edits: tuple[Edit, ...]) -> None:
    began, now = bound_to(with_sign_off(QA, HAS), NORMAL), with_sign_off(QA, *edits)
    assert what_voids(began, now) == ()
    assert signing(began, now) == ("fay", "tina")
    assert "tom" in signing(bound_to(now, NORMAL), now), "of a release that begins now"


@pytest.mark.parametrize("asked", [{**QA, "roles": ["operations"]}, {**QA, "quorum": 1}, {**QA, "people": ["sam"]}])
def test_another_sign_off_makes_a_release_void(asked: dict[str, Any]) -> None:
    assert what_voids(bound_to(with_sign_off(QA, HAS), NORMAL), with_sign_off(asked, HAS))


@given(before=st.integers(1, 800) | st.none(), now=st.integers(1, 800) | st.none())
def test_a_threshold_of_an_environment_is_asked_if_it_was_tightened_and_voids_if_it_was_loosened(
    before: int | None, now: int | None
) -> None:
    then, there = ({} if one is None else {"max_p95_ms": one} for one in (before, now))
    began = bound_to(with_staging(then), NORMAL)
    found = amendments_of(began, with_staging(there))
    tighter = before != now and now is not None and (before is None or now < before)
    expected = [] if before == now else ["asked" if tighter else "voids"]
    assert [one.effect for one in found] == expected
    assert bool(tightened_thresholds(found)) == tighter
    assert all("environments.staging.thresholds" in one.key for one in found)


@pytest.mark.parametrize("edits", TIGHTER.values(), ids=TIGHTER.keys())
def test_what_tightens_is_asked_and_voids_nothing(edits: tuple[Edit, ...]) -> None:
    now = edited(*edits)
    assert "asked" in effects(now)
    assert what_voids(bound_to(CATALOGUE_NOW, NORMAL), now) == ()


@pytest.mark.parametrize("edits", LOOSER.values(), ids=LOOSER.keys())
def test_what_loosens_is_ignored(edits: tuple[Edit, ...]) -> None:
    assert effects(edited(*edits)) == {"ignored"}


@pytest.mark.parametrize("edits", VOID.values(), ids=VOID.keys())
def test_everything_else_voids_with_file_key_before_and_after(edits: tuple[Edit, ...]) -> None:
    now = edited(*edits)
    assert "voids" in effects(now)
    voided = [one for one in amendments_of(bound_to(CATALOGUE_NOW, NORMAL), now) if one.effect == "voids"]
    said = what_voids(bound_to(CATALOGUE_NOW, NORMAL), now)
    assert said == tuple(f"{one.file}: {one.key} was {one.before} and is {one.after}" for one in voided)


@given(st.lists(st.sampled_from(list(IRRELEVANT)), max_size=4, unique=True))
def test_what_does_not_concern_a_release_is_no_amendment(beside: list[str]) -> None:
    assert effects(edited_or_not(*(edit for name in beside for edit in IRRELEVANT[name]))) == set()


@given(
    st.lists(st.sampled_from(list(TIGHTER)), max_size=4, unique=True),
    st.lists(st.sampled_from(list(LOOSER)), max_size=4, unique=True),
    st.lists(st.sampled_from(list(VOID)), max_size=2, unique=True),
    st.lists(st.sampled_from(list(IRRELEVANT)), max_size=2, unique=True),
)
def test_one_edit_that_voids_voids_whatever_is_beside_it_and_nothing_else_does(
    tighter: list[str], looser: list[str], void: list[str], beside: list[str]
) -> None:
    named = [(TIGHTER, tighter), (LOOSER, looser), (IRRELEVANT, beside), (VOID, void)]
    now = edited_or_not(*(edit for table, names in named for name in names for edit in table[name]))
    assert bool(what_voids(bound_to(CATALOGUE_NOW, NORMAL), now)) == bool(void)


@pytest.mark.parametrize("kind", ChangeType)
def test_the_rule_that_is_on_record_is_the_rule_of_then(kind: ChangeType) -> None:
    for edits in ((), *TIGHTER.values(), *LOOSER.values(), VOID["a delegate"]):
        now = edited(*edits)
        rules = rules_for(now, kind)
        for risk, irreversible in product((0, 9, 10, 69, 70, 100), (False, True)):
            about: dict[str, Any] = {"change_type": kind, "risk": risk, "irreversible": irreversible}
            assert rule_on_record(rules, **about) == voting_rule(*now, **about)


def rule(catalogue: ServiceCatalogue, risk: int) -> VotingRule | None:
    return voting_rule(*catalogue, change_type=NORMAL, risk=risk)


def approves(asked: VotingRule | None, votes: list[Vote]) -> bool:
    if asked is None:
        return True
    decided = count_votes(asked, votes, digest="0" * 64, requester="sam", expired=True)
    assert decided is not None
    return decided.approved


@given(
    st.lists(st.sampled_from([*TIGHTER, *LOOSER]), max_size=5, unique=True),
    st.dictionaries(st.sampled_from(PEOPLE), st.sampled_from((APPROVE, REJECT, ABSTAIN))),
    st.integers(0, 100),
)
def test_votes_approve_by_both_rules_or_not_at_all(names: list[str], cast: dict[str, str], risk: int) -> None:
    now = edited_or_not(*(edit for name in names for edit in {**TIGHTER, **LOOSER}[name]))
    votes = [Vote(user=user, assigned=user, choice=choice, at=AT) for user, choice in cast.items()]
    then = rule_on_record(rules_for(CATALOGUE_NOW, NORMAL), change_type=NORMAL, risk=risk)
    asked = approves(both(then, rule(now, risk)), votes)
    if asked:
        assert approves(rule(CATALOGUE_NOW, risk), votes), "loosening never helps"
        assert approves(rule(now, risk), votes), "what tightens is asked"


@given(
    st.integers(1, 2000),
    st.integers(1, 2000),
    st.integers(0, 99),
    st.integers(0, 99),
    st.sets(st.sampled_from(["MIT", "ISC", "Apache-2.0"]), min_size=1),
)
def test_of_two_thresholds_the_tighter_one_holds(
    p95: int, now_p95: int, tests: int, now_tests: int, may: set[str]
) -> None:
    then = Thresholds(max_p95_ms=p95, min_tests=tests, allowed_licences=("MIT", "ISC", "Apache-2.0"))
    now = Thresholds(max_p95_ms=now_p95, min_tests=now_tests, allowed_licences=tuple(sorted(may)))
    for held in (strictest(then, now), strictest(now, then)):
        assert (held.max_p95_ms, held.min_tests) == (min(p95, now_p95), max(tests, now_tests))
        assert {*held.allowed_licences} == may


def test_what_the_release_began_with_is_what_both_levels_ask() -> None:
    began = bound_to(CATALOGUE_NOW, NORMAL)
    now = resolve_policy(*edited(*TIGHTER["a lower threshold"])[::2], NORMAL).thresholds
    assert strictest(began.thresholds, now).max_p95_ms == 700
    now = resolve_policy(*edited(*LOOSER["a higher threshold"])[::2], NORMAL).thresholds
    assert strictest(began.thresholds, now).max_p95_ms == 800
