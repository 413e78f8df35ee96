from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.domain.hosts.manifest import (
    LARGE,
    Manifest,
    block_digests,
    block_size,
    entry_of,
    parse_manifest,
)

NAMES = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\\"), min_size=1)


@given(st.dictionaries(NAMES, st.tuples(st.binary(max_size=50), st.booleans())))
def test_a_manifest_is_read_as_it_was_written(files: dict[str, tuple[bytes, bool]]) -> None:
    written = Manifest({path: entry_of(path, content, executable=x) for path, (content, x) in files.items()})
    read = parse_manifest(written.marks() + written.sums())
    assert [(one.path, one.sha256, one.executable) for one in read.files.values()] == [
        (one.path, one.sha256, one.executable) for one in written.files.values()
    ]


def test_a_large_file_has_blocks() -> None:
    entry = entry_of("big file", bytes(LARGE + 1), executable=False)
    assert len(entry.blocks) == 9
    assert parse_manifest(Manifest({"big file": entry}).marks() + Manifest({"big file": entry}).sums()).files == {
        "big file": entry
    }
    assert entry_of("small", bytes(LARGE - 1), executable=False).blocks == ()


@pytest.mark.parametrize("size", [0, 1, LARGE, 40 * 1024 * 1024, 3 * 1024**3])
def test_no_file_has_too_many_blocks(size: int) -> None:
    block = block_size(size)
    assert block % 8192 == 0
    assert size <= 4096 * block


def test_blocks_differ_where_the_content_does() -> None:
    old, new = bytes(100_000), bytearray(100_000)
    new[20_000] = 1
    different = [a != b for a, b in zip(block_digests(old), block_digests(bytes(new)), strict=True)]
    assert different.index(True) == 20_000 // 8192
    assert sum(different) == 1


@pytest.mark.parametrize("text", ["nonsense\n", "#b path\n", "#b path many 00\n", "0" * 64 + " path\n"])
def test_what_is_no_manifest_is_not_read(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_manifest(text)
