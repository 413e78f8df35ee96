"""The copies of calendars at URLs that tasks have fetched, for pages and plans, which do not fetch themselves."""

from __future__ import annotations

import json
import logging
import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from interlock.domain.catalogue.calendar_file import Feed
from interlock.domain.catalogue.values import in_words

if TYPE_CHECKING:
    from interlock.adapters.artifacts.store import ArtifactStore

log = logging.getLogger(__name__)
PLACE = "calendars"
"""The folder of the artifact store with copies that machines share."""

FOLDER = "INTERLOCK_CALENDAR_COPIES"
"""Environment variable: the folder of this machine for copies of calendars, where machines share none."""


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


def shared_copies(open_store: Callable[[], ArtifactStore]) -> SharedCopies | None:
    """Return the copies of other machines; none: this machine's folder is that of all."""
    return SharedCopies(open_store) if os.environ.get(FOLDER) else None


class SharedCopies:
    """Copies that machines without a common folder share, in the artifact store below ``calendars/``.

    Workers fetch calendars and leave copies there; pages take them from there. A release decides by what its worker
    has fetched, and by no copy of others: who may write into the store must not be able to open what is frozen.

    :param open_store: opens the store, when it is needed.
    """

    def __init__(self, open_store: Callable[[], ArtifactStore]) -> None:
        self._open_store = open_store

    def give(self, path: Path) -> None:
        """Leave a copy for other machines; what fails is logged."""
        kept = {"fetched": path.stat().st_mtime, "calendar": b64encode(path.read_bytes()).decode()}
        try:
            with TemporaryDirectory(prefix="interlock-") as folder:
                Path(folder, path.with_suffix(".json").name).write_text(json.dumps(kept), "utf-8")
                self._open_store().put_tree(Path(folder), PLACE)
        except Exception as error:  # of any kind: the calendar itself was read
            log.warning("A calendar's copy could not be left for other machines: %s", error)

    def take(self, path: Path) -> None:
        """Bring another machine's copy to its place here, if it is later than the one that is there."""
        try:
            kept = json.loads(self._open_store().read(f"{PLACE}/{path.with_suffix('.json').name}"))
            fetched, calendar = float(kept["fetched"]), b64decode(kept["calendar"], validate=True)
            if path.exists() and path.stat().st_mtime >= fetched:
                return
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with NamedTemporaryFile("wb", dir=path.parent, prefix=".taken-", delete=False) as file:
                file.write(calendar)
            os.utime(file.name, (fetched, fetched))
            os.replace(file.name, path)
        except Exception as error:  # of any kind: there is none, or the page does without
            log.info("No copy of a calendar was taken from other machines: %s", error)


class CopiesThere:
    """Gives the existing copies, however old.

    :param shared: where copies of other machines are, for those that are not here, or older than their refresh.
    :ivar notes: notes for the readers of the calendars; the addresses, which may
        be as good as passwords, are not in it.
    """

    def __init__(self, folder: Path, *, now: datetime | None = None, shared: SharedCopies | None = None) -> None:
        self._folder, self._now, self._shared = folder, now, shared
        self.notes: list[str] = []

    def __call__(self, feed: Feed) -> Path | None:
        """Return the copy of the calendar at a URL; None: no copy exists."""
        from .feeds import path_of_copy  # not at the top: for catalogues that name a URL

        path = path_of_copy(self._folder, feed)
        if self._shared and self._age(path) > feed.refresh:
            # Apart from what is fetched here, by which releases decide if this machine runs tasks, too.
            theirs = path_of_copy(self._folder / "of-others", feed)
            self._shared.take(theirs)
            path = min(path, theirs, key=self._age)
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

    def _age(self, path: Path) -> timedelta:
        """Return how old a copy is; one that is not there is older than any."""
        try:
            return (self._now or datetime.now(UTC)) - datetime.fromtimestamp(path.stat().st_mtime, UTC)
        except OSError:
            return timedelta.max

    def _note(self, what: str) -> None:
        if what not in self.notes:
            self.notes.append(what)


def _host(feed: Feed) -> str:
    return urlsplit(str(feed.url)).hostname or "a URL"
