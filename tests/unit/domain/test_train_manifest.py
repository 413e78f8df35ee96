"""Who boards a train, who stays behind, and which release is a passenger."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.domain.catalogue.train_file import Train
from interlock.domain.errors import PolicyViolation
from interlock.domain.ledger.chain import Entry, next_entry, release_chain
from interlock.domain.ledger.kinds import MANIFEST_FROZEN, PASSENGER_ARRIVED, PASSENGER_DEPARTED, TRAIN_DEPARTED
from interlock.domain.trains.arrivals import arrival
from interlock.domain.trains.manifest import (
    CONDUCTOR,
    Boarded,
    Found,
    LeftBehind,
    Manifest,
    boarding,
    manifest_in,
    resolve_lateness,
    sort_services,
)
from interlock.domain.trains.passengers import describe_objection, passenger_form, passenger_run, refuse_stranger

AT = datetime(2027, 3, 2, 19, tzinfo=UTC)
CHAIN = release_chain("train_weekly", "scheduled__2027-03-02T19:00:00+00:00")


def train(after: dict[str, tuple[str, ...]], **changes: Any) -> Train:
    passengers = [{"service": name, "tags": "*", "after": list(before)} for name, before in after.items()]
    said = {"name": "weekly", "title": "Weekly", "owner": "o", "time_zone": "UTC", "cadence": {"cron": "0 19 * * TUE"}}
    return Train.model_validate({**said, "passengers": passengers, **changes})


def boarded(service: str, **changes: Any) -> Boarded:
    said: dict[str, Any] = {
        "service": service,
        "version": "1.1.0",
        "ref": "1.1.0",
        "commit": "a" * 40,
        "replaces": "1.0.0",
        "commits": 3,
        "risk": 10,
        "answers": {"customer_data": False, "irreversible": True},
        "summary": "Sell bikes",
        "why": "the highest",
    }
    return Boarded.model_validate({**said, **changes})


def left(service: str, *, late: bool = True) -> LeftBehind:
    return LeftBehind(service=service, late=late, why="no tag")


def manifest(*passengers: Boarded, **changes: Any) -> Manifest:
    said: dict[str, Any] = {
        "train": "weekly",
        "title": "Weekly",
        "departure": AT,
        "environment": "production",
        "change_type": "normal",
        "passengers": passengers,
        "requested_by": ("rita",),
        "one_decision": True,
        "file": "f" * 64,
    }
    return Manifest.model_validate({**said, **changes})


def chain(*recorded: tuple[str, dict[str, Any]]) -> list[Entry]:
    entries: list[Entry] = []
    for number, (kind, payload) in enumerate(recorded):
        last = entries[-1] if entries else None
        entries.append(
            next_entry(last, chain=CHAIN, at=AT, actor="train_weekly/x", kind=kind, key=str(number), payload=payload)
        )
    return entries


def frozen(one: Manifest) -> tuple[str, dict[str, Any]]:
    return MANIFEST_FROZEN, {**one.to_xcom(), "digest": one.digest}


@given(st.permutations(["a", "b", "c", "d"]))
def test_nobody_comes_before_what_they_depend_on(listed: list[str]) -> None:
    after = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}
    found = sort_services({name: after[name] for name in listed})
    assert sorted(found) == sorted(listed)
    assert all(found.index(before) < found.index(name) for name in listed for before in after[name])


def test_who_depends_on_somebody_late_stays_behind_too_and_the_others_board() -> None:
    one = train({"stock": (), "till": ("stock",), "shop": ("till",), "news": ()})
    found: dict[str, Found] = {name: boarded(name) for name in ("till", "shop", "news")} | {"stock": left("stock")}
    on, behind = boarding(one, found)
    assert [each.service for each in on] == ["news"]
    assert {each.service: each.why for each in behind} == {
        "stock": "no tag",
        "till": "it depends on stock, which stays behind",
        "shop": "it depends on till, which stays behind",
    }


def test_who_has_nothing_new_holds_up_nobody() -> None:
    one = train({"stock": (), "till": ("stock",)})
    on, behind = boarding(one, {"stock": left("stock", late=False), "till": boarded("till")})
    assert [each.service for each in on] == ["till"]
    assert [each.service for each in behind] == ["stock"]
    assert resolve_lateness(one, [left("stock", late=False)]).because == ()


@pytest.mark.parametrize(
    ("rules", "then", "who"),
    [
        (("left_behind", "left_behind"), "depart", ["a", "b"]),
        (("wait", "left_behind"), "wait", ["a"]),
        (("wait", "stop"), "stop", ["b"]),
    ],
)
def test_the_strictest_rule_of_the_late_ones_counts(rules: tuple[str, str], then: str, who: list[str]) -> None:
    passengers = [{"service": name, "tags": "*", "late": rule} for name, rule in zip("ab", rules, strict=True)]
    found = resolve_lateness(train({}, passengers=passengers), [left("a"), left("b")])
    assert (found.then, [one.service for one in found.because]) == (then, who)


# --- passengers' releases --------------------------------------------------------------------------------------------


def said(one: Manifest | None, **changes: Any) -> str:
    asked = {
        "service": "shop",
        "version": "1.1.0",
        "commit": "a" * 40,
        "artifact": None,
        "change_type": "normal",
        "requester": CONDUCTOR,
    }
    return describe_objection(one, chain=CHAIN, **{**asked, **changes})


def test_a_passenger_is_what_the_manifest_names_and_the_conductor_asks_for() -> None:
    assert said(manifest(boarded("shop"))) == ""
    refuse_stranger("")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"requester": "rita"}, "only interlock_conductor can request the releases of a train, but rita requested"),
        ({"service": "till"}, "till is not on the manifest of .*: no tag"),
        ({"service": "news"}, "it is not on the train"),
        ({"version": "1.2.0"}, r"names shop 1\.1\.0 at aaaaaaaaaaaa, but this is 1\.2\.0"),
        ({"commit": "b" * 40}, "but this is 1.1.0 at bbbbbbbbbbbb"),
        ({"change_type": "standard"}, "change type of the train is normal, but this is standard"),
    ],
)
def test_anything_else_is_no_passenger(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(PolicyViolation, match=why):
        refuse_stranger(said(manifest(boarded("shop"), left=(left("till"),)), **changes))


def test_a_passenger_with_an_artifact_from_elsewhere_is_just_this_artifact() -> None:
    one = manifest(boarded("shop", artifact="d" * 64))
    assert said(one, artifact=f"sha256:{'d' * 64}") == said(one, artifact="d" * 64) == ""
    for artifact in (None, "e" * 64):
        assert said(one, artifact=artifact).startswith(f"the manifest of {CHAIN} names the artifact {'d' * 64} of shop")
    assert "names the artifact none of shop" in said(manifest(boarded("shop")), artifact="d" * 64)
    assert passenger_form(one, one.passengers[0], CHAIN)["artifact"] == f"sha256:{'d' * 64}"


def test_a_manifest_is_what_its_entry_says_by_its_digest() -> None:
    one = manifest(boarded("shop"))
    assert manifest_in(chain(frozen(one))) == one
    assert manifest_in(chain(("train.opened", {}))) is None
    other = manifest(boarded("shop", version="1.2.0"))
    assert manifest_in(chain((MANIFEST_FROZEN, {**other.to_xcom(), "digest": one.digest}))) is None
    assert "has no frozen manifest" in said(None)


def test_the_digest_changes_with_whatever_is_on_board() -> None:
    digests = {
        manifest(boarded("shop")).digest,
        manifest(boarded("shop", commit="b" * 40)).digest,
        manifest(boarded("shop", artifact="d" * 64)).digest,
        manifest(boarded("shop"), boarded("till")).digest,
        manifest(boarded("shop"), departure=datetime(2027, 3, 9, 19, tzinfo=UTC)).digest,
    }
    assert len(digests) == 5


def test_the_conductor_asks_for_the_commit_and_says_for_which_train() -> None:
    one = manifest(boarded("shop", tickets=("ABC-1",)))
    assert passenger_form(one, one.passengers[0], CHAIN) == {
        "ref": "a" * 40,
        "version": "1.1.0",
        "change_type": "normal",
        "summary": "Sell bikes",
        "tickets": ["ABC-1"],
        "risk_irreversible": True,
        "train": CHAIN,
    }
    assert passenger_run("weekly", AT, "1.2.0") == "1.2.0__2027-03-02T19-00-00.000Z__weekly"


# --- arrival ---------------------------------------------------------------------------------------------------------


def test_arrival_says_what_became_of_each() -> None:
    one = manifest(boarded("stock"), boarded("till"), boarded("news"), left=(left("shop"),))
    back = {"service": "stock", "outcome": "backed_out", "reason": "It was slow", "run": "release_stock/x"}
    fine = {"service": "news", "outcome": "deployed", "reason": "", "run": "release_news/x"}
    gone = [(PASSENGER_DEPARTED, {**told, "version": "1.1.0"}) for told in (back, fine)]
    entries = chain(frozen(one), (TRAIN_DEPARTED, {}), *gone, (PASSENGER_ARRIVED, back), (PASSENGER_ARRIVED, fine))
    found = arrival("weekly", entries, {"till": "it depends on stock"}, "")
    assert [(each.service, each.outcome, each.reason) for each in found.passengers] == [
        ("stock", "backed_out", "It was slow"),
        ("till", "not departed", "it depends on stock"),
        ("news", "deployed", ""),
        ("shop", "left behind", "no tag"),
    ]
    assert [each.service for each in found.missing] == ["stock", "till"]
    assert found.departed


def test_who_departed_and_is_not_back_is_under_way() -> None:
    gone = (PASSENGER_DEPARTED, {"service": "stock", "version": "1.1.0", "run": "release_stock/x"})
    entries = chain(frozen(manifest(boarded("stock"))), (TRAIN_DEPARTED, {}), gone)
    found = arrival("weekly", entries, {"stock": "Airflow's API did not answer"}, "")
    (one,) = found.passengers
    assert (one.outcome, one.reason, one.run) == ("under way", "Airflow's API did not answer", "release_stock/x")
    assert found.missing == (one,)


def test_a_train_that_did_not_depart_says_why() -> None:
    entries = chain(frozen(manifest(boarded("shop"))))
    found = arrival("weekly", entries, {}, "The board rejected it")
    assert (found.departed, found.reason) == (False, "The board rejected it")
    assert found.passengers[0].reason == "The board rejected it"
    assert arrival("weekly", [], {}, "A file is broken") == arrival("weekly", chain(("x", {})), {}, "A file is broken")
