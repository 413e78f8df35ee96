from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from interlock.domain.canonical import canonical_bytes
from interlock.domain.errors import ClockError, LedgerBroken, LedgerError
from interlock.domain.ledger._plain_json import DEEPEST_PAYLOAD
from interlock.domain.ledger.chain import (
    IN_ANY_CASE,
    LARGEST_PAYLOAD,
    START,
    Entry,
    SignedHead,
    entry_hash,
    instant,
    next_entry,
    read_entry,
    release_chain,
    same_thing,
)
from interlock.domain.ledger.integrity import cut_end, ends_by_chain, first_break, unsigned_since
from interlock.domain.ledger.kinds import CLOCK_CORRECTED

CHAIN = "release/release_bike_shop/manual__2026-11-23T11:45:00+00:00"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcü", max_size=3), inner, max_size=3),
    max_leaves=8,
)
LENGTHS = st.integers(2, 12)


def chain(length: int, name: str = CHAIN) -> list[Entry]:
    entries: list[Entry] = []
    for number in range(1, length + 1):
        entries.append(following(entries[-1] if entries else None, chain=name, key=f"step-{number}"))
    return entries


def following(last: Entry | None, **other: Any) -> Entry:
    at = last.at + timedelta(seconds=1) if last else NOON
    fields = {"chain": CHAIN, "at": at, "actor": "rita", "kind": "board.decided", "key": "k", "payload": {"for": 2}}
    return next_entry(last, **{**fields, **other})


def head(entry: Entry) -> SignedHead:
    return SignedHead(chain=entry.chain, sequence=entry.sequence, hash=entry.hash, envelope={})


def found(entries: list[Any], **other: Any) -> tuple[int, str] | None:
    broken = first_break(CHAIN, entries, **other)
    return (broken.sequence, broken.what) if broken else None


# --- entries ---------------------------------------------------------------------------------------------------------


def test_hash_is_of_the_canonical_json_of_all_other_fields() -> None:
    entry = following(None, at=datetime(2026, 11, 23, 12, 0, 0, 5, UTC), payload={"b": 1, "a": "ü"})
    written = (
        '{"actor":"rita","at":"2026-11-23T12:00:00.000005Z","chain":"' + CHAIN + '","key":"k","kind":"board.decided",'
        '"payload":{"a":"ü","b":1},"previous":"' + "0" * 64 + '","sequence":1}'
    )
    assert entry.hash == entry_hash(entry) == hashlib.sha256(written.encode()).hexdigest()


def test_next_entry_is_linked_to_the_last_one() -> None:
    first, second = chain(2)
    assert (first.sequence, first.previous) == (1, START)
    assert (second.sequence, second.previous) == (2, first.hash)


@given(payload=st.dictionaries(st.text("abc", max_size=3), JSON_VALUES, max_size=4))
def test_entry_survives_being_written_and_read(payload: dict[str, Any]) -> None:
    entry = following(None, payload=payload)
    line = canonical_bytes(entry)
    again = read_entry(json.loads(line))
    assert again == entry
    assert canonical_bytes(again) == line


def test_instants_are_kept_in_utc() -> None:
    cet = datetime.fromisoformat("2026-11-23T13:00:00.25+01:00")
    assert json.loads(canonical_bytes(following(None, at=cet)))["at"] == "2026-11-23T12:00:00.250000Z"


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        pytest.param({"x": float("nan")}, "payload.x is nan", id="nan"),
        pytest.param({"x": [1, float("-inf")]}, r"payload.x\[1\] is -inf", id="infinity"),
        pytest.param({"x": 2**53}, "JSON readers would round", id="large integer"),
        pytest.param({"x": NOON}, "type datetime", id="datetime"),
        pytest.param({"x": (1,)}, "type tuple", id="tuple"),
        pytest.param({"x": b""}, "type bytes", id="bytes"),
        pytest.param({1: 2}, "a key of payload is not text", id="key"),
        pytest.param({"x": "\ud800"}, "an incomplete character", id="surrogate"),
        pytest.param({"x": {"\udfff": 1}}, "a key of payload.x contains an incomplete character", id="surrogate key"),
        pytest.param({"x": "y" * 1024 * 1024}, "the maximum is 1048576", id="size"),
    ],
)
def test_payload_that_is_not_plain_json_is_refused(payload: dict[Any, Any], problem: str) -> None:
    with pytest.raises(LedgerError, match=problem):
        following(None, payload=payload)


def test_payload_that_is_nested_too_deep_is_refused() -> None:
    payload: dict[str, Any] = {}
    for _ in range(40):
        payload = {"x": payload}
    with pytest.raises(LedgerError, match="nested more than 32 levels deep"):
        following(None, payload=payload)


def test_numbers_up_to_what_others_can_read_are_taken() -> None:
    assert following(None, payload={"x": 2**53 - 1, "y": -(2**53) + 1}).payload["x"] == 9007199254740991


