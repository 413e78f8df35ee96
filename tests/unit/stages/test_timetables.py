"""The timetable of trains, as Airflow's scheduler asks it."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction
from airflow.utils.types import DagRunType
from pendulum import instance

from interlock.domain.catalogue.train_file import Train
from interlock.locations import CATALOGUE
from interlock.stages.trains.timetables import TrainTimetable

SAID: dict[str, Any] = {
    "name": "weekly",
    "title": "Weekly",
    "owner": "the office",
    "time_zone": "Europe/Berlin",
    "cadence": {"cron": "0 20 * * TUE"},
    "boarding": {"opens": "P1D", "cut_off": "PT2H"},
    "passengers": [{"service": "bike-shop", "tags": "*"}],
}
TUESDAY = datetime(2099, 3, 3, 19, tzinfo=UTC)
"""20:00 in Berlin, in winter."""
FREEZE = """\
title: Calendar
owner: the office
time_zone: UTC
entries:
  - name: audit
    title: Audit
    kind: freeze
    from: {start:%Y-%m-%dT%H:%M}
    until: {end:%Y-%m-%dT%H:%M}
"""


@pytest.fixture
def calendars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalogue without calendars."""
    copy = Path(shutil.copytree(CATALOGUE, tmp_path / "catalogue"))
    shutil.rmtree(copy / "calendars")
    (copy / "calendars").mkdir()
    monkeypatch.setenv("INTERLOCK_CATALOGUE", str(copy))
    return copy / "calendars"


def ask(
    last: datetime | None = None,
    earliest: datetime | None = TUESDAY - timedelta(days=5),
    catchup: bool = False,
    **said: Any,
) -> DagRunInfo | None:
    table = TrainTimetable.deserialize(
        json.loads(json.dumps(TrainTimetable(Train.model_validate({**SAID, **said})).serialize()))
    )
    before = DataInterval(instance(last - timedelta(days=1)), instance(last)) if last else None
    restriction = TimeRestriction(earliest=instance(earliest) if earliest else None, latest=None, catchup=False)
    return table.next_dagrun_info(last_automated_data_interval=before, restriction=restriction)


def departure(*asked: Any, **said: Any) -> datetime:
    found = ask(*asked, **said)
    assert found is not None
    assert found.data_interval is not None
    assert found.run_after == found.data_interval.start == found.data_interval.end - timedelta(days=1)
    end: datetime = found.data_interval.end
    return end


def freeze(calendars: Path, start: datetime, hours: int) -> None:
    (calendars / "audit.yaml").write_text(FREEZE.format(start=start, end=start + timedelta(hours=hours)))


def test_a_run_is_made_when_boarding_opens_for_the_departure(calendars: Path) -> None:
    assert departure() == TUESDAY
    assert departure(TUESDAY) == TUESDAY + timedelta(days=7)
    assert departure(TUESDAY + timedelta(days=21)) == TUESDAY + timedelta(days=28, hours=-1), "summer time"


def test_a_calendar_that_changes_moves_the_next_departure_and_back(calendars: Path) -> None:
    freeze(calendars, TUESDAY - timedelta(hours=3), 20)
    assert departure() == TUESDAY + timedelta(hours=17)
    freeze(calendars, TUESDAY - timedelta(hours=3), 5)
    assert departure() == TUESDAY + timedelta(hours=2)
    (calendars / "audit.yaml").unlink()
    assert departure() == TUESDAY


def test_a_departure_that_was_made_is_not_made_again_when_the_calendar_changes(calendars: Path) -> None:
    freeze(calendars, TUESDAY - timedelta(hours=3), 20)
    assert departure(TUESDAY) == TUESDAY + timedelta(days=7)
    moved = departure()
    (calendars / "audit.yaml").unlink()
    assert departure(moved) == TUESDAY + timedelta(days=7)


def test_a_departure_in_a_freeze_is_dropped_if_the_train_says_so(calendars: Path) -> None:
    freeze(calendars, TUESDAY - timedelta(hours=3), 20)
    assert departure(freeze={"then": "drop"}) == TUESDAY + timedelta(days=7)
    assert departure(freeze={"farthest": "PT16H"}) == TUESDAY + timedelta(days=7)


def test_with_a_broken_catalogue_it_departs_as_planned(calendars: Path) -> None:
    freeze(calendars, TUESDAY - timedelta(hours=3), 20)
    (calendars / "broken.yaml").write_text("entries: [")
    assert departure() == TUESDAY
    (calendars.parent / "policy.yaml").write_text("name: [")
    assert departure() == TUESDAY


