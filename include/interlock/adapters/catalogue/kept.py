"""The catalogue as pages read it that ask every few seconds: a file that has not changed is not parsed again.

Decisions do not read it from here: they read the files.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from interlock.domain.catalogue import BoardBook, Catalogue, Policy
from interlock.domain.catalogue.train_file import Train

from .catalogue import load_catalogue, load_rules, load_service
from .trains import load_train

_KEPT = 64
"""How many services are kept: those whose runs people look at."""

State = tuple[tuple[str, int, int, int], ...]
"""Each file of a catalogue by its path, with what changes when it is written or replaced."""


def kept_rules(folder: Path) -> tuple[Policy, BoardBook]:
    """Return the policy and the board, as :func:`~interlock.adapters.catalogue.catalogue.load_rules`."""
    return _rules(folder, state_of(folder))


def kept_service(folder: Path, name: str) -> Catalogue:
    """Return the policy, the board and one service, as ``load_service``."""
    return _service(folder, name, state_of(folder))


def kept_train(folder: Path, name: str) -> tuple[Catalogue, Train]:
    """Return the whole catalogue and one of its trains, as ``load_catalogue`` and ``load_train``."""
    return _train(folder, name, state_of(folder))


def kept_catalogue(folder: Path) -> Catalogue:
    """Return the whole catalogue, as ``load_catalogue``."""
    return _catalogue(folder, state_of(folder))


def state_of(folder: Path) -> State:
    """Look at each file of a catalogue and of the folders in it, and read none."""
    found: list[tuple[str, int, int, int]] = []
    for below in (folder, *(one for one in folder.glob("*") if one.is_dir())):
        try:
            with os.scandir(below) as listed:
                stats = ((one.path, one.stat()) for one in listed if one.is_file())
                found += [(path, stat.st_mtime_ns, stat.st_size, stat.st_ino) for path, stat in stats]
        except FileNotFoundError:
            found.append((str(below), 0, 0, 0))  # it, or a file in it, has just gone
    return tuple(sorted(found))


@lru_cache(maxsize=1)
def _rules(folder: Path, state: State) -> tuple[Policy, BoardBook]:
    return load_rules(folder)


@lru_cache(maxsize=_KEPT)
def _service(folder: Path, name: str, state: State) -> Catalogue:
    return load_service(folder, name)


@lru_cache(maxsize=1)
def _catalogue(folder: Path, state: State) -> Catalogue:
    return load_catalogue(folder)


@lru_cache(maxsize=1)
def _train(folder: Path, name: str, state: State) -> tuple[Catalogue, Train]:
    catalogue = _catalogue(folder, state)
    return catalogue, load_train(folder, catalogue.policy, catalogue.board, name)
