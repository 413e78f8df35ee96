"""A release on its way to hosts: the whole bundle, or only what differs from a release that they have.

What differs travels as an archive: ``tree/`` has the files that are new or changed, all folders and links; ``copy``
names the files that the host copies from the release that it has; ``patches`` names large files that changed a little,
and ``patch/`` has the changed blocks of each, between zeros that the host skips (compressed, these weigh nothing). It
copies and does not link: a program that writes to a file of its own, or a hook that changes an owner, would change both
releases. Lists are as the host's tools take them: there each conversion would be a process more.

What comes out is checked on the host file by file before it becomes a release; the list of digests is made here from
the bundle, whose own digest is checked first. Whenever anything is odd, the whole bundle travels.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import logging
import tarfile
import zlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from interlock.domain.hosts.commands import Contents, InstalledRelease
from interlock.domain.hosts.manifest import (
    MARKER,
    MIN_BLOCK_BYTES,
    FileEntry,
    Manifest,
    block_digests,
    block_size,
    can_be_listed,
    entry_of,
    parse_manifest,
)

log = logging.getLogger(__name__)

_WORTH_IT = 0.6
"""A difference larger than this share of the bundle is not worth the work on the host."""

_SMALL = 256 * 1024
"""A bundle with fewer bytes travels whole: a connection costs more than what could be saved."""

_MAX_PATCHES = 32  # each costs two programs on the host
_MAX_MANIFEST_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference between two releases, and its digest."""

    archive: bytes
    sha256: str


class Parcel:
    """One release for all hosts; differences are created once for each earlier release."""

    def __init__(self, contents: Contents, bundle: bytes) -> None:
        self.contents, self.bundle = contents, bundle
        self._manifest: Manifest | None = None
        self._packed = b""
        self._made: asyncio.Task[bytes] | None = None
        self._differences: dict[str, asyncio.Task[Difference | None]] = {}

    def begin(self) -> asyncio.Task[bytes]:
        """Begin to read the bundle, if that has not begun: hosts can be connected to meanwhile."""
        if self._made is None:
            self._made = asyncio.ensure_future(asyncio.to_thread(self._make_manifest))
        return self._made

    async def manifest(self) -> bytes:
        """Return the manifest, compressed; empty if the release has none."""
        return await asyncio.shield(self.begin())

    async def difference(self, base: InstalledRelease, ask: Callable[[], Awaitable[bytes]]) -> Difference | None:
        """Return what differs from a release that a host has; None if the whole bundle is to travel.

        :param ask: asks that host for its manifest of it; only the first host that has it is asked.
        """
        key = f"{base.name} {base.sha256}"
        while True:
            making = self._differences.get(key)
            if making is None:
                making = self._differences[key] = asyncio.ensure_future(self._make_difference(base, ask))
                try:
                    return await making
                except BaseException:
                    self._differences.pop(key, None)  # that host's trouble is not the others'
                    raise
            try:
                return await asyncio.shield(making)
            except Exception:
                if self._differences.get(key) is making:
                    del self._differences[key]
                log.debug("Another host could not list the files of %s, so this host is asked", base.name)

    async def _make_difference(self, base: InstalledRelease, ask: Callable[[], Awaitable[bytes]]) -> Difference | None:
        packed = await self.manifest()
        if not packed or self._manifest is None:
            return None
        told = await ask()
        try:
            archive = await asyncio.to_thread(_archive, self.bundle, self._manifest, packed, _unpacked(told))
        except (ValueError, OSError, EOFError, zlib.error, tarfile.TarError) as error:
            log.warning("The full release is sent, because its difference to %s is not known: %s", base.name, error)
            return None
        if len(archive) > _WORTH_IT * len(self.bundle):
            return None
        return Difference(archive, hashlib.sha256(archive).hexdigest())

    def _make_manifest(self) -> bytes:
        if hashlib.sha256(self.bundle).hexdigest() != self.contents.sha256:
            return b""  # the host will find that, too, and say so
        if len(self.bundle) < _SMALL:
            return b""
        try:
            self._manifest = _read_manifest(self.bundle)
        except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
            log.warning("%s has no manifest: %s", self.contents.release, error)
            return b""
        if self._manifest is None:
            return b""
        self._packed = gzip.compress(_encoded(self._manifest.marks() + self._manifest.sums()), 6, mtime=0)
        return self._packed