EVENT = "BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:a\nCATEGORIES:{kind}\n{lines}\nEND:VEVENT\nEND:VCALENDAR\n"
ODD = {
    "for ever": "DTSTART:20260101T000000Z\nDTEND:99991231T235959Z",
    "one of a series": "RECURRENCE-ID:20261201T100000Z\nDTSTART:20261201T100000Z\nDURATION:PT1H",
    "without an interval": "DTSTART:20260101T000000Z\nDURATION:PT1H\nRRULE:FREQ=HOURLY;INTERVAL=0",
    "since the year 1": "DTSTART:00010101T000000Z\nDURATION:PT1H\nRRULE:FREQ=HOURLY",
    "until the last year": "DTSTART:20260101T000000Z\nDURATION:PT1H\nRRULE:FREQ=YEARLY;UNTIL=99991231T235959Z",
    "no time": "DTSTART:\nRRULE:",
    "nothing": "",
}


@pytest.mark.parametrize("lines", ODD.values(), ids=ODD)
def test_no_calendar_leaves_a_train_without_its_next_departure(calendars: Path, lines: str) -> None:
    (calendars / "feed.ics").write_text(EVENT.format(kind="event", lines=lines))
    assert departure() == TUESDAY
    (calendars / "feed.ics").write_text(EVENT.format(kind="freeze", lines=lines))
    found = ask()
    assert found is None or found.data_interval.end >= TUESDAY


def test_a_calendar_at_a_url_is_not_fetched_by_the_scheduler(calendars: Path) -> None:
    text = FREEZE.split("    from:")[0] + "    ical: { url: https://calendar.invalid/x.ics }\n"
    (calendars / "far.yaml").write_text(text)
    assert departure() == TUESDAY
    freeze(calendars, TUESDAY - timedelta(hours=3), 5)
    assert departure() == TUESDAY + timedelta(hours=2)


def test_what_is_over_gets_no_run_but_boarding_that_is_late_opens_at_once(calendars: Path) -> None:
    now = datetime.now(UTC)
    found = ask(earliest=datetime(2026, 1, 1, tzinfo=UTC))
    assert found is not None
    assert found.data_interval is not None
    assert now < found.data_interval.end <= now + timedelta(days=8)
    hourly = ask(earliest=None, cadence={"cron": "30 * * * *"}, boarding={"opens": "P2D", "cut_off": "PT1H"})
    assert hourly is not None
    assert hourly.run_after < now


def test_an_enterprise_release_has_one_run(calendars: Path) -> None:
    said: dict[str, Any] = {"cadence": None, "target": {"at": "2099-03-03T20:00"}}
    assert departure(**said) == TUESDAY
    assert ask(TUESDAY, **said) is None


def test_a_train_off_schedule_has_no_run_until_its_file_says_otherwise(calendars: Path) -> None:
    assert ask(on_schedule=False) is None
    assert ask(TUESDAY, on_schedule=False) is None
    assert departure(on_schedule=True) == TUESDAY
    table = TrainTimetable(Train.model_validate({**SAID, "on_schedule": False}))
    assert table.summary == "off: 0 20 * * TUE Europe/Berlin"
    assert table.description.startswith(
        "Departs only when triggered (on_schedule: false). With a schedule, it departs 0"
    )


def test_the_ui_shows_when_it_departs(calendars: Path) -> None:
    table = TrainTimetable(Train.model_validate(SAID))
    assert table.summary == "0 20 * * TUE Europe/Berlin"
    assert table.description == (
        "Departs 0 20 * * TUE Europe/Berlin; boarding opens 1 day before, the manifest is frozen 2 hours before; "
        "a departure during a freeze moves to the next allowed time, by at most 48 hours."
    )
    assert len(table.description) < 1000, "Airflow keeps no more"


def test_a_run_is_named_by_its_departure(calendars: Path) -> None:
    table = TrainTimetable(Train.model_validate(SAID))
    interval = DataInterval(instance(TUESDAY - timedelta(days=1)), instance(TUESDAY))
    named = table.generate_run_id(run_type=DagRunType.SCHEDULED, run_after=interval.start, data_interval=interval)
    assert named == "scheduled__2099-03-03T19-00-00Z"
    assert table.infer_manual_data_interval(run_after=interval.start).end == interval.start
