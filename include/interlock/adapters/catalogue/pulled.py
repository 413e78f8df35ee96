"""A catalogue that lives in a git repository of its own: each commit is checked, and shown as a whole or not at all.

Below the place that an organisation chooses:

- ``repository.git``: what was fetched;
- ``commits/<commit>``: clones of the last commits;
- ``current``: a link to the clone of the commit that is in force. It is exchanged in one step, so that nothing reads a
  mixture of two commits.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from interlock.adapters.source.git import open_repository
from interlock.domain.errors import CatalogueError, ReleaseError

from .catalogue import what_is_wrong

CURRENT = "current"
KEPT = 3
"""So many commits are kept: what began to read one goes on reading it."""
WHO = "the person who changed the catalogue"


class Pulled(NamedTuple):
    """What is in force after a pull.

    :param folder: the catalogue; ``is_new``: another commit was in force before.
    """

    commit: str
    folder: Path
    is_new: bool


def pull(
    url: str, place: Path, *, ref: str = "main", below: str = "", login: str | None = None, password: str | None = None
) -> Pulled:
    """Bring the catalogue in a place to a branch, a tag or a commit of its repository.

    :param below: the folder of the catalogue in the repository; empty: it is the repository itself.
    :param login: for https, with ``password``.
    :raises CatalogueError: the commit has faults; the commit before stays in force.
    :raises TransientError: the repository cannot be fetched now.
    """
    place.mkdir(parents=True, exist_ok=True)
    repository = open_repository(url, place / "repository.git", login=login, password=password)
    commit = repository.resolve(ref).sha
    clone = place / "commits" / commit
    if not clone.is_dir():
        repository.checkout(commit, clone)
    folder = (clone / below).resolve()
    if not folder.is_relative_to(clone.resolve()):
        raise ReleaseError(f"{below} leads out of the repository.", next_step="name a folder of the repository")
    link, is_new = place / CURRENT, _in_force(place) != commit
    if is_new:
        _refuse_faults(folder, commit, link)
        aside = place / f".{CURRENT}-{os.getpid()}"
        with suppress(FileNotFoundError):
            aside.unlink()
        aside.symlink_to(Path("commits") / commit)
        os.replace(aside, link)
        _remove_old(place, commit)
    return Pulled(commit, link / below, is_new)


def _in_force(place: Path) -> str:
    """Return the commit that is in force; empty: none is."""
    try:
        return Path(os.readlink(place / CURRENT)).name
    except OSError:
        return ""


def _refuse_faults(folder: Path, commit: str, link: Path) -> None:
    if wrong := what_is_wrong(folder):
        stays = f"{_in_force(link.parent)} stays in force" if link.is_symlink() else "No commit is in force"
        listed = "\n\n".join(wrong)
        raise CatalogueError(
            f"The commit {commit} of the catalogue has faults, so it was not taken. {stays}.\n\n{listed}",
            rule="a catalogue with faults is not put in force",
            who=WHO,
            next_step="correct it in its repository",
        )


def _remove_old(place: Path, commit: str) -> None:
    """Remove all but the last commits."""
    clones = [path for path in (place / "commits").iterdir() if path.name != commit]
    for path in sorted(clones, key=lambda path: path.lstat().st_ctime)[: -(KEPT - 1)]:
        shutil.rmtree(path, ignore_errors=True)
