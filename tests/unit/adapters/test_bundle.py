from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.adapters.artifacts import bundle
from interlock.domain.canonical import sha256_of
from interlock.domain.errors import BuildFailed, DigestMismatch

APPSPEC = "version: 0.0\nos: linux\nhooks:\n  ApplicationStart:\n    - location: scripts/start.sh\n      timeout: 30\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    (folder / "scripts").mkdir(parents=True)
    (folder / "appspec.yml").write_text(APPSPEC)
    (folder / "scripts" / "start.sh").write_text("#!/bin/sh\n")
    (folder / "app").mkdir()
    (folder / "app" / "shop.py").write_text("print('bikes')\n")
    (folder / "app" / "näme").write_bytes(b"\x00\xff")
    (folder / "app" / "empty").mkdir()
    return folder


def packed(folder: Path, tmp_path: Path, name: str = "bundle.tar.gz") -> Path:
    bundle.pack(folder, tmp_path / name)
    return tmp_path / name


def test_what_is_packed_comes_out_again(folder: Path, tmp_path: Path) -> None:
    (folder / "app" / "current").symlink_to("../scripts/start.sh")
    os.link(folder / "app" / "shop.py", folder / "app" / "same.py")
    (folder / "app" / "shop.py").chmod(0o4755)
    bundle.unpack(packed(folder, tmp_path), tmp_path / "there")
    there = tmp_path / "there"
    names = sorted(path.relative_to(there).as_posix() for path in there.rglob("*"))
    assert names == sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    assert (there / "app" / "näme").read_bytes() == b"\x00\xff"
    assert os.readlink(there / "app" / "current") == "../scripts/start.sh"
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in there.rglob("*") if path.is_file()}
    assert (modes["shop.py"], modes["same.py"], modes["appspec.yml"]) == (0o755, 0o755, 0o644)


def test_the_scripts_of_hooks_become_executable(folder: Path, tmp_path: Path) -> None:
    (folder / "scripts" / "start.sh").chmod(0o600)
    bundle.unpack(packed(folder, tmp_path), tmp_path / "there")
    assert stat.S_IMODE((tmp_path / "there/scripts/start.sh").stat().st_mode) == 0o755


def test_only_content_counts(folder: Path, tmp_path: Path) -> None:
    first = packed(folder, tmp_path, "one.tar.gz").read_bytes()
    for number, path in enumerate(sorted(folder.rglob("*"), reverse=True)):
        os.utime(path, (number, number))
        if path.is_file():
            path.chmod(0o640)
    moved = tmp_path / "elsewhere" / "entirely"
    moved.parent.mkdir()
    folder.rename(moved)
    assert packed(moved, tmp_path, "two.tar.gz").read_bytes() == first
    (moved / "app" / "shop.py").write_text("print('cars')\n")
    assert packed(moved, tmp_path, "three.tar.gz").read_bytes() != first


def test_the_archive_says_nothing_of_the_machine(folder: Path, tmp_path: Path) -> None:
    with tarfile.open(packed(folder, tmp_path)) as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == [
        "app", "app/empty", "app/näme", "app/shop.py", "appspec.yml", "scripts", "scripts/start.sh"
    ]  # fmt: skip
    assert {(member.uid, member.gid, member.uname, member.gname) for member in members} == {(0, 0, "", "")}
    assert len({member.mtime for member in members}) == 1


@given(
    st.dictionaries(
        st.lists(st.sampled_from(["a", "b", "ü", "A"]), min_size=1, max_size=3).map("/".join), st.binary(max_size=40)
    )
)
def test_any_files_survive_packing_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    tmp_path = tmp_path_factory.mktemp("bundle")
    files = {name: data for name, data in files.items() if not any(other.startswith(name + "/") for other in files)}
    digests = set()
    for number, names in enumerate((sorted(files), sorted(files, reverse=True))):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "appspec.yml").write_text("version: 0.0\nos: linux\n")
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(files[name])
        digests.add(sha256_of(packed(folder, tmp_path, f"{number}.tar.gz").read_bytes()))
    assert len(digests) == 1
    bundle.unpack(tmp_path / "0.tar.gz", tmp_path / "there")
    assert {name: (tmp_path / "there" / name).read_bytes() for name in files} == files


