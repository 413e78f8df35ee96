"""The verifier on a rollback: it goes to what the environment ran before, or the pack is not proven."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interlock.domain.ledger.chain import Entry, SignedHead, next_entry
from interlock.domain.records import RollBack, Strategy
from interlock.verify import __main__ as verifier
from tests.factories import evidence as make
from tests.factories import releases

BEFORE = "release/release_bike_shop/manual__2026-11-01"
Proof = dict[str, Any]


def chain_of_before(**plan: Any) -> list[Entry]:
    """Return the end of the chain of the release gone back to."""
    steps = [
        ("rollout.frozen", {**releases.rollout(**plan).to_xcom(), "digest": "f" * 64}),
        ("release.closed", releases.outcome().model_copy(update={"outcome": "deployed"}).to_xcom()),
    ]
    found: list[Entry] = []
    for kind, payload in steps:
        last = found[-1] if found else None
        found.append(next_entry(last, chain=BEFORE, at=make.AT, actor="airflow", kind=kind, key=kind, payload=payload))
    return found


def told(tmp_path: Path, change: Callable[[Proof], None] = lambda proof: None, **plan: Any) -> tuple[bool, str]:
    """Verify the pack of a rollback."""
    by, entries = make.signer(), chain_of_before(**plan)
    heads: list[SignedHead] = [make.head(entry, by) for entry in entries]
    proof: Proof = {
        "chain": BEFORE,
        "entries": [entry.model_dump(mode="json") for entry in entries],
        "heads": [head.envelope for head in heads],
    }
    change(proof)
    back = RollBack(chain=BEFORE, closed=entries[-1].hash, template="rollback: back")

    def proven(many: list[make.Step]) -> list[make.Step]:
        return [*many[:3], ("rollback.proven", proof), *many[3:]]

    said: list[str] = []
    data = make.packed(tmp_path / "pack.zip", make.evidence(proven, rolls_back=back))
    return verifier.verify(data, [], said.append), "\n".join(said)


def without(field: str) -> Callable[[Proof], None]:
    return lambda proof: proof[field].pop()


def another_actor(proof: Proof) -> None:
    proof["entries"][0]["actor"] = "mallory"


def test_a_rollback_to_what_ran_before_is_proven(tmp_path: Path) -> None:
    proven, said = told(tmp_path)
    assert proven, said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("entries"), "expected the entries that froze and closed"),
        (without("heads"), "expected a signed head that seals it"),
        (another_actor, "rollback.proven, rollout.frozen"),
    ],
)
def test_a_proof_that_does_not_hold_is_named(tmp_path: Path, change: Callable[[Proof], None], words: str) -> None:
    proven, said = told(tmp_path, change)
    assert not proven
    assert words in said


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"version": "1.0.9"}, "version"),
        ({"environment": "staging"}, "environment"),
        ({"rehearsal": True}, "rehearsal"),
        ({"bundle": releases.blob(digit="9")}, "rollback.proven, bundle"),
    ],
)
def test_a_proof_of_something_else_is_named(tmp_path: Path, plan: dict[str, Any], words: str) -> None:
    proven, said = told(tmp_path, **plan)
    assert not proven
    assert words in said


@pytest.mark.parametrize("budget", [0, 1])
def test_a_host_that_failed_is_told_if_the_plan_bears_it_and_a_finding_if_not(tmp_path: Path, budget: int) -> None:
    strategy = Strategy(window=1, max_failed=budget, min_healthy=0, by_zone=False)

    def one_failed(many: list[make.Step]) -> list[make.Step]:
        results = [payload for kind, payload in many if kind == "wave.deployed"][-1]["results"]
        results[-1].update(outcome="failed", after=results[-1]["before"])
        return many

    said: list[str] = []
    data = make.packed(tmp_path / "pack.zip", make.evidence(one_failed, strategy=strategy))
    assert verifier.verify(data, [], said.append) == bool(budget)
    expected = "which the plan's error budget bears" if budget else "expected a wave that brought"
    assert any(expected in line for line in said)
