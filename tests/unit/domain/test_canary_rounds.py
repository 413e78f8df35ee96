from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from interlock.domain.canary.records import CanaryReport, CanaryRound, Judged, Question
from interlock.domain.canary.rounds import judge_rounds
from interlock.domain.catalogue.strategy_file import Canary
from interlock.domain.records import Host, LoadResult
from interlock.domain.rollout.rollout import canary_question

AT = datetime(2026, 11, 28, tzinfo=UTC)
PATHS = ("/", "/x")
NEW, OLD = (
    [
        Host(instance_id=f"i-{side}{number}", name=f"{side}-{number}", address=f"{side}-{number}", zone="a")
        for number in range(3)
    ]
    for side in ("new", "old")
)
Change = Callable[[LoadResult, int], LoadResult | None]


def load(host: Host, path: str, number: int) -> LoadResult:
    """Return what a good host answers; times that differ a little from round to round and host to host."""
    p50 = 10 + (number * 7 + len(path) + int(host.address[-1])) % 5 / 10
    return LoadResult(host=host.address, path=path, requests=5, errors=0, p50_ms=p50, p95_ms=p50 * 2, p99_ms=p50 * 3)


def rounds(change: Change | None = None, *, many: int = 20, **told: Any) -> list[CanaryRound]:
    found = []
    for number in range(1, many + 1):
        loads = [load(host, path, number) for host in (*NEW, *OLD) for path in PATHS]
        changed = [change(one, number) if change else one for one in loads]
        numbers = {host.address: dict(told) for host in (*NEW, *OLD)} if told else {}
        found.append(CanaryRound(number=number, at=AT, loads=tuple(one for one in changed if one), told=numbers))
    return found


def judged(found: Sequence[CanaryRound], settings: dict[str, Any] | None = None, **keys: Any) -> CanaryReport:
    question = Question.model_validate(canary_question(Canary.model_validate(settings or {}), PATHS))
    return judge_rounds(question, found, baseline=OLD, canary=NEW, **keys)


def on(host: Host, **values: Any) -> Change:
    def change(one: LoadResult, number: int) -> LoadResult:
        return one.model_copy(update=values) if one.host == host.address else one

    return change


def test_a_canary_as_good_as_its_baseline_passes() -> None:
    report = judged(rounds())
    assert (report.verdict, report.score, report.reason) == ("pass", 100, "")
    (errors,) = [one for one in report.metrics if one.name == "/: errors (%)"]
    assert errors.failed == (0, 300, 0, 300)


def test_one_dead_host_of_three_is_no_average() -> None:
    report = judged(rounds(on(NEW[1], errors=5)))
    assert report.verdict == "fail"
    assert report.reason == "Errors: In the canary, new-1 failed all of 200 requests."


def test_one_slow_host_of_three_is_no_average() -> None:
    report = judged(rounds(on(NEW[2], p50_ms=80.0, p95_ms=160.0)))
    assert report.verdict == "fail"
    assert "new-2: /: median response time (ms) is high" in report.sentence()


def test_a_host_that_a_round_lacks_fails_the_canary() -> None:
    def change(one: LoadResult, number: int) -> LoadResult | None:
        return None if (one.host, number) == ("new-0", 20) else one

    assert "did not get the same load: / in round 20, 0 requests of new-0 and 5 of" in judged(rounds(change)).reason


@pytest.mark.parametrize(
    ("found", "said"),
    [
        pytest.param([], "The canary has 0 rounds", id="no round"),
        pytest.param(rounds(many=5), "The canary has 5 rounds", id="too few"),
        pytest.param(rounds()[:7] + rounds()[8:], "a round is missing", id="a gap"),
        pytest.param([*rounds(), rounds()[-1]], "recorded twice", id="one twice"),
        pytest.param(rounds(lambda one, _: None), "No host got 0 requests", id="nothing measured"),
        pytest.param(rounds(many=8), "got 80 requests, but the canary needs 200", id="too few requests"),
        pytest.param(
            rounds(lambda one, _: one.model_copy(update={"requests": 0})), "got 0 requests", id="nobody asked"
        ),
        pytest.param(
            rounds(lambda one, _: None if one.host.startswith("old") else one),
            "There are no requests of the baseline",
            id="no baseline",
        ),
        pytest.param(
            rounds(lambda one, _: one if one.path == "/" else None),
            "got 100 requests, but the canary needs 200",
            id="a path that was not asked",
        ),
    ],
)
def test_without_data_a_canary_fails_and_says_why(found: list[CanaryRound], said: str) -> None:
    report = judged(found, requests=200)
    assert (report.verdict, report.score) == ("fail", 0)
    assert said in report.reason


def test_a_path_that_nobody_asked_fails_although_all_others_are_well() -> None:
    report = judged(rounds(lambda one, _: one if one.path == "/" else None))
    assert report.verdict == "fail"
    assert report.reason == "The critical metric /x: errors (%) failed: There are no requests of /x: errors (%)."


def test_whatever_the_score_more_errors_fail() -> None:
    """Even if a score of one point passed, and errors were a hundredth of it."""
    worse = rounds(lambda one, number: one.model_copy(update={"errors": int(one.host == "new-0" and number % 2)}))
    question = canary_question(Canary(pass_from=1, marginal_from=0), PATHS)
    question["weights"] = {"errors": 1, "response times": 99}
    report = judge_rounds(Question.model_validate(question), worse, baseline=OLD, canary=NEW)
    assert (report.verdict, report.score) == ("fail", 0)
    assert "failed" in report.reason


OWN = {"metrics_path": "/metrics", "metrics": {"heap_mb": {"by": 1.5}}}


def test_a_host_that_stops_telling_its_numbers_fails_the_canary() -> None:
    found = [
        one.model_copy(update={"told": {**one.told, "new-1": {}}}) if one.number > 8 else one
        for one in rounds(heap_mb=100.0)
    ]
    report = judged(found, OWN)
    assert report.verdict == "fail"
    assert "new-1 of the canary failed 12 of 20 questions for its numbers" in report.reason
    assert judged(rounds(heap_mb=100.0), OWN).verdict == "pass"


def test_numbers_that_nobody_tells_fail_whatever_passes() -> None:
    lenient = {**OWN, "pass_from": 50, "marginal_from": 50}
    assert judged(rounds(), lenient).verdict == "fail"
    assert judged(rounds(heap_mb=None), lenient).verdict == "fail"


def test_a_plan_from_before_counts_is_judged_by_them_too() -> None:
    question = canary_question(Canary(), PATHS)
    for metric in question["metrics"]:
        metric.pop("counts", None)
    report = judge_rounds(Question.model_validate(question), rounds(on(NEW[0], errors=5)), baseline=OLD, canary=NEW)
    assert report.verdict == "fail"


def test_records_of_before_are_as_they_were() -> None:
    """What has no counts says nothing of them: neither a plan's digest nor a report on record changes."""
    (metric,) = Question.model_validate({"metrics": [{"name": "a", "groups": ["x"]}]}).metrics
    assert "counts" not in metric.model_dump(mode="json")
    summary = {"count": 0, "mean": None, "minimum": None, "median": None, "maximum": None}
    old = {
        "name": "a",
        "groups": ["x"],
        "classification": "pass",
        "reason": "",
        "critical": False,
        "muted": False,
        "ratio": None,
        "effect": None,
        "difference": None,
        "canary": summary,
        "baseline": summary,
    }
    assert Judged.model_validate(old).model_dump(mode="json") == old
