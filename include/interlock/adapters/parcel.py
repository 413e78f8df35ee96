"""A release on its way to hosts: the whole bundle, or only what differs from a release that they have.

What differs travels as an archive: ``tree/`` has the files that are new or changed, all folders and links; ``patch/``
has, for large files of which little changed, the changed blocks between zeros (compressed, these weigh nothing), and
``patches`` says which file each of them is for. The host copies the rest from the release that it has. It copies and
does not link: a program that writes to a file of its own, or a hook that changes an owner, would change both releases.

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
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from include.interlock.domain.host_commands import Contents, InstalledRelease
from include.interlock.domain.manifest import (
    MARKER,
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

_MOST_PATCHES = 32  # each costs two programs on the host
_MANIFEST_LIMIT = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Difference:
    """What makes a release out of another.

    :param manifest_sha256: of the manifest as it travels, which says what must come out.
    """

    base: str
    archive: bytes
    manifest_sha256: str


class Parcel:
    """One release for all hosts; differences are made once for each release that hosts come from."""

    def __init__(self, contents: Contents, bundle: bytes) -> None:
        self.contents, self.bundle = contents, bundle
        self._manifest: Manifest | None = None
        self._packed = b""
        self._made: asyncio.Task[bytes] | None = None
        self._differences: dict[str, asyncio.Task[Difference | None]] = {}

    async def manifest(self) -> bytes:
        """Return the manifest, compressed; nothing if the release has none."""
        if self._made is None:
            self._made = asyncio.ensure_future(asyncio.to_thread(self._make_manifest))
        return await asyncio.shield(self._made)

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
                    del self._differences[key]  # that host's trouble is not the others'
                    raise
            try:
                return await asyncio.shield(making)
            except Exception:
                log.debug("Another host could not say what %s consists of: this one is asked", base.name)

    async def _make_difference(self, base: InstalledRelease, ask: Callable[[], Awaitable[bytes]]) -> Difference | None:
        packed = await self.manifest()
        if not packed or self._manifest is None:
            return None
        told = await ask()
        try:
            archive = await asyncio.to_thread(_archive, self.bundle, self._manifest, _unpacked(told))
        except (ValueError, OSError, EOFError, zlib.error, tarfile.TarError) as error:
            log.warning("Sent whole, for what differs from %s cannot be told: %s", base.name, error)
            return None
        if len(archive) > _WORTH_IT * len(self.bundle):
            return None
        return Difference(base.name, archive, hashlib.sha256(packed).hexdigest())

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
        text = self._manifest.text().encode(errors="surrogateescape")
        self._packed = gzip.compress(text, 6, mtime=0)
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
    text = zlib.decompressobj(wbits=31).decompress(told, _MANIFEST_LIMIT)
    return parse_manifest(text.decode(errors="surrogateescape"))


def _archive(bundle: bytes, new: Manifest, old: Manifest) -> bytes:
    """Return what differs between two releases."""
    patched = _patchable(new, old)
    patches: list[str] = []
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(bundle), mode="r:gz") as source,
        tarfile.open(fileobj=out, mode="w:gz", compresslevel=6, format=tarfile.PAX_FORMAT) as archive,
    ):
        archive.addfile(_folder("tree"))
        archive.addfile(_folder("patch"))
        for member in source:
            path = _path(member)
            if path in (MARKER, "", ".") or (member.isreg() and _same(new.files[path], old.files.get(path))):
                continue
            content = _content(source, member)
            patch = _patch(content, old.files[path]) if path in patched else None
            if patch is None:
                member.name = f"tree/{path}"
                member.pax_headers = {}
                archive.addfile(member, io.BytesIO(content) if member.isreg() else None)
            else:
                number = len(patches) + 1
                patches.append(f"{number} {_cut_to(content, old.files[path])} {path}\n")
                _add(archive, f"patch/{number}", patch)
        _add(archive, "patches", "".join(patches).encode(errors="surrogateescape"))
    return out.getvalue()


def _same(new: FileEntry, old: FileEntry | None) -> bool:
    return old is not None and old.sha256 == new.sha256


def _patchable(new: Manifest, old: Manifest) -> set[str]:
    """Return the large files of which little changed; the largest, if there are many."""
    found = [
        entry
        for path, entry in new.files.items()
        if entry.blocks and (was := old.files.get(path)) and was.blocks and not _same(entry, was)
    ]
    return {entry.path for entry in sorted(found, key=lambda entry: -entry.size)[:_MOST_PATCHES]}


def _patch(content: bytes, old: FileEntry) -> bytes | None:
    """Return the changed blocks of a file between zeros, compressed; None if that does not do or is not worth it."""
    step = block_size(old.size)
    digests = block_digests(content, step)
    packer = zlib.compressobj(6, wbits=31)
    parts, changed, zeros = [], 0, b"\0" * step
    for number, digest in enumerate(digests):
        block = content[number * step : (number + 1) * step]
        if number < len(old.blocks) and digest == old.blocks[number]:
            parts.append(packer.compress(zeros[: len(block)]))
            continue
        if not block.strip(b"\0"):
            return None  # it would be taken for one that did not change
        changed += len(block)
        parts.append(packer.compress(block))
    if changed > _WORTH_IT * len(content):
        return None
    return b"".join([*parts, packer.flush()])


def _cut_to(content: bytes, old: FileEntry) -> str:
    return str(len(content)) if len(content) < old.size else "-"


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
