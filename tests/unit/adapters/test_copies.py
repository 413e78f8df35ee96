"""The copies of calendars at URLs, as whoever fetches nothing finds them."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from interlock.adapters.artifacts.store import ArtifactStore, Folder
from interlock.adapters.calendars.copies import FOLDER, CopiesThere, SharedCopies, copies_folder, shared_copies
from interlock.adapters.calendars.feeds import path_of_copy
from interlock.domain.catalogue.calendar_file import Feed
from interlock.domain.errors import AssetMissing

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


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Callable[[], ArtifactStore]]:
    """The folders of two machines, which have nothing in common but the artifact store."""
    monkeypatch.setenv(FOLDER, str(tmp_path / "worker"))
    store = ArtifactStore(Folder(tmp_path / "store"))
    for name in ("worker", "api-server"):
        (tmp_path / name).mkdir()
    return tmp_path / "worker", tmp_path / "api-server", lambda: store


def test_a_page_shows_what_a_worker_has_fetched(machines: tuple[Path, Path, Callable[[], ArtifactStore]]) -> None:
    worker, api_server, store = machines
    fetched = kept(worker, timedelta(minutes=5))
    shared = shared_copies(store)
    assert shared
    assert CopiesThere(api_server, now=NOW, shared=shared)(FEED) is None, "nobody has left any"
    shared.give(fetched)
    shown = CopiesThere(api_server, now=NOW, shared=shared)(FEED)
    assert shown
    assert shown.read_bytes() == fetched.read_bytes()
    assert shown.stat().st_mtime == fetched.stat().st_mtime, "its age is that of the fetching"


def test_the_latest_copy_is_shown(machines: tuple[Path, Path, Callable[[], ArtifactStore]]) -> None:
    worker, api_server, store = machines
    shared = SharedCopies(store)
    shared.give(kept(worker, timedelta(hours=2)))
    own = kept(api_server, timedelta(hours=1))
    assert CopiesThere(api_server, now=NOW, shared=shared)(FEED) == own
    shared.give(kept(worker, timedelta(minutes=30)))
    assert CopiesThere(api_server, now=NOW, shared=shared)(FEED) != own


def test_no_copy_of_others_comes_to_where_releases_look(
    machines: tuple[Path, Path, Callable[[], ArtifactStore]],
) -> None:
    """Whoever may write into the store must not be able to open what is frozen."""
    worker, api_server, store = machines
    shared = SharedCopies(store)
    shared.give(kept(worker, timedelta()))
    assert CopiesThere(api_server, now=NOW, shared=shared)(FEED)
    assert not path_of_copy(api_server, FEED).exists()


def test_a_store_that_does_not_answer_takes_no_page_away(tmp_path: Path) -> None:
    def broken() -> ArtifactStore:
        raise AssetMissing("The store is gone.")

    shared = SharedCopies(broken)
    path = kept(tmp_path, timedelta(days=1))
    shared.give(path)
    assert CopiesThere(tmp_path, now=NOW, shared=shared)(FEED) == path


def test_where_machines_share_a_folder_nothing_is_given_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER, raising=False)
    assert shared_copies(lambda: ArtifactStore(Folder(Path("/nowhere")))) is None
    assert copies_folder({FOLDER: "/var/lib/calendars", "INTERLOCK_STATE": "/srv"}) == Path("/var/lib/calendars")