@pytest.mark.parametrize(
    "field",
    [
        pytest.param({"chain": ""}, id="no chain"),
        pytest.param({"actor": "rita\nben"}, id="two lines"),
        pytest.param({"key": "a\x00"}, id="nul"),
        pytest.param({"key": "k" * 601}, id="long key"),
        pytest.param({"kind": "Board decided"}, id="kind"),
    ],
)
def test_names_that_are_not_one_line_are_refused(field: dict[str, str]) -> None:
    with pytest.raises(LedgerError, match=next(iter(field))):
        following(None, **field)


def test_payload_may_be_as_large_and_as_deep_as_is_said() -> None:
    largest = "y" * (LARGEST_PAYLOAD - len('{"x":""}'))
    assert following(None, payload={"x": largest}).payload["x"] == largest
    with pytest.raises(LedgerError, match="1048577 bytes"):
        following(None, payload={"x": largest + "y"})
    deepest: Any = 1
    for _ in range(DEEPEST_PAYLOAD - 1):
        deepest = [deepest]
    assert following(None, payload={"x": deepest}).payload == {"x": deepest}
    with pytest.raises(LedgerError, match="nested more than 32 levels deep"):
        following(None, payload={"x": [deepest]})


@pytest.mark.usefixtures("far_east")
def test_instants_are_written_alike_in_every_zone_and_year() -> None:
    assert instant(NOON) == "2026-11-23T12:00:00.000000Z"
    assert instant(NOON.replace(year=987)) == "0987-11-23T12:00:00.000000Z"
    assert instant(datetime(1, 1, 1, microsecond=7, tzinfo=UTC)) == "0001-01-01T00:00:00.000007Z"


def test_what_is_no_entry_is_refused_by_the_place_that_it_has_if_any() -> None:
    with pytest.raises(LedgerBroken, match="Entry 0 of the chain c cannot be read"):
        read_entry({"chain": "c"})
    with pytest.raises(LedgerBroken, match="Entry 7 of the chain c cannot be read"):
        read_entry({"chain": "c", "sequence": 7})


def test_refusal_does_not_repeat_the_payload() -> None:
    with pytest.raises(LedgerError) as refused:
        following(None, payload={"password": "open-sesame", "x": float("nan")})
    assert "open-sesame" not in str(refused.value)


def test_time_that_goes_backwards_is_refused() -> None:
    last = following(None)
    assert found([last, following(last, at=NOON, key="same instant")]) is None
    with pytest.raises(
        ClockError, match=r"clock is at 2026-11-23T11:59:59\.999999Z, but entry 1 .* 12:00:00|T12:00:00"
    ):
        following(last, at=NOON - timedelta(microseconds=1), key="next")
    assert following(last, at=NOON, key="next").sequence == 2


@pytest.mark.parametrize("kind", sorted(IN_ANY_CASE))
def test_what_is_taken_in_any_case_has_the_time_of_the_entry_before_it_if_the_clock_is_behind(kind: str) -> None:
    future = following(None, at=NOON + timedelta(days=400))
    stop = following(future, at=NOON, kind=kind, key="stop")
    assert stop.at == future.at
    assert found([future, stop]) is None
    assert following(stop, at=future.at + timedelta(days=1), kind=kind, key="later").at > future.at


def test_time_may_go_back_where_somebody_says_that_the_clock_was_wrong() -> None:
    future = following(None, at=NOON + timedelta(days=400))
    corrected = following(future, at=NOON, kind=CLOCK_CORRECTED, key="corrected")
    entries = [future, corrected, following(corrected, key="after")]
    assert found(entries) is None


def test_same_thing_is_the_same_actor_kind_and_payload() -> None:
    entry = following(None, payload={"a": 1, "b": [2]})
    assert same_thing(entry, actor="rita", kind="board.decided", payload={"b": [2], "a": 1})
    assert not same_thing(entry, actor="ben", kind="board.decided", payload={"b": [2], "a": 1})
    assert not same_thing(entry, actor="rita", kind="plan.made", payload={"b": [2], "a": 1})
    assert not same_thing(entry, actor="rita", kind="board.decided", payload={"b": [2], "a": True})


def test_release_has_a_chain_of_its_own() -> None:
    assert release_chain("release_bike_shop", "manual__2026-11-23T11:45:00+00:00") == CHAIN


def test_instant_is_written_in_one_way_only() -> None:
    row = json.loads(canonical_bytes(following(None)))
    with pytest.raises(ValidationError, match=r"ssffffffZ|ffffffZ"):
        Entry.model_validate({**row, "at": "2026-11-23T12:00:00Z"})