def _read_manifest(bundle: bytes) -> Manifest | None:
    """List the files of a bundle; None if the tools on a host could not read the list."""
    files: dict[str, FileEntry] = {}
    with tarfile.open(fileobj=io.BytesIO(bundle), mode="r:gz") as archive:
        for member in archive:
            path = _path(member)
            if not member.isreg() or path == MARKER:
                continue
            source = archive.extractfile(member)
            content = source.read() if source else b""
            files[path] = entry_of(path, content, executable=bool(member.mode & 0o100))
    return Manifest(files) if can_be_listed(files) else None


def _path(member: tarfile.TarInfo) -> str:
    return member.name.removeprefix("./").rstrip("/")


def _unpacked(told: bytes) -> Manifest:
    with gzip.open(io.BytesIO(told)) as file:
        text = file.read(_MAX_MANIFEST_BYTES)
    return parse_manifest(text.decode(errors="surrogateescape"))


def _archive(bundle: bytes, new: Manifest, packed: bytes, old: Manifest) -> bytes:
    """Return the difference between two releases.

    :param packed: the new one's manifest, as the host keeps it.
    """
    patchable = _patchable(new, old)
    copied: list[str] = []
    patches: list[str] = []
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(bundle), mode="r:gz") as source,
        tarfile.open(fileobj=out, mode="w:gz", compresslevel=6, format=tarfile.PAX_FORMAT) as archive,
    ):
        for folder in ("tree", "patch"):
            archive.addfile(_folder(folder))
        for member in source:
            path = _path(member)
            if path in (MARKER, "", "."):
                continue
            if member.isreg() and _same(new.files[path], old.files.get(path)):
                copied.append(path)
                continue
            content = _content(source, member)
            patch = _patch(content, old.files[path]) if path in patchable else None
            if patch is None:
                member.name, member.pax_headers = f"tree/{path}", {}
                archive.addfile(member, io.BytesIO(content) if member.isreg() else None)
            else:
                copied.append(path)
                patches.append(f"{len(patches) + 1} {patch.start} {patch.length} {path}\n")
                _add(archive, f"patch/{len(patches)}", patch.packed)
        _add(archive, "patches", _encoded("".join(patches)))
        _add(archive, "copy", _names(copied))
        _add(archive, "executable", _names(one.path for one in new.files.values() if one.executable))
        _add(archive, "names", _names(new.files))
        _add(archive, "files", _encoded("".join(f"{one.sha256} *{one.path}\n" for one in new.files.values())))
        _add(archive, "manifest", packed)
    return out.getvalue()


def _names(paths: Iterable[str]) -> bytes:
    return _encoded("".join(f"{path}\0" for path in paths))


def _same(new: FileEntry, old: FileEntry | None) -> bool:
    return old is not None and old.sha256 == new.sha256


def _patchable(new: Manifest, old: Manifest) -> set[str]:
    """Return the large files that changed and that the host has; the largest, if there are many."""
    found = [
        entry
        for path, entry in new.files.items()
        if entry.blocks and (was := old.files.get(path)) and was.blocks and not _same(entry, was)
    ]
    return {entry.path for entry in sorted(found, key=lambda entry: -entry.size)[:_MAX_PATCHES]}


@dataclass(frozen=True, slots=True)
class _Patch:
    """The part of a file from its first changed block to its last.

    :param start: in blocks of :data:`MIN_BLOCK_BYTES`.
    :param length: to which the file is cut, or ``-``.
    """

    start: int
    length: str
    packed: bytes


def _patch(content: bytes, old: FileEntry) -> _Patch | None:
    """Return the changed blocks of a file between zeros; None if that does not do or is not worth it."""
    step = block_size(old.size)
    digests = block_digests(content, step)
    changed = [n for n, digest in enumerate(digests) if n >= len(old.blocks) or digest != old.blocks[n]]
    if len(changed) * step > _WORTH_IT * len(content):
        return None
    first, end = (changed[0], changed[-1] + 1) if changed else (0, 0)
    part = bytearray((end - first) * step)
    for number in changed:
        block = content[number * step : (number + 1) * step]
        if any(not block[at : at + MIN_BLOCK_BYTES].strip(b"\0") for at in range(0, len(block), MIN_BLOCK_BYTES)):
            return None  # the host would skip it
        part[(number - first) * step : (number - first) * step + len(block)] = block
    del part[len(content) - first * step :]
    length = str(len(content)) if len(content) < old.size else "-"
    return _Patch(first * (step // MIN_BLOCK_BYTES), length, gzip.compress(bytes(part), 6, mtime=0))


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _content(source: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = source.extractfile(member) if member.isreg() else None
    return file.read() if file else b""


def _folder(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    return entry


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    archive.addfile(entry, io.BytesIO(content))
