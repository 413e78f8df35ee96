"""Marks of versions: which versions there are to be marked."""

from __future__ import annotations

from typing import Any

import pytest

from interlock.adapters.ledger.past_releases import versions_of
from interlock.domain.errors import RequestRefused
from interlock.domain.ledger.chain import INSTALLATION
from interlock.domain.ledger.kinds import BASELINE_SEEN, RELEASE_ENDED, RELEASE_REQUESTED, VERSION_MARKED_BAD
from interlock.domain.outcome.marks import MAX_SHOWN, parse_mark, refuse_never_released
from tests.memory_ledger import MemoryLedger

FORM = {"service": "bike-shop", "reason": "It loses baskets"}


@pytest.fixture
def ledger() -> MemoryLedger:
    """A ledger with a release that has ended, one that is under way, a host of before, and an old mark."""
    kept = MemoryLedger()

    def installation(kind: str, key: str, **told: Any) -> None:
        kept.append(INSTALLATION, kind, {"service": "bike-shop", **told}, actor="a task", key=key)

    installation(BASELINE_SEEN, "seen", environment="production", host="h", release="1.0.0-rc.1-8f7875fbc403")
    installation(BASELINE_SEEN, "empty", environment="production", host="i", release=None)
    installation(VERSION_MARKED_BAD, "mark", environment="production", version="0.9.0", by="rita", reason="Old")
    installation(RELEASE_ENDED, "a", run="release_bike_shop/a", version="1.1.0", outcome="backed_out")
    installation(RELEASE_ENDED, "b", run="release_bike_shop/b", version="", outcome="failed")
    installation(RELEASE_ENDED, "c", run="release_till/c", version="7.0.0", outcome="deployed", service="till")
    for chain, version in (
        ("release_bike_shop/d", "1.2.0"),
        ("release_bike_shop/a", "8.0.0"),
        ("release_till/d", "9.0.0"),
    ):
        kept.append(f"release/{chain}", RELEASE_REQUESTED, {"version": version}, actor="rita", key="requested")
    return kept


def test_the_versions_of_a_service_are_those_that_ended_are_under_way_or_were_there(ledger: MemoryLedger) -> None:
    assert versions_of(ledger, "bike-shop") == ("1.2.0", "1.1.0", "0.9.0", "1.0.0-rc.1")
    assert versions_of(ledger, "kiosk") == ()


@pytest.mark.parametrize("version", ["1.1.0", "1.1.0+build.7", "1.2.0", "0.9.0", "1.0.0-rc.1"])
def test_a_version_that_there_is_can_be_marked(ledger: MemoryLedger, version: str) -> None:
    mark = parse_mark({**FORM, "version": version}, "rita", {"bike-shop": ["production"]})
    refuse_never_released(mark, versions_of(ledger, "bike-shop"))


@pytest.mark.parametrize("verdict", ["bad", "good", "pin", "unpin"])
def test_a_version_that_never_was_is_refused_with_those_that_are_known(ledger: MemoryLedger, verdict: str) -> None:
    mark = parse_mark({**FORM, "version": "7.0.0", "verdict": verdict}, "rita", {"bike-shop": ["production"]})
    with pytest.raises(RequestRefused) as refused:
        refuse_never_released(mark, versions_of(ledger, "bike-shop"))
    assert refused.value.what == (
        "bike-shop has no version 7.0.0 that could be marked. Known versions, latest first: "
        "1.2.0, 1.1.0, 0.9.0, 1.0.0-rc.1."
    )


def test_of_many_versions_some_are_named() -> None:
    mark = parse_mark({**FORM, "version": "7.0.0"}, "rita", {"bike-shop": ["production"]})
    with pytest.raises(RequestRefused, match=r"1\.19\.0 and others\.") as refused:
        refuse_never_released(mark, [f"1.{number}.0" for number in range(MAX_SHOWN + 1)])
    assert "1.20.0" not in refused.value.what
    with pytest.raises(RequestRefused, match=r"latest first: none\."):
        refuse_never_released(mark, [])
