"""Artifacts as they come from elsewhere, made into the folder of a bundle: tar.gz and zip, or one file as it is.

Nothing in an archive is trusted: it has files, folders and links that stay inside, each once, and so many bytes.
"""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from interlock.adapters.artifacts import bundle
from interlock.domain.catalogue import Prebuilt
from interlock.domain.errors import DigestMismatch

from .places import Fetched

_FILES = (".jar", ".war", ".ear", ".whl")
_CHUNK = 1024 * 1024


def lay_out(fetched: Fetched, spec: Prebuilt, folder: Path) -> None:
    """Write the contents of an artifact to a folder, which must not exist.

    :raises DigestMismatch: it is no archive that can be taken, and what to write instead.
    """
    if (spec.contents or ("file" if fetched.name.endswith(_FILES) else "bundle")) == "file":
        folder.mkdir()
        shutil.copyfile(fetched.path, folder / PurePosixPath(fetched.name).name)
        return
    strip = spec.strip or fetched.around
    with open(fetched.path, "rb") as file:
        magic = file.read(4)
    if magic[:2] == b"\x1f\x8b":
        bundle.unpack(fetched.path, folder, strip=strip, name=fetched.name)
    elif magic == b"PK\x03\x04":
        _unzip(fetched, folder, strip)
    else:
        raise _distrust(fetched.name, "it is neither a tar.gz nor a zip")


def _unzip(fetched: Fetched, folder: Path, strip: int) -> None:
    folder.mkdir()
    try:
        with zipfile.ZipFile(fetched.path) as archive:
            members = archive.infolist()
            if len(members) > bundle.ENTRY_CAP:
                raise _distrust(fetched.name, f"it has more than {bundle.ENTRY_CAP} entries")
            inner = bundle.Stripped(fetched.name, strip)
            total = 0
            for member in members:
                if (name := inner.name(member.filename, is_folder=member.is_dir())) is not None:
                    target = bundle.place(fetched.name, name, folder, is_folder=member.is_dir())
                    total += _extract(archive, member, target, total, fetched.name)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error, EOFError, ValueError) as error:
        raise _distrust(fetched.name, str(error)) from error


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, total: int, name: str) -> int:
    """Write one entry; return its bytes."""
    mode = member.external_attr >> 16
    if member.flag_bits & 1:
        raise _distrust(name, f"{member.filename!r} is encrypted")
    if member.is_dir():
        target.mkdir(mode=0o755, exist_ok=True)
        return 0
    if target.exists():
        raise _distrust(name, f"{member.filename!r} is contained twice")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise _distrust(name, f"{member.filename!r} is neither a file nor a folder; in a tar.gz it may be a link")
    with archive.open(member) as source, open(target, "xb") as file:
        written = _copy(source, file, bundle.SIZE_CAP - total, name)
    os.chmod(target, 0o755 if mode & stat.S_IXUSR else 0o644)
    return written


def _copy(source: IO[bytes], file: IO[bytes], left: int, name: str) -> int:
    written = 0
    while chunk := source.read(_CHUNK):
        written += len(chunk)
        if written > left:
            raise _distrust(name, f"it has more than {bundle.SIZE_CAP} bytes")
        file.write(chunk)
    return written


def _distrust(name: str, what: str) -> DigestMismatch:
    return DigestMismatch(
        f"{name} cannot be taken: {what}.",
        rule="an artifact is a tar.gz or a zip of files, folders and links that stay inside, or one file "
        "(build.contents: file, in the service's file)",
        who="the service's team",
        next_step="have the pipeline pack the release as a tar.gz with appspec.yml at its top, and publish it anew",
    )
