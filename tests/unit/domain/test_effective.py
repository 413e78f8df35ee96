"""A release is bound to the rules that concern it, and to no others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import BoardBook, ChangeType, Policy, Service, ServiceCatalogue
from interlock.domain.change.effective import (
    CONCERNS_NO_RELEASE,
    bound_to,
    differences,
    digest_now,
    rules_for,
    what_differs,
)
from interlock.domain.change.policy import waiver_allowed
from interlock.locations import CATALOGUE

Files = dict[str, dict[str, Any]]
Edit = Callable[[Files], None]
SHOP = "services/bike-shop.yaml"


def files() -> Files:
    """Return the files of the project's catalogue that concern the bike shop, as people edit them."""
    names = ("policy.yaml", "board.yaml", SHOP)
    return {name: yaml.safe_load(Path(CATALOGUE, name).read_text(encoding="utf-8")) for name in names}


def read(found: Mapping[str, Any]) -> ServiceCatalogue:
    return ServiceCatalogue(
        Policy.model_validate(found["policy.yaml"]),
        BoardBook.model_validate(found["board.yaml"]),
        Service.model_validate(found[SHOP]),
    )


NOW = files()
CATALOGUE_NOW = read(NOW)


def edited(*edits: Edit) -> ServiceCatalogue:
    found = deepcopy(NOW)
    for edit in edits:
        edit(found)
    return read(found)


def sets(file: str, *path: str | int, to: Any) -> Edit:
    def edit(found: Files) -> None:
        place: Any = found[file]
        for key in path[:-1]:
            place = place.setdefault(key, {}) if isinstance(key, str) else place[key]
        place[path[-1]] = deepcopy(to)

    return edit


def adds(file: str, *path: str, what: Any) -> Edit:
    def edit(found: Files) -> None:
        place: Any = found[file]
        for key in path:
            place = place.setdefault(key, [])
        place.append(deepcopy(what))

    return edit


