"""The objects of the embedded S3 in a folder, because moto keeps everything in memory.

A file per object: a line that says whose it is, then its bytes. It is written before the request is answered, so what
a client was told is there also after a crash of the estate.
"""

from __future__ import annotations

import hashlib
import json
import logging
import mimetypes
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from interlock.estate.settings import REGION

log = logging.getLogger(__name__)


def keep_objects(backend: Any, folder: Path) -> int:
    """Bring the objects of a folder to moto's S3, and have it keep there what is written and deleted.

    :param backend: moto's S3 of an account. :returns: how many objects there were.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    there = sum(_bring(backend, path) for path in sorted(folder.iterdir()))
    put, delete = backend.put_object, backend.delete_object

    def kept_put(bucket: str, key: str, value: bytes, *args: Any, **options: Any) -> Any:
        made = put(bucket, key, value, *args, **options)
        _write(_file_of(folder, bucket, key), bucket, key, made.value)
        return made

    def kept_delete(bucket: str, key: str, *args: Any, **options: Any) -> Any:
        deleted = delete(bucket, key, *args, **options)
        _file_of(folder, bucket, key).unlink(missing_ok=True)
        return deleted

    backend.put_object, backend.delete_object = _by_any_name(kept_put), _by_any_name(kept_delete)
    return there


def _by_any_name(function: Callable[..., Any]) -> Callable[..., Any]:
    """Take bucket and key by position, as moto gives them by name as well."""
    names = {"bucket_name": "bucket", "key_name": "key"}
    return lambda *args, **options: function(*args, **{names.get(name, name): it for name, it in options.items()})


def _bring(backend: Any, path: Path) -> int:
    if path.name.startswith("."):
        path.unlink()  # it was being written when the estate was killed: nobody was told that it is there
        return 0
    try:
        header, _, data = path.read_bytes().partition(b"\n")
        of = json.loads(header)
        bucket, key = str(of["bucket"]), str(of["key"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.error("The object in %s cannot be read and does not come back: %s", path, error)
        return 0
    if bucket not in backend.buckets:
        backend.create_bucket(bucket, REGION)
    made = backend.put_object(bucket, key, data)
    made.last_modified = datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(tzinfo=None)
    if kind := mimetypes.guess_type(key)[0]:
        made.set_metadata({"content-type": kind})
    return 1


def _file_of(folder: Path, bucket: str, key: str) -> Path:
    return folder / hashlib.sha256(f"{bucket}/{key}".encode()).hexdigest()


def _write(path: Path, bucket: str, key: str, value: bytes) -> None:
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(json.dumps({"bucket": bucket, "key": key}).encode() + b"\n")
            file.write(value)
        os.replace(aside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(aside)
        raise