@pytest.mark.parametrize(
    ("change", "what"),
    [({"actor": "ben"}, "changed"), ({"payload": None}, "unreadable"), ({"hash": "none"}, "unreadable")],
)
def test_entry_whose_hash_does_not_hold_is_not_read(change: dict[str, Any], what: str) -> None:
    row = {**json.loads(canonical_bytes(following(None))), **change}
    with pytest.raises(LedgerBroken, match="Entry 1 of the chain") as raised:
        read_entry(row)
    assert raised.value.broken.what == what


# --- chains ----------------------------------------------------------------------------------------------------------


@given(length=st.integers(0, 12))
def test_chain_as_it_was_written_is_whole(length: int) -> None:
    entries = chain(length)
    heads = [head(entry) for entry in entries]
    assert found(entries, heads=heads) is None
    assert found([json.loads(canonical_bytes(entry)) for entry in entries], heads=heads) is None
    for place in range(length):
        assert found(entries[place + 1 :], heads=heads, after=entries[place]) is None


@given(data=st.data(), length=LENGTHS)
def test_any_edit_is_noticed_and_named(data: st.DataObject, length: int) -> None:
    entries = chain(length)
    place = data.draw(st.integers(0, length - 1))
    edit = data.draw(
        st.sampled_from(
            [
                {"chain": "release/other/run"},
                {"sequence": 99},
                {"at": NOON - timedelta(days=1)},
                {"at": NOON + timedelta(days=1)},
                {"actor": "mallory"},
                {"kind": "plan.made"},
                {"key": "other"},
                {"payload": {"for": 3}},
                {"payload": {"for": 2.0}},
                {"previous": "f" * 64},
                {"hash": "f" * 64},
            ]
        )
    )
    entries[place] = entries[place].model_copy(update=edit)
    assert found(list(entries)) == (place + 1, "changed")


@given(data=st.data(), length=LENGTHS)
def test_edit_with_a_new_hash_is_noticed_by_the_next_link_or_the_head(data: st.DataObject, length: int) -> None:
    entries = chain(length)
    signed = head(entries[-1])
    place = data.draw(st.integers(0, length - 1))
    changed = entries[place].model_copy(update={"payload": {"for": 3}})
    entries[place] = changed.model_copy(update={"hash": entry_hash(changed)})
    expected = (place + 2, "unlinked") if place < length - 1 else (length, "head")
    assert found(list(entries), heads=[signed]) == expected


@given(data=st.data(), length=LENGTHS)
def test_chain_that_was_written_anew_from_somewhere_is_noticed_by_the_head(data: st.DataObject, length: int) -> None:
    entries = chain(length)
    place = data.draw(st.integers(0, length - 1))
    forged = entries[:place]
    for entry in entries[place:]:
        forged.append(following(forged[-1] if forged else None, key=entry.key, actor="mallory"))
    signed = data.draw(st.integers(place, length - 1))
    assert found(list(forged)) is None
    assert found(list(forged), heads=[head(entries[signed])]) == (signed + 1, "head")


@given(data=st.data(), length=LENGTHS)
def test_any_removal_is_noticed_and_named(data: st.DataObject, length: int) -> None:
    entries = chain(length)
    signed = head(entries[-1])
    place = data.draw(st.integers(0, length - 1))
    del entries[place]
    assert found(list(entries), heads=[signed]) == (place + 1, "missing")


@given(data=st.data(), length=LENGTHS)
def test_any_swap_is_noticed_and_named(data: st.DataObject, length: int) -> None:
    entries = chain(length)
    one, other = sorted(data.draw(st.lists(st.integers(0, length - 1), min_size=2, max_size=2, unique=True)))
    entries[one], entries[other] = entries[other], entries[one]
    assert found(list(entries)) == (one + 1, "reordered")
    assert found([entry.model_dump(mode="json") for entry in entries]) == (one + 1, "reordered")


@given(data=st.data(), length=LENGTHS)
def test_any_repetition_is_noticed_and_named(data: st.DataObject, length: int) -> None:
    entries = chain(length)
    place = data.draw(st.integers(0, length - 1))
    where = data.draw(st.integers(place + 1, length))
    entries.insert(where, entries[place])
    assert found(list(entries)) == (where + 1, "duplicated")


@given(data=st.data(), length=LENGTHS)
def test_any_insertion_is_noticed_and_named(data: st.DataObject, length: int) -> None:
    """A forged entry that is linked as well as it can be: what was there before it does not follow it."""
    entries = chain(length)
    place = data.draw(st.integers(0, length - 1))
    forged = following(entries[place - 1] if place else None, key="forged", actor="mallory")
    entries.insert(place, forged)
    assert found(list(entries)) == (place + 2, "duplicated")
    moved = entries[place + 1].model_copy(update={"sequence": place + 2})
    entries[place + 1] = moved.model_copy(update={"hash": entry_hash(moved)})
    assert found(list(entries)) == (place + 2, "unlinked")


