"""The copies of calendars at URLs, as whoever fetches nothing finds them."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from interlock.adapters.calendars.copies import CopiesThere, copies_folder
from interlock.adapters.calendars.feeds import path_of_copy
from interlock.domain.catalogue.calendar_file import Feed

FEED = Feed(url="https://calendars.example/secret-of-theirs.ics")
NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)


def kept(folder: Path, age: timedelta) -> Path:
    path = path_of_copy(folder, FEED)
    path.write_text("BEGIN:VCALENDAR\nEND:VCALENDAR\n")
    at = (NOW - age).timestamp()
    os.utime(path, (at, at))
    return path


def test_copies_are_below_the_state_folder_or_the_machines_own() -> None:
    assert copies_folder({"INTERLOCK_STATE": "/srv/state"}) == Path("/srv/state/calendars")
    assert copies_folder({}).name == f"interlock-calendars-{os.getuid()}"


def test_a_copy_that_is_there_is_taken_and_nothing_is_said(tmp_path: Path) -> None:
    path = kept(tmp_path, timedelta(hours=30))
    found = CopiesThere(tmp_path, now=NOW)
    assert (found(FEED), found.notes) == (path, [])


def test_what_was_never_fetched_is_left_out_and_said_without_its_address(tmp_path: Path) -> None:
    found = CopiesThere(tmp_path / "not-there", now=NOW)
    assert found(FEED) is None
    assert found.notes == ["A calendar at calendars.example is not shown, because it has not been fetched yet."]


def test_a_copy_that_counts_for_nothing_any_more_is_shown_and_said_to_be_old(tmp_path: Path) -> None:
    path = kept(tmp_path, timedelta(days=3))
    found = CopiesThere(tmp_path, now=NOW)
    assert found(FEED) == path
    assert found.notes == [
        "The copy of a calendar at calendars.example is from 2027-02-26 12:00 UTC. If the calendar cannot be fetched "
        "again, no changes are allowed (ical.oldest: 2 days)."
    ]
