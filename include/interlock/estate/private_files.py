"""Files that only their owner may read: passwords, keys, and what holds them."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Write a file for its owner only; a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    aside.replace(path)


def secret(path: Path, make: str | None = None) -> str:
    """Return the secret that a file keeps, made up when there is none yet.

    :param make: the secret to begin with, instead of random characters.
    """
    if not path.exists():
        write_private(path, make or secrets.token_urlsafe(32))
    return path.read_text()