def remove_appspec(folder: Path) -> None:
    (folder / "appspec.yml").unlink()


def remove_script(folder: Path) -> None:
    (folder / "scripts" / "start.sh").unlink()


def link_absolute(folder: Path) -> None:
    (folder / "app" / "passwd").symlink_to("/etc/passwd")


def link_climbing(folder: Path) -> None:
    (folder / "app" / "out").symlink_to("../../outside")


def link_through_link(folder: Path) -> None:
    (folder / "deep").symlink_to("app/empty/../..")
    (folder / "app" / "out").symlink_to("../deep/../x")


def script_outside(folder: Path) -> None:
    (folder / "scripts" / "start.sh").unlink()
    (folder / "scripts" / "start.sh").symlink_to("/bin/true")


def add_pipe(folder: Path) -> None:
    os.mkfifo(folder / "app" / "pipe")


def hard_link_out(folder: Path) -> None:
    secret = folder.parent / "secret"
    secret.write_text("the platform's")
    os.link(secret, folder / "app" / "secret")
    os.link(secret, folder / "app" / "again")


def write_latin1(folder: Path) -> None:
    (folder / "appspec.yml").write_bytes(b"version: 0.0\nos: linux # \xe4\n")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (remove_appspec, "no appspec.yml at its top"),
        (remove_script, "scripts/start.sh, which is not there"),
        (link_absolute, "app/passwd is a link that leaves"),
        (link_climbing, "app/out is a link that leaves"),
        (link_through_link, "is a link that leaves the folder through another link"),
        (script_outside, "scripts/start.sh, which is not there"),
        (hard_link_out, "app/again is a hard link to a file outside of the folder"),
        (add_pipe, "app/pipe is neither a file nor a folder nor a link"),
        (write_latin1, "appspec.yml is not UTF-8"),
    ],
)
def test_a_folder_that_cannot_be_a_bundle_is_refused(
    folder: Path, tmp_path: Path, change: Callable[[Path], None], says: str
) -> None:
    change(folder)
    with pytest.raises(BuildFailed, match=says):
        bundle.pack(folder, tmp_path / "bundle.tar.gz")
    assert not [path for path in tmp_path.iterdir() if "bundle" in path.name]


def test_too_much_is_refused_on_both_ways(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = packed(folder, tmp_path)
    monkeypatch.setattr(bundle, "ENTRY_CAP", 3)
    with pytest.raises(BuildFailed, match="more than 3 entries"):
        packed(folder, tmp_path, "other.tar.gz")
    with pytest.raises(DigestMismatch, match="more than 3 entries"):
        bundle.unpack(good, tmp_path / "there")
    assert not (tmp_path / "there").exists()


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"x"
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = len(data) if kind == tarfile.REGTYPE else 0
    return info, data


def archive(path: Path, *entries: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as writer:
        for info, data in entries:
            writer.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([entry("../outside")], id="climbs"),
        pytest.param([entry("a/../../outside")], id="climbs in the middle"),
        pytest.param([entry("/tmp/outside")], id="absolute"),
        pytest.param([entry("out", tarfile.SYMTYPE, "../outside")], id="link climbs"),
        pytest.param([entry("out", tarfile.SYMTYPE, "/etc")], id="link absolute"),
        pytest.param([entry("d", tarfile.SYMTYPE, "."), entry("d/outside")], id="through a link"),
        pytest.param([entry("f", tarfile.SYMTYPE, "g"), entry("f")], id="over a link"),
        pytest.param([entry("f"), entry("f")], id="twice"),
        pytest.param([entry("f"), entry("f/g")], id="through a file"),
        pytest.param([entry("f"), entry("f", tarfile.DIRTYPE)], id="folder over a file"),
        pytest.param([entry("f"), entry("g", tarfile.LNKTYPE, "f")], id="hard link"),
        pytest.param([entry("null", tarfile.CHRTYPE)], id="device"),
        pytest.param([entry("pipe", tarfile.FIFOTYPE)], id="pipe"),
        pytest.param([entry("")], id="no name"),
    ],
)
def test_an_archive_that_reaches_out_is_not_unpacked(
    tmp_path: Path, entries: list[tuple[tarfile.TarInfo, bytes]]
) -> None:
    inside = tmp_path / "inside"
    with pytest.raises(DigestMismatch, match="is not a bundle of Interlock"):
        bundle.unpack(archive(tmp_path / "evil.tar.gz", *entries), inside / "there")
    assert list(inside.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.tar.gz", "inside"]


def test_an_archive_that_unpacks_to_too_much_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "SIZE_CAP", 1_000_000)
    monkeypatch.setattr(bundle, "_OVERHEAD", 0)
    big = archive(tmp_path / "big.tar.gz", *[entry(f"{number}", data=bytes(300_000)) for number in range(5)])
    assert big.stat().st_size < 5000
    with pytest.raises(DigestMismatch, match="more than 1000000 bytes"):
        bundle.unpack(big, tmp_path / "there")


