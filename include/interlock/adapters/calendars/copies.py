"""The copies of calendars at URLs that tasks have fetched, for pages and plans, which do not fetch themselves."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import gettempdir
from urllib.parse import urlsplit

from interlock.domain.catalogue.calendar_file import Feed
from interlock.domain.catalogue.values import in_words

FOLDER = "INTERLOCK_CALENDAR_COPIES"
"""Environment variable: the folder of this machine for copies of calendars."""


def copies_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Return the folder with the copies of calendars at URLs: the one that is set, or below the state folder, or the
    machine's own.

    :param environ: none: this process's own.
    """
    environ = os.environ if environ is None else environ
    if own := environ.get(FOLDER):
        return Path(own)
    state = environ.get("INTERLOCK_STATE")
    return Path(state) / "calendars" if state else Path(gettempdir()) / f"interlock-calendars-{os.getuid()}"


class CopiesThere:
    """Gives the existing copies, however old.

    :ivar notes: notes for the readers of the calendars; the addresses, which may
        be as good as passwords, are not in it.
    """

    def __init__(self, folder: Path, *, now: datetime | None = None) -> None:
        self._folder, self._now = folder, now
        self.notes: list[str] = []

    def __call__(self, feed: Feed) -> Path | None:
        """Return the copy of the calendar at a URL; None: no copy exists."""
        from .feeds import path_of_copy  # not at the top: for catalogues that name a URL

        path = path_of_copy(self._folder, feed)
        try:
            fetched = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        except OSError:
            self._note(f"A calendar at {_host(feed)} is not shown, because it has not been fetched yet.")
            return None
        if (self._now or datetime.now(UTC)) - fetched > feed.oldest:
            self._note(
                f"The copy of a calendar at {_host(feed)} is from {fetched:%Y-%m-%d %H:%M} UTC. If the calendar "
                f"cannot be fetched again, no changes are allowed (ical.oldest: {in_words(feed.oldest)})."
            )
        return path

    def _note(self, what: str) -> None:
        if what not in self.notes:
            self.notes.append(what)


def _host(feed: Feed) -> str:
    return urlsplit(str(feed.url)).hostname or "a URL"