GRACE = {"user": "grace", "name": "Grace Hall", "email": "grace@example.com", "role": "operations"}
AWAY = {"for": "cora", "to": "audrey", "from": "2026-12-01", "until": "2026-12-02"}
STRICT = {"thresholds": {"max_p95_ms": 9}}
OF_ANOTHER = {"name": "other", "when": {"services": ["warehouse"]}, "board": "ecab"}
IRRELEVANT: dict[str, tuple[Edit, ...]] = {
    "a person for another service's sake": (adds("board.yaml", "people", what=GRACE),),
    "a board that does not vote on it": (
        adds("board.yaml", "people", what=GRACE),
        sets("board.yaml", "boards", "warehouse", to={"title": "W", "members": ["grace"], "quorum": {"approvals": 1}}),
    ),
    "a rule on another service": (adds("board.yaml", "rules", what=OF_ANOTHER),),
    "another change type": (sets("policy.yaml", "change_types", "emergency", "review_within", to="P1D"),),
    "another business unit": (
        sets("policy.yaml", "business_units", "wholesale", to={"thresholds": {"max_p95_ms": 9}}),
    ),
    "coverage of another tier": (sets("policy.yaml", "coverage", "4", to=["whole"]),),
    "points of another tier": (sets("policy.yaml", "risk", "points_by_tier", "4", to=7),),
    "a template of standard changes": (sets("policy.yaml", "standard_changes", to=[]),),
    "who is told of findings": (sets("policy.yaml", "findings", "notify", to=["ben"]),),
    "how long a booking is expected to last": (sets("policy.yaml", "bookings", "longest", to="PT9H"),),
    "the name of the policy": (sets("policy.yaml", "name", to="Another name"),),
    "the description of the service": (sets(SHOP, "description", to="Bikes, and more"),),
    "a value of the enterprise that the business unit tightens anyway": (
        sets("policy.yaml", "thresholds", "max_p95_ms", to=1400),
    ),
    "a delegate of a member of another board": (
        adds("board.yaml", "people", what=GRACE),
        adds("board.yaml", "delegates", what={**AWAY, "for": "sam", "to": "grace"}),
    ),
    "a person that nobody names any more": (
        lambda found: found["board.yaml"].update(
            people=[one for one in found["board.yaml"]["people"] if one["user"] != "audrey"]
        ),
        sets("policy.yaml", "findings", "notify", to=["rita"]),
    ),
}
RELEVANT: dict[str, tuple[tuple[Edit, ...], str]] = {
    "a lower threshold": (
        (sets(SHOP, "policy", "thresholds", "max_p95_ms", to=700),),
        "policy.yaml: thresholds.max_p95_ms was 800 and is 700",
    ),
    "a higher threshold": (
        (sets("policy.yaml", "thresholds", "max_skipped_tests", to=0), sets(SHOP, "policy", to={})),
        "policy.yaml: thresholds.max_p95_ms was 800 and is 1000",
    ),
    "more votes": (
        (sets("board.yaml", "boards", "cab", "quorum", "approvals", to=3),),
        "board.yaml: boards.cab.quorum.approvals was 2 and is 3",
    ),
    "a member more": (
        (adds("board.yaml", "people", what=GRACE), adds("board.yaml", "boards", "cab", "members", what="grace")),
        "board.yaml: boards.cab.members was ben, cora, dan and is ben, cora, dan, grace",
    ),
    "the role of a member": (
        (sets("board.yaml", "people", 1, "role", to="security"),),
        "board.yaml: people.ben.role was operations and is security",
    ),
    "a rule that may apply": (
        (adds("board.yaml", "rules", what={"name": "weekend", "when": {"tiers": [2]}, "board": "ecab"}),),
        "board.yaml: boards.ecab was not there",
    ),
    "a rule that applies from a lower risk on": (
        (sets("board.yaml", "rules", 0, "when", "risk_from", to=10),),
        "board.yaml: rules.board.yaml rules.risky.risk_from was 70 and is 10",
    ),
    "a delegate": (
        (
            adds(
                "board.yaml",
                "delegates",
                what=AWAY,
            ),
        ),
        "board.yaml: delegates.cora from 2026-12-01 was not there",
    ),
    "another board": (
        (sets("policy.yaml", "change_types", "normal", "further_boards", to=["ecab"]),),
        "policy.yaml: change_types.normal.further_boards was empty and is ecab",
    ),
    "where it is deployed to": (
        (sets(SHOP, "environments", "production", "hosts", "Service", to="bike-shop-2"),),
        f"{SHOP}: environments.production.hosts.Service was bike-shop and is bike-shop-2",
    ),
    "who accepts it": (
        (sets(SHOP, "functional_approvers", to=["maya"]),),
        f"{SHOP}: functional_approvers was fay and is maya",
    ),
    "what hosts must verify": (
        (sets("policy.yaml", "permits", to={"hosts_without_keys": "refuse"}),),
        "policy.yaml: permits.hosts_without_keys was mark and is refuse",
    ),
}


@pytest.mark.parametrize("edits", IRRELEVANT.values(), ids=IRRELEVANT.keys())
def test_what_does_not_concern_a_release_changes_nothing(edits: tuple[Edit, ...]) -> None:
    began, now = bound_to(CATALOGUE_NOW, ChangeType.NORMAL), edited(*edits)
    assert now.digest != CATALOGUE_NOW.digest, "the edit has no effect: this test would prove nothing"
    assert what_differs(began, now) == ()
    assert digest_now(began.digest, now, ChangeType.NORMAL) == began.digest


@pytest.mark.parametrize(("edits", "said"), RELEVANT.values(), ids=RELEVANT.keys())
def test_what_concerns_a_release_is_named(edits: tuple[Edit, ...], said: str) -> None:
    began, now = bound_to(CATALOGUE_NOW, ChangeType.NORMAL), edited(*edits)
    assert digest_now(began.digest, now, ChangeType.NORMAL) != began.digest
    assert any(one.startswith(said) for one in what_differs(began, now)), what_differs(began, now)


@given(
    st.lists(st.sampled_from(list(IRRELEVANT)), max_size=4, unique=True),
    st.lists(st.sampled_from(list(RELEVANT)), max_size=3, unique=True),
)
def test_of_many_edits_only_those_that_concern_the_release_count(beside: list[str], concerning: list[str]) -> None:
    began = bound_to(CATALOGUE_NOW, ChangeType.NORMAL)
    both = [edit for name in concerning for edit in RELEVANT[name][0]] + [
        edit for name in beside for edit in IRRELEVANT[name]
    ]
    try:
        now, alone = edited(*both), edited(*(edit for name in concerning for edit in RELEVANT[name][0]))
    except ValueError:  # two edits that contradict each other, such as two people with one name
        return
    assert what_differs(began, now) == what_differs(began, alone)
    assert bool(what_differs(began, now)) == bool(concerning)


