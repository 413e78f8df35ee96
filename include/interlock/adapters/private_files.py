"""Files that are replaced as a whole, and files that only their owner may read: passwords and keys."""

from __future__ import annotations

import os
import secrets
import threading
from pathlib import Path


def write_whole(path: Path, text: str, mode: int = 0o666) -> None:
    """Write a file; a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    with open(aside, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, as :func:`write_whole` does."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(path, text, 0o600)


def secret(path: Path, make: str | None = None) -> str:
    """Return the secret in a file, which is written if it does not exist.

    :param make: the secret to write, instead of random characters.
    """
    if not path.exists():
        write_private(path, make or secrets.token_urlsafe(32))
    return path.read_text()
