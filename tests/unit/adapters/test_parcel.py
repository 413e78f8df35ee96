"""Which bytes travel: what differs, or all of it."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import random
import tarfile
from pathlib import Path

import pytest

from interlock.adapters.artifacts.bundle import pack
from interlock.adapters.hosts._parcel import Difference, Parcel
from interlock.adapters.hosts.ssm import ssm_login
from interlock.domain.errors import AssetMissing
from interlock.domain.hosts.commands import Contents, InstalledRelease

OLD = InstalledRelease("1.0.0-aaaaaaaaaaaa", "1.0.0", None, "a" * 64, has_manifest=True)


def parcel_of(folder: Path, files: dict[str, bytes]) -> Parcel:
    tree = folder / f"tree-{random.getrandbits(32):08x}"
    tree.mkdir()
    for name, content in {"appspec.yml": b"version: 0.0\nos: linux\n", **files}.items():
        (tree / name).write_bytes(content)
    bundle = tree.with_suffix(".tar.gz")
    pack(tree, bundle)
    content = bundle.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return Parcel(Contents(f"1.1.0-{digest[:12]}", "1.1.0", "c" * 40, digest, len(content)), content)


def difference(old: Parcel, new: Parcel) -> Difference | None:
    return asyncio.run(_difference(old, new))


async def _difference(old: Parcel, new: Parcel) -> Difference | None:
    told = await old.manifest()

    async def ask() -> bytes:
        return told

    return await new.difference(OLD, ask)


def names(found: Difference | None) -> set[str]:
    assert found is not None
    with tarfile.open(fileobj=io.BytesIO(found.archive)) as archive:
        return {name for name in archive.getnames() if "/" in name}


def test_only_the_files_that_changed_travel(tmp_path: Path) -> None:
    same, was, now = (random.randbytes(300_000) for _ in range(3))
    old = parcel_of(tmp_path, {"same": same, "other": was[:1000]})
    new = parcel_of(tmp_path, {"same": same, "other": now[:1000]})
    assert names(difference(old, new)) == {"tree/other"}


def test_the_lists_for_the_host_are_of_every_file_and_the_manifest_is_as_it_keeps_it(tmp_path: Path) -> None:
    same = random.randbytes(300_000)
    old, new = parcel_of(tmp_path, {"same": same}), parcel_of(tmp_path, {"same": same, "a b": b"x"})
    found = difference(old, new)
    assert found is not None
    with tarfile.open(fileobj=io.BytesIO(found.archive)) as archive:
        read = {name: file.read() for name in archive.getnames() if (file := archive.extractfile(name))}
    assert read["names"].split(b"\0")[:-1] == [b"a b", b"appspec.yml", b"same"]
    assert f"{hashlib.sha256(b'x').hexdigest()} *a b\n".encode() in read["files"]
    assert read["copy"] == b"appspec.yml\0same\0"
    again = Parcel(new.contents, new.bundle)
    assert read["manifest"] == asyncio.run(again.manifest())


def test_only_the_blocks_that_changed_travel(tmp_path: Path) -> None:
    was = random.randbytes(1_000_000)
    now = was[:500_000] + b"x" + was[500_001:]
    found = difference(parcel_of(tmp_path, {"big": was}), parcel_of(tmp_path, {"big": now}))
    assert names(found) == {"patch/1"}
    assert found is not None
    assert len(found.archive) < 20_000


def test_a_changed_block_of_zeros_is_not_taken_for_one_that_did_not_change(tmp_path: Path) -> None:
    was = random.randbytes(1_000_000)
    now = was[: 8192 * 60] + bytes(8192) + was[8192 * 61 :]
    big = random.randbytes(2_000_000)  # so that the file may travel whole
    old, new = parcel_of(tmp_path, {"a": was, "big": big}), parcel_of(tmp_path, {"a": now, "big": big})
    assert names(difference(old, new)) == {"tree/a"}


def test_a_release_that_is_another_one_travels_whole(tmp_path: Path) -> None:
    old, new = (parcel_of(tmp_path, {"big": random.randbytes(500_000)}) for _ in range(2))
    assert difference(old, new) is None


def test_a_bundle_that_is_not_what_it_should_be_is_not_taken_apart(tmp_path: Path) -> None:
    same = random.randbytes(300_000)
    old, new = parcel_of(tmp_path, {"same": same}), parcel_of(tmp_path, {"same": same, "new": b"x"})
    damaged = Parcel(new.contents, new.bundle[:-1] + b"x")
    assert difference(old, damaged) is None


@pytest.mark.parametrize(
    "told", [b"", b"nonsense", gzip.compress(b"nonsense\n")], ids=["nothing", "nonsense", "packed"]
)
def test_a_host_that_tells_nonsense_gets_the_whole_bundle(tmp_path: Path, told: bytes) -> None:
    async def ask() -> bytes:
        return told

    new = parcel_of(tmp_path, {"big": random.randbytes(300_000)})
    assert asyncio.run(new.difference(OLD, ask)) is None


def test_one_host_is_asked_for_all_and_its_trouble_is_its_own(tmp_path: Path) -> None:
    same = random.randbytes(300_000)
    old, new = parcel_of(tmp_path, {"same": same}), parcel_of(tmp_path, {"same": same, "new": b"x"})
    asked: list[str] = []

    async def all_hosts() -> list[object]:
        told = await old.manifest()

        async def broken() -> bytes:
            asked.append("broken")
            await asyncio.sleep(0)
            raise OSError("the connection was lost")

        async def well() -> bytes:
            asked.append("well")
            return told

        hosts = [new.difference(OLD, broken), *(new.difference(OLD, well) for _ in range(5))]
        return list(await asyncio.gather(*hosts, return_exceptions=True))

    first, *others = asyncio.run(all_hosts())
    assert isinstance(first, OSError)
    assert all(isinstance(one, Difference) for one in others)
    assert asked == ["broken", "well"]


class Settings:
    conn_id = "hosts_by_ssm"

    def __init__(self, **extra: str) -> None:
        self.extra_dejson = extra


def test_a_connection_through_ssm_names_its_bucket() -> None:
    found = ssm_login(Settings(transfer_bucket="b"), lambda service: service)
    assert (found.ssm, found.s3, found.bucket, found.prefix) == ("ssm", "s3", "b", "interlock-transfer")
    with pytest.raises(AssetMissing, match="hosts_by_ssm lacks transfer_bucket"):
        ssm_login(Settings(), lambda service: service)