def test_a_template_concerns_standard_changes_that_may_be_like_it() -> None:
    began = bound_to(CATALOGUE_NOW, ChangeType.STANDARD)
    assert what_differs(began, edited(sets("policy.yaml", "standard_changes", 0, "risk_up_to", to=10))) == (
        "policy.yaml: standard_changes.small-patch.risk_up_to was 30 and is 10",
    )
    assert what_differs(began, edited(sets("policy.yaml", "standard_changes", 0, "services", to=["bike-shop"]))) == ()


def test_people_who_get_a_role_later_waive_nothing_in_this_release() -> None:
    began = bound_to(CATALOGUE_NOW, ChangeType.NORMAL)
    now = edited(adds("board.yaml", "people", what=GRACE))
    assert what_differs(began, now) == ()
    assert waiver_allowed(began, now.board.person("ben"), "coverage")
    assert not waiver_allowed(began, now.board.person("grace"), "coverage")
    assert waiver_allowed(bound_to(now, ChangeType.NORMAL), now.board.person("grace"), "coverage")


def test_a_release_that_began_with_the_digest_of_the_files_is_held_against_the_files() -> None:
    older = bound_to(CATALOGUE_NOW, ChangeType.NORMAL).model_copy(
        update={"rules": None, "may_waive": None, "digest": CATALOGUE_NOW.digest}
    )
    assert what_differs(older, CATALOGUE_NOW) == ()
    assert digest_now(older.digest, CATALOGUE_NOW, ChangeType.NORMAL) == older.digest
    (said,) = what_differs(older, edited(adds("board.yaml", "people", what=GRACE)))
    assert said == "policy.yaml, board.yaml or the file of the service"


def test_the_digest_is_of_the_rules_that_are_on_record() -> None:
    in_force = bound_to(CATALOGUE_NOW, ChangeType.NORMAL)
    assert in_force.rules == rules_for(CATALOGUE_NOW, ChangeType.NORMAL)
    assert in_force.digest == sha256_of(in_force.rules or {})
    assert type(in_force).from_xcom(in_force.to_xcom()) == in_force


def test_a_long_value_is_cut_in_a_sentence() -> None:
    (said,) = differences({"a": {"b": "x" * 500}}, {"a": {}})
    assert said == f"a: b was {'x' * 100}… and is not there"


WORKED_OUT = {
    "thresholds": "thresholds",
    "coverage": "demanded",
    "unknown_components": "demanded",
    "claims": "demanded",
    "change_types": "change_types",
    "time_limits": "time_limits",
    "waivers": "waivers",
    "builds": "builds",
    "risk": "risk",
    "standard_changes": "standard_changes",
    "trains": "trains",
    "permits": "permits",
    "prebuilt": "prebuilt",
    "tickets": "tickets",
}
"""Key of policy.yaml: the part of the rules that it is in. What business units ask is in each of them."""


def test_every_key_of_the_policy_is_part_of_the_rules_or_decides_nothing() -> None:
    assert Policy.model_fields.keys() == {*WORKED_OUT, "business_units", *CONCERNS_NO_RELEASE}
    own = rules_for(CATALOGUE_NOW, ChangeType.NORMAL)["policy.yaml"]
    taken = {"tool": "prebuilt", "store": "s3", "connection": "shop_artifacts", "artifact": "{version}.tgz"}
    kept = {
        "systems": {"jira": {"kind": "jira", "connection": "jira"}},
        "projects": [{"key": "SHOP", "system": "jira"}],
    }
    elsewhere = edited(
        sets("policy.yaml", "tickets", to=kept),
        sets("policy.yaml", "prebuilt", to={"stores": ["shop_artifacts"]}),
        sets(SHOP, "build", to=taken),
    )
    rules = rules_for(elsewhere, ChangeType.NORMAL)["policy.yaml"]
    assert own.keys() == set(WORKED_OUT.values()) - {"prebuilt", "tickets"}
    assert rules.keys() == set(WORKED_OUT.values())