@given(data=st.data(), length=LENGTHS)
def test_entry_of_another_chain_is_noticed(data: st.DataObject, length: int) -> None:
    entries = chain(length)
    place = data.draw(st.integers(0, length - 1))
    last = entries[place - 1] if place else None
    entries[place] = following(last, chain="release/other/run", key="theirs")
    assert found(list(entries)) == (place + 1, "foreign")


def test_key_that_stands_twice_is_noticed() -> None:
    entries = chain(3)
    entries.append(following(entries[-1], key="step-2"))
    assert found(list(entries)) == (4, "duplicated")
    assert found([following(entries[2], key="step-3")], after=entries[2]) == (4, "duplicated")


def test_time_that_went_backwards_is_noticed() -> None:
    entries = chain(2)
    early = entries[1].model_copy(update={"sequence": 3, "previous": entries[1].hash, "key": "early", "at": NOON})
    entries.append(early.model_copy(update={"hash": entry_hash(early)}))
    broken = first_break(CHAIN, entries)
    assert broken is not None
    assert (broken.sequence, broken.what) == (3, "clock")
    assert "is from 2026-11-23T12:00:00.000000Z, earlier than the one before it" in broken.sentence


@pytest.mark.parametrize(
    "row",
    [{}, {"sequence": "2"}, {"sequence": 2, "payload": float("nan")}, {"at": "now"}, {1: 2}],
)
def test_row_that_is_no_entry_is_a_break(row: dict[str, Any]) -> None:
    entries: list[Any] = chain(3)
    entries[1] = row
    assert found(entries) == (2, "unreadable")


def test_chain_of_which_nothing_is_left_is_missing_its_first_entry() -> None:
    assert found([], heads=[head(chain(3)[-1])]) == (1, "missing")
    assert found([]) is None


def test_end_that_was_cut_off_is_noticed_by_the_head() -> None:
    entries = chain(5)
    broken = first_break(CHAIN, entries[:3], heads=[head(entries[1]), head(entries[4])])
    assert broken is not None
    assert broken.sentence == f"Entry 4 of the chain {CHAIN} is missing: the chain was signed up to entry 5."


def test_end_that_was_cut_off_with_its_heads_is_noticed_by_the_installations_chain() -> None:
    run = CHAIN.removeprefix("release/")
    ended = following(None, chain="installation", kind="release.ended", key="e", payload={"run": run})
    ends = ends_by_chain([ended])
    entries = [*chain(3), following(chain(3)[-1], kind="release.closed", key="end")]
    assert cut_end(CHAIN, entries, ends) is None
    assert cut_end(f"{CHAIN}-2", chain(3, f"{CHAIN}-2"), ends) is None, "it is under way"
    for left in (3, 0):
        assert found(entries[:left]) is None, "what is left holds by itself"
        cut = cut_end(CHAIN, entries[:left], ends)
        assert cut is not None
        assert cut.sentence == (
            f"Entry {left + 1} of the chain {CHAIN} is missing: the release has ended by entry 1 of the chain "
            "installation."
        )


def test_head_of_another_chain_is_noticed() -> None:
    assert found(chain(2), heads=[head(chain(1, "installation")[0])]) == (1, "head")


def test_first_of_several_breaks_is_the_one_that_is_named() -> None:
    entries = chain(6)
    signed = head(entries[1].model_copy(update={"hash": "f" * 64}))
    entries[4] = entries[4].model_copy(update={"actor": "mallory"})
    assert found(list(entries)) == (5, "changed")
    assert found(list(entries), heads=[signed]) == (2, "head")
    entries[0] = entries[0].model_copy(update={"actor": "mallory"})
    assert found(list(entries), heads=[signed]) == (1, "changed")


def test_what_is_always_signed_shows_when_no_head_is_signed_after_it() -> None:
    first = following(None, kind="note", key="1")
    decided = following(first, key="2")
    last = following(decided, kind="note", key="3")
    entries = [first, decided, last]
    assert unsigned_since(CHAIN, entries, [head(decided)]) is None
    assert unsigned_since(CHAIN, entries, [head(last)]) is None
    assert unsigned_since(CHAIN, [first], []) is None
    for heads in ([], [head(first)]):
        missing = unsigned_since(CHAIN, entries, heads)
        assert missing is not None
        assert (missing.sequence, missing.what) == (2, "head")
        assert "is not signed" in missing.sentence
    alone = following(None)
    unsigned = unsigned_since(CHAIN, [alone], [])
    assert unsigned is not None
    assert unsigned.sequence == 1
    assert unsigned_since(CHAIN, [alone], [head(alone)]) is None
    again = following(last, key="4")
    assert unsigned_since(CHAIN, [*entries, again], [head(decided)]) is not None
    assert unsigned_since(CHAIN, [*entries, again], [head(again)]) is None
