"""The measures: what is read of a release's chain, and what each figure counts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from interlock.adapters.overview.measured import MeasuredReleases
from interlock.domain.forecast.forecast import ENOUGH
from interlock.domain.ledger.chain import INSTALLATION, release_chain
from interlock.domain.ledger.kinds import (
    ACCEPTANCE_DECIDED,
    ANSWER_GIVEN,
    ARTIFACT_BUILT,
    BACK_OUT_DONE,
    BOARD_DECIDED,
    BREAK_GLASS_USED,
    COMMUNICATION_RECORDED,
    EMERGENCY_STOP_DECLARED,
    FINDING,
    FREEZE_OVERRIDDEN,
    PERMIT_USED,
    PLAN_MADE,
    QUALITY_JUDGED,
    QUALITY_WAIVED,
    QUESTION_MAILED,
    RELEASE_ENDED,
    RELEASE_REQUESTED,
    ROLLOUT_FROZEN,
    VERIFICATION_JUDGED,
    WAVE_DEPLOYED,
)
from interlock.domain.measures.facts import MEASURED, MeasuredRelease
from interlock.domain.measures.measures import Figure, Span, measure, nine_of_ten
from interlock.domain.measures.weeks import MOST, weeks
from tests.factories.releases import AT
from tests.memory_ledger import MemoryLedger

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SPAN = Span(since=AT - DAY, until=AT + 27 * DAY)


def _further(more: dict[str, Any]) -> Iterator[tuple[str, float, dict[str, Any]]]:
    """Yield what a release passes, and the permit with which its first wave begins."""
    yield from ((kind, hours, {}) for kind, hours in more.get("passed", ()))
    if begun := more.get("begun"):
        yield PERMIT_USED, 1.2, {"permit": {"purpose": "inspect"}}
        yield PERMIT_USED, begun, {"permit": {"purpose": "deploy"}}


def _after(outcome: str, more: dict[str, Any]) -> Iterator[tuple[str, float]]:
    if verified := more.get("verified"):
        yield VERIFICATION_JUDGED, verified
    if outcome == "backed_out":
        yield BACK_OUT_DONE, 6


class Told(MemoryLedger):
    """A ledger to which whole releases are told."""

    def release(
        self,
        name: str,
        outcome: str,
        *,
        after: timedelta = timedelta(),
        service: str = "bike-shop",
        change_type: str = "normal",
        waves: int = 2,
        rollback: bool = False,
        **more: Any,
    ) -> None:
        """Tell of a release that was requested then; its commit is a day old, its waves end after 2 and 3 hours."""
        prefix = "rollback" if rollback else "release"
        dag, at = f"{prefix}_{service.replace('-', '_')}", AT + after
        chain = release_chain(dag, name)

        def tell(kind: str, payload: dict[str, Any], hours: float, key: str = "") -> None:
            when = at + timedelta(hours=hours)
            self.append(chain, kind, payload, actor="test", key=f"{kind}/{key}/{hours}", at=when)

        asked_for = {"change_type": change_type, "service": service, "incident": more.get("incident", "")}
        tell(RELEASE_REQUESTED, asked_for, 0)
        plan = {"service": service, "commits": [{"at": (at - DAY).isoformat()}], "not_before": more.get("not_before")}
        tell(PLAN_MADE, plan, 0.1)
        votes, asked = more.get("votes", {}), {"task_id": "rollout.cast_ballot", "map_index": 0}
        if votes:
            tell(QUESTION_MAILED, {**asked, "users": [*votes]}, 1)
        for user, hours in votes.items():
            tell(ANSWER_GIVEN, {**asked, "user": user}, 1 + hours, user)
        for number, (kind, hours, payload) in enumerate(_further(more)):
            tell(kind, payload, hours, str(number))
        for number in range(waves):
            tell(WAVE_DEPLOYED, {"number": number + 1}, 2 + number)
        for kind, hours in _after(outcome, more):
            tell(kind, {}, hours)
        for number, payload in enumerate(more.get("waivers", ())):
            tell(QUALITY_WAIVED, payload, 6.5, str(number))
        if more.get("finding"):
            tell(FINDING, {"what": "A host differs."}, 6.7)
        if outcome:
            told = {"service": service, "version": name, "change_type": change_type, "outcome": outcome}
            run = f"{dag}/{name}"
            self.append(
                INSTALLATION, RELEASE_ENDED, {**told, "run": run}, actor="t", key=run, at=at + timedelta(hours=7)
            )

    def figure(self, key: str, span: Span = SPAN) -> Figure:
        """Return a measure of everything that was told."""
        return {one.key: one for one in measure(self.known(), span).figures}[key]

    def known(self) -> tuple[MeasuredRelease, ...]:
        """Return what is read."""
        return MeasuredReleases().read(self)


@pytest.fixture
def ledger() -> Told:
    return Told()


def names(runs: tuple[str, ...]) -> list[str]:
    return [run.partition("/")[2] for run in runs]


def test_lead_time_is_from_each_commit_to_the_last_wave_that_has_it(ledger: Told) -> None:
    ledger.release("1.0.0", "deployed")
    ledger.release("1.1.0", "backed_out", after=DAY)
    found = ledger.figure("change_lead_time")
    assert (found.value, found.p90) == ((DAY + 3 * HOUR).total_seconds(),) * 2
    assert names(found.counted) == ["1.0.0"]


def test_frequency_is_by_week_and_without_rollbacks_and_rehearsals(ledger: Told) -> None:
    for number in range(8):
        ledger.release(f"1.{number}.0", "deployed", after=number * DAY)
    ledger.release("1.7.0", "deployed", after=9 * DAY, rollback=True)
    ledger.release("2.0.0", "rehearsed", after=10 * DAY)
    found = ledger.figure("deployment_frequency")
    assert (found.value, len(found.counted)) == (2.0, 8)


def test_recovery_is_the_time_to_back_out_or_to_roll_back(ledger: Told) -> None:
    ledger.release("1.0.0", "backed_out")
    ledger.release("1.1.0", "deployed", after=DAY)
    ledger.release("1.0.9", "deployed", after=2 * DAY, rollback=True)
    found = ledger.figure("failed_deployment_recovery_time")
    assert found.value == ((4 * HOUR + DAY) / 2).total_seconds(), "4 hours of the back-out, a day of the rollback"
    assert names(found.counted) == ["1.0.0", "1.1.0"]


def test_a_change_failed_if_it_was_backed_out_failed_or_was_rolled_back_later(ledger: Told) -> None:
    ledger.release("1.0.0", "deployed")
    ledger.release("1.1.0", "backed_out", after=DAY)
    ledger.release("1.2.0", "failed", after=2 * DAY, waves=1)
    ledger.release("1.3.0", "failed", after=3 * DAY, waves=0)  # never reached production
    ledger.release("1.4.0", "deployed", after=4 * DAY)
    ledger.release("1.0.0", "deployed", after=4.5 * DAY, service="till")  # not what is rolled back
    ledger.release("1.0.0", "deployed", after=5 * DAY, rollback=True)
    found = ledger.figure("change_fail_rate")
    assert names(found.counted) == ["1.1.0", "1.2.0", "1.4.0"]
    assert found.value == 3 / 5


def test_rework_is_what_was_not_planned(ledger: Told) -> None:
    ledger.release("1.0.0", "deployed")
    ledger.release("1.0.1", "deployed", after=DAY, change_type="emergency")
    ledger.release("1.0.0", "deployed", after=2 * DAY, rollback=True)
    ledger.release("1.0.2", "rejected", after=3 * DAY, change_type="emergency", waves=0)
    assert ledger.figure("deployment_rework_rate").value == 2 / 3
    assert ledger.figure("emergency_changes").value == 2 / 3


@pytest.mark.parametrize(("hours", "share"), [(1, 1.0), (0.9, 0.0)], ids=["an hour before", "earlier"])
def test_on_time_is_within_an_hour(ledger: Told, hours: float, share: float) -> None:
    ledger.release("1.0.0", "deployed", not_before=(AT + timedelta(hours=hours)).isoformat())
    ledger.release("1.1.0", "deployed", after=DAY)
    found = ledger.figure("on_time")
    assert (found.value, names(found.among)) == (share, ["1.0.0"])


def test_how_releases_ended(ledger: Told) -> None:
    for number, outcome in enumerate(("deployed", "rejected", "expired", "backed_out", "rehearsed", "")):
        ledger.release(f"1.{number}.0", outcome, after=number * DAY, finding=outcome == "deployed")
    assert ledger.figure("releases").value == 4
    assert ledger.figure("rejected").value == 2 / 4
    assert ledger.figure("backed_out").value == 1 / 4
    assert ledger.figure("unauthorised").value == 1 / 5
    assert names(ledger.figure("backlog").counted) == ["1.5.0"]


def test_backlog_is_what_was_under_way_at_the_end_of_the_span(ledger: Told) -> None:
    ledger.release("1.0.0", "deployed")
    then = Span(since=AT - DAY, until=AT + HOUR)
    assert names(ledger.figure("backlog", then).counted) == ["1.0.0"]
    assert ledger.figure("releases", then).value == 0
    assert ledger.figure("backlog").counted == ()


def test_people_take_from_the_mail_to_their_answer(ledger: Told) -> None:
    ledger.release("1.0.0", "deployed", votes={"cora": 0.01, "ben": 0.5})
    ledger.release("1.1.0", "deployed", after=DAY, votes={"ben": 0.25})
    assert ledger.figure("quick_votes").value == 1 / 2
    assert ledger.figure("answer_time").value == 15 * 60
    seats = {one.user: one for one in measure(ledger.known(), SPAN).seats}
    assert (seats["ben"].stage, seats["ben"].answers, seats["ben"].median_seconds) == ("Rollout plan and CAB", 2, 1350)
    assert (seats["cora"].quick, seats["cora"].p90_seconds) == (1, 36)


def test_waivers_in_force_have_an_age(ledger: Told) -> None:
    given = [
        {"at": (SPAN.until - days * DAY).isoformat(), "until": (SPAN.until + left * DAY).isoformat()}
        for days, left in ((10, 5), (4, 1), (20, -1))
    ]
    ledger.release("1.0.0", "deployed", waivers=given)
    assert ledger.figure("waiver_age").value == (7 * DAY).total_seconds()


def test_what_ended_outside_of_the_span_does_not_count(ledger: Told) -> None:
    ledger.release("1.0.0", "deployed", after=-2 * DAY)
    ledger.release("1.1.0", "deployed", after=27 * DAY)
    assert ledger.figure("releases").value == 0
    assert ledger.figure("change_fail_rate").value is None


def test_a_time_that_cannot_be_read_is_left_out(ledger: Told) -> None:
    ledger.release("1.0.0", "deployed", not_before="tomorrow", waivers=[{"at": "yesterday"}])
    (found,) = ledger.known()
    assert (found.not_before, found.waivers) == (None, ())


def test_a_release_that_ended_is_read_once(ledger: Told) -> None:
    ledger.release("1.0.0", "deployed")
    ledger.release("1.1.0", "")
    releases, asked = MeasuredReleases(), list[str]()
    among = ledger.among
    ledger.among = lambda chains, kinds: (  # type: ignore
        asked.extend(chains if kinds == MEASURED else ()) or among(chains, kinds)  # type: ignore
    )
    for _ in range(3):
        assert len(releases.read(ledger)) == 2
    assert [chain.rpartition("/")[2] for chain in asked] == ["1.0.0", "1.1.0", "1.1.0", "1.1.0"]


def test_a_finding_after_the_end_counts_with_the_next_look(ledger: Told) -> None:
    ledger.release("1.0.0", "deployed")
    releases, chain = MeasuredReleases(), release_chain("release_bike_shop", "1.0.0")
    for number in range(3):
        assert [one.findings for one in releases.read(ledger)] == [number]
        ledger.append(chain, FINDING, {"what": "A host differs."}, actor="t", key=f"late/{number}", at=AT + 9 * DAY)


def test_the_first_wave_counts_from_its_beginning(ledger: Told) -> None:
    ledger.release("1.0.0", "deployed", begun=1.5)
    (found,) = ledger.known()
    assert found.first_wave_at == AT + 1.5 * HOUR
    assert found.milestones["begun"] == AT + 1.5 * HOUR
    ledger.release("1.1.0", "failed", after=DAY, waves=0, begun=1.5)
    assert names(ledger.figure("change_fail_rate").counted) == ["1.1.0"], "its first wave failed"


def test_overrides_break_glass_and_incidents_are_counted(ledger: Told) -> None:
    for number, name in enumerate(("1.0.0", "1.1.0", "1.2.0")):
        ledger.release(name, "deployed", after=number * DAY)
    ledger.release("1.1.0-back", "deployed", after=3 * DAY, rollback=True, incident="INC-7")

    def happened(kind: str, payload: dict[str, Any], after: timedelta, key: str) -> None:
        ledger.kept[INSTALLATION].sort(key=lambda one: one.at)
        ledger.append(INSTALLATION, kind, payload, actor="t", key=key, at=AT + after)

    until = (AT + 40 * DAY).isoformat()
    happened(FREEZE_OVERRIDDEN, {"service": "bike-shop", "until": until}, 4 * DAY, "late")
    happened(BREAK_GLASS_USED, {"dag_id": "release_bike_shop", "run_id": "1.0.0"}, 5 * DAY, "glass")
    happened(EMERGENCY_STOP_DECLARED, {"scope": "bike-shop", "incident": "INC-9"}, 5 * DAY, "stop")
    ledger.release("1.3.0", "deployed", after=6 * DAY)
    happened(EMERGENCY_STOP_DECLARED, {"scope": "bike-shop", "incident": ""}, 8 * DAY, "no incident")
    happened(EMERGENCY_STOP_DECLARED, {"scope": "bike-shop", "incident": "INC-10"}, 8 * DAY, "after")
    assert names(ledger.figure("overrides").counted) == ["1.3.0"], "the others ran before it"
    assert names(ledger.figure("broken_glass").counted) == ["1.0.0"]
    assert names(ledger.figure("incidents_caused").counted) == ["1.2.0", "1.3.0"]


def test_whether_forecasts_held_is_told_once_there_were_enough(ledger: Told) -> None:
    passed = (
        *((ARTIFACT_BUILT, 0.5), (QUALITY_JUDGED, 0.6), (ACCEPTANCE_DECIDED, 0.7), (ROLLOUT_FROZEN, 0.8)),
        *((BOARD_DECIDED, 0.9), (COMMUNICATION_RECORDED, 1.0)),
    )
    for number in range(20):
        slow = 3 if number == 19 else 0
        ledger.release(f"1.{number}.0", "deployed", after=number * DAY, passed=passed, verified=4 + slow)
    found = ledger.figure("forecasts_held", Span(since=AT - DAY, until=AT + 99 * DAY))
    assert len(found.among) == 20 - ENOUGH - 1, "the first one has none before it that says what is typical"
    assert found.value is not None


@pytest.mark.parametrize(("values", "ninth"), [([1.0], 1), ([1.0, 2.0], 2), ([float(n) for n in range(1, 11)], 9)])
def test_nine_of_ten(values: list[float], ninth: float) -> None:
    assert nine_of_ten(values) == ninth


def test_each_week_has_what_ended_in_it(ledger: Told) -> None:
    ledger.release("1.0.0", "deployed")
    ledger.release("1.1.0", "backed_out", after=DAY, change_type="emergency")
    ledger.release("1.0.9", "deployed", after=2 * DAY, rollback=True)
    ledger.release("1.2.0", "deployed", after=20 * DAY, change_type="emergency", votes={"ben": 0.5})
    ledger.release("1.3.0", "")
    found = weeks(ledger.known(), SPAN)
    assert [one.since for one in found] == [SPAN.until - number * timedelta(weeks=1) for number in (4, 3, 2, 1)]
    assert [(one.deployed, one.failed, one.rollbacks, one.emergencies) for one in found] == [
        (1, 1, 1, 0),
        (0, 0, 0, 0),
        (0, 0, 0, 0),
        (1, 0, 0, 1),
    ]
    assert [one.lead_seconds for one in found] == [27 * 3600, None, None, 27 * 3600]
    assert [one.answer_seconds for one in found] == [None, None, None, 1800]
    assert len(weeks((), Span(since=AT - 3000 * DAY, until=AT))) == MOST
    assert len(weeks((), Span(since=AT - HOUR, until=AT))) == 1


def test_spans_end_before_their_end() -> None:
    assert SPAN.has(SPAN.since)
    assert not SPAN.has(SPAN.until)
    assert not SPAN.has(None)
    assert not SPAN.has(datetime.max.replace(tzinfo=AT.tzinfo))