def test_a_header_that_asks_for_much_memory_is_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 10**9
    path = tmp_path / "greedy.tar.gz"
    path.write_bytes(gzip.compress(header.tobuf() + bytes(10_000)))
    with pytest.raises(DigestMismatch, match="more memory"):
        bundle.unpack(path, tmp_path / "there")


@pytest.mark.parametrize(
    "change", [lambda data: data[:-200], lambda data: b"PK" + data, lambda data: data[:300] + b"!" * 9 + data[309:]]
)
def test_a_damaged_archive_is_not_unpacked(folder: Path, tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    path = packed(folder, tmp_path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DigestMismatch, match="is not a bundle"):
        bundle.unpack(path, tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_two_sources_of_one_file_are_refused_when_the_bundle_is_built(tmp_path: Path) -> None:
    for name in ("one/shop.conf", "two/shop.conf"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("x")
    files = "files: [{source: one, destination: /etc/shop}, {source: two, destination: /etc/shop}]"
    (tmp_path / "appspec.yml").write_text(f"version: 0.0\nos: linux\n{files}\n")
    with pytest.raises(
        BuildFailed, match=r"one/shop\.conf and two/shop\.conf have the same destination /etc/shop/shop\.conf"
    ):
        bundle.check(tmp_path)


# --- the list of its files


def test_every_file_and_link_of_a_bundle_is_listed_with_its_digest(folder: Path, tmp_path: Path) -> None:
    (folder / "app" / "current").symlink_to("../scripts/start.sh")
    (folder / "app" / "two\nlines").write_text("")
    (folder / os.fsdecode(b"app/\xff")).write_text("")
    listed = bundle.list_files(packed(folder, tmp_path))
    told = {one.path: (one.sha256, one.size) for one in listed.files}
    names = ("appspec.yml", "scripts/start.sh", "app/shop.py", "app/n\u00e4me")
    there = {name: (folder / name).read_bytes() for name in names}
    assert told == {name: (sha256_of(content), len(content)) for name, content in there.items()}
    assert listed.links == {"app/current": "../scripts/start.sh"}
    assert (listed.placed, listed.unlisted) == ({}, 2)


def test_where_the_appspec_has_files_copied_is_listed_unless_what_stands_there_stays(
    folder: Path, tmp_path: Path
) -> None:
    files = "files:\n  - {source: app, destination: /opt/shop}\n  - {source: scripts/start.sh, destination: /usr/bin}\n"
    (folder / "appspec.yml").write_text(APPSPEC + files)
    placed = {
        "/opt/shop/shop.py": "app/shop.py",
        "/opt/shop/n\u00e4me": "app/n\u00e4me",
        "/usr/bin/start.sh": "scripts/start.sh",
    }
    assert bundle.list_files(packed(folder, tmp_path)).placed == placed
    (folder / "appspec.yml").write_text(f"{APPSPEC}{files}file_exists_behavior: RETAIN\n")
    assert bundle.list_files(packed(folder, tmp_path)).placed == {}


def test_what_is_no_bundle_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "bundle.tar.gz").write_bytes(gzip.compress(b"x" * 2000))
    with pytest.raises(DigestMismatch, match="is not a bundle"):
        bundle.list_files(tmp_path / "bundle.tar.gz")
