"""The verifier on a train's passenger: it is what the train's manifest names, and the train's board said yes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from interlock.domain.ledger.chain import Entry, next_entry
from interlock.domain.records import TrainTicket
from interlock.domain.trains.manifest import CONDUCTOR, Manifest
from interlock.verify import __main__ as verifier
from tests.factories import evidence as make
from tests.factories import releases
from tests.unit.domain.test_train_manifest import boarded, manifest

TRAIN = "release/train_weekly/scheduled__2026-11-24T20:00:00+00:00"
VOTES = [make.vote("ben"), make.vote("dan", minutes=5.5)]
Proof = dict[str, Any]


def chain_of_train(frozen: Manifest, *, approved: bool = True) -> list[Entry]:
    decided = {**releases.decision(digest=frozen.digest).to_xcom(), "approved": approved, "votes": VOTES}
    found: list[Entry] = []
    for kind, payload in (
        ("train.opened", {}),
        ("manifest.frozen", {**frozen.to_xcom(), "digest": frozen.digest}),
        ("board.decided", decided),
    ):
        last = found[-1] if found else None
        found.append(next_entry(last, chain=TRAIN, at=make.AT, actor="train", kind=kind, key=kind, payload=payload))
    return found


def told(
    tmp_path: Path, change: Callable[[Proof], None] = lambda proof: None, *, approved: bool = True, **said: Any
) -> tuple[bool, str]:
    """Verify the pack of a passenger."""
    usual = {"requested_by": ("sam",), "decide_by": make.AT + timedelta(days=1)}
    on_board = said.pop("passengers", (boarded("bike-shop", commit=releases.SHA),))
    frozen = manifest(*on_board, **{**usual, **said})
    entries, by = chain_of_train(frozen, approved=approved), make.signer()
    proof: Proof = {
        "chain": TRAIN,
        "entries": [entry.model_dump(mode="json") for entry in entries],
        "heads": [make.head(entry, by).envelope for entry in entries[1:]],
        "ballots": [one.model_dump(mode="json") for one in make.answers(VOTES, frozen.digest)],
    }
    change(proof)

    def passenger(many: list[make.Step]) -> list[make.Step]:
        asked = [
            ("run.asked", {**many[0][1], "user": CONDUCTOR}),
            ("release.requested", {**many[1][1], "requested_by": CONDUCTOR}),
        ]
        place = next(number for number, (kind, _) in enumerate(many) if kind == "board.decided")
        return [*asked, *many[2:place], ("train.proven", proof), *many[place:]]

    lines: list[str] = []
    ticket = TrainTicket(chain=TRAIN, manifest=frozen.digest)
    what = make.evidence(passenger, train=ticket, requested_by=CONDUCTOR, decide_by=None)
    data = make.packed(tmp_path / "pack.zip", dataclasses.replace(what, ballots=()))
    return verifier.verify(data, [], lines.append), "\n".join(lines)


def test_a_passenger_of_a_train_is_proven_by_the_votes_on_the_manifest(tmp_path: Path) -> None:
    proven, said = told(tmp_path)
    assert proven, said


def without(field: str) -> Callable[[Proof], None]:
    return lambda proof: proof[field].clear()


def another_version(proof: Proof) -> None:
    proof["entries"][1]["payload"]["passengers"][0]["version"] = "9.9.9"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("entries"), "expected the entries that froze the manifest"),
        (without("heads"), "expected a signed head that seals the manifest"),
        (without("ballots"), "expected the vote of ben (Approve)"),
        (another_version, "train.proven, entry 2"),
    ],
)
def test_a_proof_that_does_not_hold_is_named(tmp_path: Path, change: Callable[[Proof], None], words: str) -> None:
    proven, said = told(tmp_path, change)
    assert not proven
    assert words in said


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"passengers": (boarded("bike-shop", commit="b" * 40),)}, "train.proven, manifest"),
        ({"passengers": (boarded("till"),)}, "expected bike-shop on the manifest"),
        ({"change_type": "standard"}, "change_type"),
        ({"requested_by": ("ben",)}, "not approved"),
        ({"excluded": ("dan",)}, "not approved"),
        ({"decide_by": make.AT}, "not approved"),
        ({"approved": False}, "approved"),
    ],
)
def test_a_train_that_says_otherwise_proves_nothing(tmp_path: Path, said: dict[str, Any], words: str) -> None:
    proven, lines = told(tmp_path, **said)
    assert not proven
    assert words in lines
