"""What a backtest knows of a past release: from its chain, and from the tables in the store that the chain names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from interlock.adapters.artifacts.store import ArtifactStore, Folder
from interlock.adapters.ledger.past_releases import ended_releases, facts_of
from interlock.domain.canonical import Model, canonical_bytes
from interlock.domain.change.backtest import ReleaseFacts
from interlock.domain.ledger.chain import INSTALLATION
from interlock.domain.ledger.kinds import RELEASE_ENDED, RELEASE_REVIEWED
from interlock.domain.quality.rows import CoverageRow, TestRow, rows_as_json
from interlock.domain.records import LoadReport, LoadResult, SuiteRuns
from tests.factories import evidence as make
from tests.factories import releases
from tests.memory_ledger import MemoryLedger

RUN = "release_bike_shop/manual__2026-11-23"
BOM = canonical_bytes(
    {"components": [{"type": "library", "name": "wheel", "licenses": [{"license": {"id": "MIT"}}], "version": "1"}]}
)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(Folder(tmp_path / "store"))


def test_row(name: str, status: str) -> TestRow:
    return TestRow.model_validate({"suite": "unit", "classname": "shop", "name": name, "status": status, "seconds": 1})


test_row.__test__ = False  # type: ignore[attr-defined]


def load(p95: float, path: str = "/", errors: int = 0) -> LoadResult:
    return LoadResult(host="h", path=path, requests=100, errors=errors, p50_ms=1, p95_ms=p95, p99_ms=p95)


def steps(store: ArtifactStore, **verification: Any) -> list[make.Step]:
    """Return the steps of a release whose tables are in the store."""
    many = dict(make.steps(make.signer(), releases.rollout(), releases.quality(), releases.decision("acceptance")))

    def kept(name: str, *rows: Model) -> dict[str, Any]:
        return store.put_bytes(rows_as_json(rows), name).model_dump(mode="json")

    unit = [test_row("one", "passed"), test_row("two", "skipped")]
    coverage = [CoverageRow(file=f"{n}.py", lines=100, covered=n, percent=n) for n in (61, 80)]
    many["artifact.built"] |= {
        "tests": kept("tests.json", *unit),
        "coverage": kept("coverage.json", *coverage),
        "bom": store.put_bytes(BOM, "bom.json").model_dump(mode="json"),
    }
    suites = store.put_bytes(rows_as_json([test_row("three", "failed")]), "suite-tests.json")
    many["suites.run"] = SuiteRuns(tests=suites, logs={}).to_xcom()
    many["test.loaded"] = LoadReport(moment="test", results=(load(310), load(20, "/b", 2)), seconds=1).to_xcom()
    many["release.requested"] |= {"change_type": "normal", "risk": {"data": True}, "declared_risk": "high"}
    many["verification.judged"] |= verification
    return list(many.items())


def facts(many: list[make.Step], store: ArtifactStore) -> ReleaseFacts:
    found = facts_of(RUN, make.chained(many), store, reviewed=True)
    assert found is not None
    return found


def test_a_release_is_told_by_what_was_asked_planned_observed_and_how_it_ended(store: ArtifactStore) -> None:
    before, after = [load(100).model_dump()], [load(250).model_dump()]
    found = facts(steps(store, before=before, after=after), store)
    assert (found.service, found.run, found.version) == ("bike-shop", RUN, "1.1.0")
    assert (found.change_type, found.outcome, found.requested_by) == ("normal", "deployed", "rita")
    assert (found.answers, found.declared_risk) == ({"data": True}, "high")
    assert (found.commits, found.bump, found.tier, found.reviewed) == (2, "minor", 2, True)
    assert found.planned
    assert found.quality == {
        "min_tests": 2,
        "max_failed_tests": 1,
        "max_skipped_tests": 1,
        "min_line_coverage_percent": 61,
        "allowed_licences": ("MIT",),
        "max_p95_ms": 310,
        "max_error_percent": 2,
        "max_p95_ratio": 2.5,
        "max_p95_rise_ms": 150,
    }


def test_of_several_paths_the_one_that_people_notice_stands_for_all(store: ArtifactStore) -> None:
    before = [load(1, "/tiny").model_dump(), load(100, "/slow").model_dump()]
    after = [load(20, "/tiny").model_dump(), load(400, "/slow").model_dump()]
    found = facts(steps(store, before=before, after=after), store)
    assert (found.quality["max_p95_ratio"], found.quality["max_p95_rise_ms"]) == (4, 300)


def test_what_the_store_has_lost_is_not_known(store: ArtifactStore, tmp_path: Path) -> None:
    many = steps(store)
    for name in ("suite-tests.json", "coverage.json", "bom.json"):
        (lost,) = (tmp_path / "store").rglob(name)
        lost.unlink()
    quality = facts(many, store).quality
    assert not {"min_tests", "max_failed_tests", "min_line_coverage_percent", "allowed_licences"} & set(quality)
    assert quality["max_p95_ms"] == 310


def test_a_release_that_ended_before_it_was_planned_is_known_by_its_request(store: ArtifactStore) -> None:
    many = [step for step in steps(store) if step[0] in ("release.requested", "policy.resolved", "release.closed")]
    found = facts(many, store)
    assert (found.quality, found.commits, found.answers, found.planned) == ({}, 0, {"data": True}, False)


@pytest.mark.parametrize("change", ["not ended", "a rollback", "not asked for"])
def test_what_is_no_release_that_ended_is_none(store: ArtifactStore, change: str) -> None:
    many = dict(steps(store))
    if change == "a rollback":
        many["release.requested"]["rollback"] = True
    else:
        del many["release.closed" if change == "not ended" else "release.requested"]
    assert facts_of(RUN, make.chained(list(many.items())), store, reviewed=False) is None


def test_the_installations_chain_tells_how_the_releases_of_a_service_ended() -> None:
    ledger = MemoryLedger()
    told = {"service": "bike-shop", "version": "1.1.0", "change_type": "normal", "outcome": "failed"}
    ends = [{"run": "d/old"}, {"run": "d/refused", "planned": False}, {"run": "d/other", "service": "till"}]
    for end in ends:
        ledger.append(
            INSTALLATION, RELEASE_ENDED, {**told, **end}, actor="closure", key=f"{RELEASE_ENDED}/{end['run']}"
        )
    ledger.append(INSTALLATION, RELEASE_REVIEWED, {"run": "d/old"}, actor="rita", key="review")
    found = [(one.run, one.planned, one.reviewed) for one in ended_releases(ledger, "bike-shop")]
    assert found == [("d/old", True, True), ("d/refused", False, False)]


def test_the_kind_of_tests_of_which_the_fewest_ran_counts(store: ArtifactStore) -> None:
    many = dict(steps(store))
    rows = [test_row(name, "passed").model_copy(update={"kind": "integration"}) for name in "abc"]
    unit = [test_row("d", "skipped").model_copy(update={"kind": "unit"})]
    kept = store.put_bytes(rows_as_json([*rows, *unit]), "suite-tests.json")
    many["suites.run"] = SuiteRuns(tests=kept, logs={}).to_xcom()
    many["artifact.built"] |= {"tests": store.put_bytes(rows_as_json([]), "none.json").model_dump(mode="json")}
    assert facts(list(many.items()), store).quality["min_tests"] == 0
