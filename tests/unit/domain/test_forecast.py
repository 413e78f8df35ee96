"""Forecasts hold as often as they say, on generated histories; and readiness says what lowers it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from interlock.domain.forecast.forecast import ENOUGH, Asked, Forecast, History, calibration, outlook_of
from interlock.domain.forecast.readiness import of_release, of_train
from interlock.domain.forecast.trains import Passenger, forecast_of_train
from interlock.domain.ledger.chain import release_chain
from interlock.domain.ledger.kinds import BOARD_DECIDED, MANIFEST_FROZEN, TRAIN_DEPARTED, TRAIN_OPENED
from interlock.domain.measures.facts import MILESTONES, MeasuredRelease
from interlock.domain.trains.manifest import Manifest
from tests.factories import releases
from tests.factories.histories import history
from tests.factories.releases import AT
from tests.memory_ledger import MemoryLedger

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def deployed(known: list[MeasuredRelease]) -> MeasuredRelease:
    return next(one for one in reversed(known) if one.is_deployment)


def test_nine_of_ten_forecasts_hold() -> None:
    whole, *_ = calibration(history(120, services=3, seed=17))
    assert whole.forecasts > 800
    assert whole.nine_of_ten is not None
    assert whole.half is not None
    assert 0.87 <= whole.nine_of_ten <= 0.93
    assert 0.42 <= whole.half <= 0.58


def test_a_forecast_names_the_way_that_is_left_and_for_whom_it_waits() -> None:
    known = history(60)
    last = deployed(known)
    at = last.milestones["frozen"]
    outlook = outlook_of(last, at).model_copy(
        update={"asked": {"approved": Asked(users=("ben", "cora", "dan"), answers=2)}, "not_before": None}
    )
    found = History(known).forecast(outlook, at)
    assert found.reached == "frozen"
    assert [one.milestone for one in found.steps] == [*MILESTONES[MILESTONES.index("approved") :]]
    board = found.steps[0]
    assert board.waits_for == ("ben", "cora", "dan")
    assert 2 * 3600 < board.seconds < 24 * 3600, "the second of them to answer, and not the slowest"
    assert found.half is not None
    assert found.nine_of_ten is not None
    assert at < found.half <= found.nine_of_ten
    assert found.through is not None
    assert 0.9 < found.through <= 1


def test_nothing_ends_before_its_planned_start() -> None:
    known = history(60)
    last = deployed(known)
    at = last.milestones["told"]
    outlook = outlook_of(last, at).model_copy(update={"not_before": at + 30 * DAY})
    found = History(known).forecast(outlook, at)
    assert found.starts == at + 30 * DAY
    assert found.half is not None
    assert found.half > at + 30 * DAY


def test_what_takes_longer_than_ever_is_not_over_yesterday() -> None:
    known = history(60)
    last = known[-1]
    now = last.milestones["built"] + 90 * DAY
    outlook = outlook_of(last, last.milestones["built"])
    found = History(known).forecast(outlook, now)
    assert found.half is None or found.half > now
    assert found.steps[0].seconds > 0


def test_a_service_without_history_borrows_and_without_any_there_is_no_range() -> None:
    known = history(60)
    new = known[-1].model_copy(update={"service": "new", "run": "release_new/1"})
    at = new.milestones["built"]
    borrowed = History(known[:-1]).forecast(outlook_of(new, at), at)
    assert borrowed.nine_of_ten is not None
    assert borrowed.through is None, "of this service, none has ended"
    nothing = History([]).forecast(outlook_of(new, at), at)
    assert (nothing.half, nothing.based_on) == (None, 0)
    assert f"needs {ENOUGH} earlier releases" in nothing.why


def test_what_was_not_known_yet_does_not_count() -> None:
    known = history(60)
    early = known[20]
    at = early.milestones["built"]
    past = [one for one in known if one.ended_at is not None and one.ended_at < at]
    outlook = outlook_of(early, at)
    assert History(known).forecast(outlook, at) == History([*past, early]).forecast(outlook, at)


def test_readiness_follows_the_published_weights_and_names_what_lowers_it() -> None:
    passed = [*MILESTONES[:5]]
    found = of_release(passed, ["It has findings."], date=AT + 7 * DAY, now=AT, checks=4)
    by_key = {one.key: one for one in found.parts}
    assert by_key["work"].lowers == ("Vote of the board is not done.", "Communication and training is not done.")
    assert by_key["policy"].lowers == ("It has findings.",)
    missing = 0.3 * 2 / 3 + 0.4 * 1 / 4 + 0.1 * 6 / 11 + 0.2 * 0.5
    assert found.score == round(100 * (1 - missing))
    undated = of_release(passed, [], date=None, now=AT, checks=4)
    assert undated.score == round(100 * (1 - 0.5 * 2 / 3 - 0.1 * 6 / 11))
    assert of_release([*MILESTONES], [], date=AT, now=AT, checks=4).score == 100


@pytest.mark.parametrize(("days", "pressure"), [(20, 0.0), (14, 0.0), (7, 0.5), (0, 1.0), (-3, 1.0)])
def test_time_presses_over_the_last_fourteen_days(days: int, pressure: float) -> None:
    found = of_release([], [], date=AT + days * DAY, now=AT)
    assert {one.key: one.missing for one in found.parts}["time"] == pressure


def test_a_train_is_ready_when_its_services_are_on_board_and_its_board_has_decided() -> None:
    chain, ledger = release_chain("train_weekly", "r"), MemoryLedger()
    empty = of_train((), ("bike-shop", "till"), date=AT + 20 * DAY, now=AT)
    assert {"bike-shop has not boarded.", "till has not boarded."} <= {*empty.parts[1].lowers}
    manifest = Manifest(
        train="weekly",
        title="Weekly",
        departure=AT + DAY,
        environment="production",
        change_type=releases.plan().change_type,
        passengers=(),
        left=({"service": "till", "late": True, "why": "its tests fail"},),
        requested_by=(),
        one_decision=True,
        decide_by=AT + HOUR,
        file="a" * 64,
    )
    frozen = {**manifest.to_xcom(), "digest": manifest.digest}
    for number, (kind, payload) in enumerate(((TRAIN_OPENED, {}), (MANIFEST_FROZEN, frozen))):
        ledger.append(chain, kind, payload, actor="t", key=str(number), at=AT)
    waiting = of_train(ledger.entries(chain), ("bike-shop", "till"), date=AT + 20 * DAY, now=AT)
    assert waiting.parts[0].lowers == ("Its board has not decided.",)
    assert waiting.parts[1].lowers == ("till stays behind: its tests fail",)
    for number, kind in enumerate((BOARD_DECIDED, TRAIN_DEPARTED)):
        ledger.append(chain, kind, {}, actor="t", key=f"{number}/{kind}", at=AT)
    gone = of_train(ledger.entries(chain), ("bike-shop",), date=AT, now=AT)
    assert gone.score == 100
    assert empty.score < waiting.score < gone.score


def test_all_passengers_of_a_train_are_through_in_nine_of_ten() -> None:
    """Let three services depart together, again and again: each of the last releases of one with one of the others."""
    known = history(240, services=3, seed=5)
    by_service: dict[str, list[MeasuredRelease]] = {}
    for one in known:
        if one.is_deployment and one.requested_at and one.not_before is None:
            by_service.setdefault(one.service, []).append(one)
    looking = History(known)
    kept = []
    for together in zip(*(each[-40:] for each in by_service.values()), strict=False):
        on_time = []
        for one in together:
            assert one.requested_at is not None
            assert one.ended_at is not None
            found = looking.forecast(outlook_of(one, one.requested_at), one.requested_at, among=len(together))
            assert found.nine_of_ten is not None
            on_time.append(one.ended_at <= found.nine_of_ten)
        kept.append(all(on_time))
    assert len(kept) >= 20
    assert 0.8 <= sum(kept) / len(kept) <= 1.0


def test_a_train_is_through_when_its_last_passenger_is_each_after_those_before_it() -> None:
    known = history(60, services=2)
    first, second = sorted({one.service for one in known})[:2]
    now = max(one.ended_at for one in known if one.ended_at) + DAY
    departure = now + HOUR
    looking = History(known)

    def through(*passengers: Passenger) -> Forecast:
        return forecast_of_train(looking, passengers, "normal", departure, now)

    alone = through(Passenger(service=first))
    both = through(Passenger(service=first), Passenger(service=second))
    in_line = through(Passenger(service=first, after=(second,)), Passenger(service=second))
    for one in (alone, both, in_line):
        assert one.starts == departure
        assert one.half is not None
        assert one.nine_of_ten is not None
        assert departure < one.half <= one.nine_of_ten
    assert alone.nine_of_ten <= both.nine_of_ten <= in_line.nine_of_ten  # type: ignore[operator]
    assert both.half < in_line.half  # type: ignore[operator]
    arrived = through(Passenger(service=first, ended_at=now))
    assert (arrived.half, arrived.why) == (None, "All passengers have arrived.")
    assert through().why == "Nobody is on board."
    unknown = forecast_of_train(History([]), [Passenger(service=first)], "normal", departure, now)
    assert unknown.why.startswith(f"{first}: It needs {ENOUGH} earlier releases")
