"""The files of a release, and how they differ from another release.

A manifest is text:

  #x PATH                 an executable file
  #b PATH SIZE DIGESTS    the digests of a large file's blocks, one after the other
  SHA256  PATH            a file, as ``sha256sum`` writes it, which checks this part on a host
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MARKER = ".interlock.json"
"""The file at the top of a release that Interlock writes itself."""

LARGE = 64 * 1024
"""Bytes from which on a file is looked at block by block."""

MIN_BLOCK_BYTES = 8 * 1024
"""Bytes; every block is a multiple of it."""

_MAX_BLOCKS = 4096
_DIGITS = 16  # of a block's digest: a mistake would be found on the host, where the whole file's is checked


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a release.

    :param blocks: the digests of its blocks; empty for a small file.
    """

    path: str
    sha256: str
    size: int
    executable: bool = False
    blocks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a release."""

    files: dict[str, FileEntry]

    def sums(self) -> str:
        """Return the files' digests, as hosts check them."""
        return "".join(f"{one.sha256}  {one.path}\n" for one in self.files.values())

    def marks(self) -> str:
        """Return what else is known of the files."""
        lines = [f"#x {one.path}\n" for one in self.files.values() if one.executable]
        lines += [f"#b {one.path} {one.size} {''.join(one.blocks)}\n" for one in self.files.values() if one.blocks]
        return "".join(lines)


def entry_of(path: str, content: bytes, *, executable: bool) -> FileEntry:
    """Describe a file."""
    blocks = block_digests(content) if len(content) >= LARGE else ()
    return FileEntry(path, hashlib.sha256(content).hexdigest(), len(content), executable, blocks)


def block_size(size: int) -> int:
    """Return the size of the blocks of a file: a power of two, so that there are not too many."""
    block = MIN_BLOCK_BYTES
    while size > block * _MAX_BLOCKS:
        block *= 2
    return block


def block_digests(content: bytes, block: int | None = None) -> tuple[str, ...]:
    """Return the digests of a file's blocks, the last of which may be shorter."""
    step, view = block or block_size(len(content)), memoryview(content)
    return tuple(
        hashlib.sha256(view[start : start + step]).hexdigest()[:_DIGITS] for start in range(0, len(content), step)
    )


def can_be_listed(paths: Iterable[str]) -> bool:
    """Say whether the tools on a host can read these names from lines."""
    return not any("\n" in path or "\\" in path for path in paths)


def parse_manifest(text: str) -> Manifest:
    """Read a manifest that a host gives back; ValueError if it is none."""
    sums: dict[str, str] = {}
    executable: set[str] = set()
    blocks: dict[str, tuple[int, tuple[str, ...]]] = {}
    for line in text.removesuffix("\n").split("\n") if text else ():
        if line.startswith("#x "):
            executable.add(line[3:])
        elif line.startswith("#b "):
            path, size, digests = line[3:].rsplit(" ", 2)
            blocks[path] = int(size), tuple(_cut(digests))
        elif len(line) > 66 and line[64:66] == "  ":
            sums[line[66:]] = line[:64]
        else:
            raise ValueError(f"{line[:80]!r} is not a valid line of a manifest")
    return Manifest(
        {path: FileEntry(path, digest, *_sized(blocks.get(path), path in executable)) for path, digest in sums.items()}
    )


def _sized(found: tuple[int, tuple[str, ...]] | None, executable: bool) -> tuple[int, bool, tuple[str, ...]]:
    size, blocks = found or (0, ())
    return size, executable, blocks


def _cut(digests: str) -> Sequence[str]:
    return [digests[start : start + _DIGITS] for start in range(0, len(digests), _DIGITS)]
