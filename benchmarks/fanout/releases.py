"""Releases to measure with: a folder of noise, and the same with a hundredth of it changed."""

from __future__ import annotations

import hashlib
import os
import random
from dataclasses import dataclass
from pathlib import Path

from interlock.adapters.artifacts.bundle import pack
from interlock.domain.hosts.appspec import APPSPEC
from interlock.domain.records import release_name

_FILES = 100
_APPSPEC = "version: 0.0\nos: linux\nhooks: {ApplicationStart: [{location: restart, timeout: 60}]}\n"
_RESTART = '#!/bin/sh\ntouch "$INTERLOCK_SHARED/../restarted"\n'


@dataclass(frozen=True)
class Release:
    """A bundle, and what a host has that runs it."""

    name: str
    bundle: Path
    sha256: str
    files: dict[str, str]

    @property
    def environ(self) -> dict[str, str]:
        """The release as the contenders are told of it."""
        return {"FANOUT_VERSION": self.name, "FANOUT_BUNDLE": str(self.bundle), "FANOUT_SHA256": self.sha256}

    def runs_on(self, app: Path) -> bool:
        """Say whether a host runs this release, byte for byte."""
        current, release = app / "current", app / "releases" / self.name
        if not current.is_symlink() or current.resolve() != release.resolve() or not (app / "restarted").exists():
            return False
        return all(_sha256(current / name) == digest for name, digest in self.files.items())


def first(folder: Path, mib: float) -> Release:
    """Make a release: half of it one file, the other half many."""
    tree = folder / "tree"
    (tree / "lib").mkdir(parents=True)
    (tree / APPSPEC).write_text(_APPSPEC)
    (tree / "restart").write_text(_RESTART)
    size = int(mib * 1024 * 1024)
    (tree / "big").write_bytes(os.urandom(size // 2))
    for number in range(_FILES):
        (tree / "lib" / f"part-{number:03}").write_bytes(os.urandom(size // 2 // _FILES))
    return _packed(folder, tree, "1")


def second(folder: Path) -> Release:
    """Change a hundredth of the release that :func:`first` made: a place of the big file, and one of the small."""
    tree = folder / "tree"
    changed = bytearray((tree / "big").read_bytes())
    start = random.randrange(len(changed) // 2)
    changed[start : start + len(changed) // 100] = os.urandom(len(changed) // 100)
    (tree / "big").write_bytes(changed)
    part = tree / "lib" / "part-050"
    part.write_bytes(os.urandom(part.stat().st_size))
    return _packed(folder, tree, "2")


def _packed(folder: Path, tree: Path, version: str) -> Release:
    bundle = folder / f"bundle-{version}.tar.gz"
    pack(tree, bundle)
    files = {str(path.relative_to(tree)): _sha256(path) for path in tree.rglob("*") if path.is_file()}
    digest = _sha256(bundle)
    return Release(release_name(version, digest), bundle, digest, files)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
