"""What a release or a train clashes with, and when it would not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.adapters.calendars.holidays import public_holidays
from interlock.domain.calendars.calendar import Calendars, may_change
from interlock.domain.calendars.conflicts import (
    Taken,
    next_slot,
    of_line,
    of_quorum,
    of_release,
    of_trains,
    relations,
    slot_for_all,
)
from interlock.domain.calendars.entries import Entry
from interlock.domain.calendars.entry_times import EntryTimes
from interlock.domain.catalogue.calendar_file import CalendarEntry, zone_of
from interlock.domain.catalogue.train_file import Train
from interlock.domain.trains.departures import departures_between
from tests.examples import examples
from tests.unit.domain import samples

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SHOP = samples.service()


def closed(*spans: tuple[datetime, datetime], faults: tuple[str, ...] = ()) -> Calendars:
    sources = []
    for number, (start, end) in enumerate(spans):
        written = CalendarEntry.model_validate(
            {
                "name": f"f{number}",
                "title": f"Freeze {number}",
                "kind": "freeze",
                "from": f"{start:%Y-%m-%dT%H:%MZ}",
                "until": f"{end:%Y-%m-%dT%H:%MZ}",
            }
        )
        entry = Entry(calendar="calendars/x.yaml", key=written.name, title=written.title, kind="freeze", effect="deny")
        sources.append(EntryTimes(written, entry, zone_of("UTC"), public_holidays))
    return Calendars(sources, faults)


def taken(start: datetime, hours: float = 1, service: str = SHOP.name, what: str = "A train departs") -> Taken:
    end = start + hours * HOUR
    return Taken(service=service, environment="production", start=start, end=end, what=what)


def found(calendars: Calendars, *others: Taken, length: timedelta | None = HOUR, related: Any = None) -> list[Any]:
    return of_release(calendars, SHOP, "production", start=NOW, length=length, taken=others, related=related or {})


def test_a_release_that_is_in_nobodys_way_clashes_with_nothing() -> None:
    assert found(closed(), taken(NOW + HOUR), taken(NOW - HOUR), taken(NOW, service="till")) == []


def test_an_environment_that_is_taken_is_named_with_the_next_free_slot() -> None:
    (one,) = found(closed((NOW + 2 * HOUR, NOW + 4 * HOUR)), taken(NOW + HOUR / 2, 1.0))
    assert (one.kind, one.severity) == ("environment", "warning")
    assert one.next_free == NOW + 4 * HOUR, "after the train half an hour is left before the freeze"
    assert str(one) == (
        f"warning: production of {SHOP.name} is already booked at that time: A train departs. Next free slot: "
        "2027-03-01 16:00 UTC."
    )


def test_what_it_depends_on_is_not_changed_in_the_same_window() -> None:
    (one,) = found(closed(), taken(NOW, 3, "stock"), related={"stock": "which it depends on"})
    assert (one.kind, one.next_free) == ("dependency", NOW + 3 * HOUR)
    assert "stock, which it depends on, changes in the same window" in one.what


def test_a_window_that_is_shorter_than_past_releases_took() -> None:
    calendars = closed((NOW + 2 * HOUR, NOW + 5 * HOUR))
    (one,) = found(calendars, length=3 * HOUR)
    assert (one.kind, one.next_free) == ("window", NOW + 5 * HOUR)
    assert "may be changed for 2 hours only" in one.what
    assert "took up to 3 hours" in one.what
    assert found(calendars, length=2 * HOUR) == []
    assert found(calendars, length=None) == [], "nothing is known of past releases"


def test_a_time_that_is_closed_or_cannot_be_told() -> None:
    (one,) = found(closed((NOW - HOUR, NOW + HOUR)))
    assert (one.kind, one.severity, one.next_free) == ("window", "warning", NOW + HOUR)
    (broken,) = found(closed(faults=("calendars/x.yaml is broken.",)))
    assert (broken.severity, broken.next_free) == ("severe", None)


@examples(60)
@given(
    spans=st.lists(st.tuples(st.integers(0, 90), st.integers(1, 20)), max_size=4),
    busy=st.lists(st.tuples(st.integers(0, 90), st.integers(1, 20)), max_size=4),
    lasts=st.integers(1, 6),
)
def test_the_next_free_slot_is_the_first_hour_that_is_free_long_enough(
    spans: list[tuple[int, int]], busy: list[tuple[int, int]], lasts: int
) -> None:
    calendars = closed(*((NOW + start * HOUR, NOW + (start + length) * HOUR) for start, length in spans))
    others = [taken(NOW + start * HOUR, length) for start, length in busy]

    def is_free(at: datetime) -> bool:
        hours = [at + step * HOUR for step in range(lasts)]
        open_ = all(may_change(calendars, SHOP, "production", hour).open for hour in hours)
        return open_ and not any(one.start <= hour < one.end for one in others for hour in hours)

    expected = next(at for step in range(500) if is_free(at := NOW + step * HOUR))
    assert next_slot(calendars, SHOP, "production", NOW, lasts * HOUR, others) == expected


def test_what_is_closed_for_ever_has_no_free_slot() -> None:
    calendars = closed((NOW - HOUR, NOW + timedelta(days=900)))
    assert next_slot(calendars, SHOP, "production", NOW, HOUR, []) is None


def test_a_slot_for_all_is_open_to_each_for_long_enough() -> None:
    calendars = closed((NOW + 2 * HOUR, NOW + 3 * HOUR), (NOW + 4 * HOUR, NOW + 5 * HOUR))
    both = [SHOP, SHOP.model_copy(update={"name": "till"})]
    assert slot_for_all(calendars, both, "production", NOW, 2 * HOUR) == NOW
    assert slot_for_all(calendars, both, "production", NOW + HOUR, 2 * HOUR) == NOW + 5 * HOUR
    assert slot_for_all(calendars, [], "production", NOW, HOUR) == NOW
    assert slot_for_all(closed((NOW, NOW + timedelta(days=900))), both, "production", NOW, HOUR) is None


def test_a_release_that_is_under_way_comes_before_what_a_train_sends() -> None:
    (one,) = of_line("till", ["manual__1", "manual__2"])
    assert (one.kind, one.severity) == ("line", "note")
    assert one.what.startswith("till is being released by manual__1, manual__2; ")
    assert of_line("till", []) == []


# --- boards ----------------------------------------------------------------------------------------------------------


def test_a_board_that_cannot_come_to_its_quorum() -> None:
    rule = samples.board("ben cora", 2, "")
    assert of_quorum(rule, requester="rita") == []
    assert of_quorum(None, requester="ben") == []
    (one,) = of_quorum(rule, requester="rita", barred=["ben"])
    assert (one.kind, one.severity) == ("quorum", "severe")
    assert "cannot decide" in one.what


# --- trains ----------------------------------------------------------------------------------------------------------


def train(name: str, cron: str, *services: str, after: dict[str, list[str]] | None = None) -> Train:
    passengers = [{"service": one, "tags": "*", "after": (after or {}).get(one, [])} for one in services]
    said = {"name": name, "title": name.title(), "owner": "o", "time_zone": "UTC", "cadence": {"cron": cron}}
    return Train.model_validate({**said, "passengers": passengers})


def clash(*trains: Train, free: Any = None, **lengths: timedelta) -> list[Any]:
    end = NOW + timedelta(days=30)
    departures = {one.name: departures_between(one, lambda at: at, NOW, end) for one in trains}
    return of_trains(trains, departures, {name.replace("_", "-"): each for name, each in lengths.items()}, free=free)


def test_two_trains_with_one_passenger_that_depart_too_close() -> None:
    daily, weekly = train("daily", "0 20 * * *", "stock", "till"), train("weekly", "30 20 * * TUE", "till", "shop")
    (one,) = clash(daily, weekly)
    assert one.kind == "two_trains"
    assert one.what == (
        "Daily (daily) departs at 2027-03-02 20:00 UTC and Weekly (weekly) at 2027-03-02 20:30 UTC, both with till."
    )
    assert one.next_free == datetime(2027, 3, 2, 21, 30, tzinfo=UTC)
    assert clash(daily, train("weekly", "30 20 * * TUE", "shop")) == []
    assert clash(daily, train("weekly", "0 22 * * TUE", "till")) == []
    assert len(clash(daily, train("weekly", "0 22 * * TUE", "till"), till=3 * HOUR)) == 1


def test_the_next_free_slot_of_two_trains_is_one_of_what_they_share() -> None:
    asked = []

    def free(*what: Any) -> datetime:
        asked.append(what)
        return NOW

    daily, weekly = train("daily", "0 20 * * *", "stock", "till"), train("weekly", "30 20 * * TUE", "till", "shop")
    (one,) = clash(daily, weekly, free=free)
    assert one.next_free == NOW
    assert asked == [(["till"], "production", datetime(2027, 3, 2, 21, 30, tzinfo=UTC), HOUR)]


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ("till", {"stock": "which till depends on"}),
        ("stock", {"till": "which depends on stock"}),
        ("shop", {}),
    ],
)
def test_trains_say_what_depends_on_what(service: str, expected: dict[str, str]) -> None:
    one = train("daily", "0 20 * * *", "stock", "till", "shop", after={"till": ["stock"]})
    assert relations([one], service) == expected
