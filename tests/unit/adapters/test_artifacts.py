from __future__ import annotations

import stat
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from interlock.adapters.artifacts import store as artifacts
from interlock.adapters.artifacts.store import ArtifactStore, Folder, open_store
from interlock.domain.canonical import sha256_of
from interlock.domain.errors import AssetMissing, DigestMismatch, RequestRefused
from interlock.domain.records import Blob


class Connection:
    """What Airflow gives for a connection, as far as it is read."""

    def __init__(self, conn_type: str, **extra: Any) -> None:
        self.conn_type, self.extra_dejson = conn_type, extra


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return open_store(Connection("fs", path=str(tmp_path / "store +1")))


def place(blob: Blob) -> Path:
    """Return the file in which a blob lies."""
    return Path(unquote(blob.uri.removeprefix("file://")))


def test_bytes_lie_under_their_digest_and_come_back(store: ArtifactStore) -> None:
    blob = store.put_bytes(b"bikes", "notes.md")
    digest = sha256_of(b"bikes")
    assert (blob.sha256, blob.size) == (digest, 5)
    assert store.relative(blob.uri) == f"sha256/{digest[:2]}/{digest}/notes.md"
    assert store.get_bytes(blob) == b"bikes"
    assert store.exists(blob)
    assert stat.S_IMODE(place(blob).stat().st_mode) == 0o644


def test_storing_again_changes_nothing(store: ArtifactStore) -> None:
    first = store.put_bytes(b"bikes", "notes.md")
    assert store.put_bytes(b"bikes", "notes.md") == first
    assert [path.name for path in place(first).parent.iterdir()] == ["notes.md"]


def test_a_file_is_stored_and_fetched_without_leaving_traces(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "bundle").write_bytes(bytes(range(256)) * 9000)
    blob = store.put_file(tmp_path / "bundle", "bike-shop-1.1.0.tar.gz")
    assert blob == store.put_bytes((tmp_path / "bundle").read_bytes(), "bike-shop-1.1.0.tar.gz")
    there = store.get_file(blob, tmp_path / "deep" / "there")
    assert there.read_bytes() == (tmp_path / "bundle").read_bytes()
    assert [path.name for path in there.parent.iterdir()] == ["there"]


def test_changed_bytes_are_noticed_and_not_handed_out(store: ArtifactStore, tmp_path: Path) -> None:
    blob = store.put_bytes(b"bikes", "notes.md")
    place(blob).write_bytes(b"cars!")
    assert not store.exists(blob)
    with pytest.raises(DigestMismatch, match="only the artifact that was built"):
        store.get_bytes(blob)
    with pytest.raises(DigestMismatch):
        store.get_file(blob, tmp_path / "there")
    assert not (tmp_path / "there").exists()
    assert store.put_bytes(b"bikes", "notes.md") == blob
    assert store.exists(blob)


def test_a_blob_that_is_gone_says_so(store: ArtifactStore, tmp_path: Path) -> None:
    blob = store.put_bytes(b"bikes", "notes.md")
    place(blob).unlink()
    assert not store.exists(blob)
    with pytest.raises(AssetMissing, match=r"notes\.md is not in the artifact store.*restore it from a backup"):
        store.get_bytes(blob)
    with pytest.raises(AssetMissing):
        store.get_file(blob, tmp_path / "there")


def test_a_writer_that_dies_leaves_nothing_half_written(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(artifacts.os, "fsync", dies)
    with pytest.raises(OSError, match="No space left"):
        store.put_bytes(b"bikes", "notes.md")
    digest = sha256_of(b"bikes")
    blob = Blob(uri=f"{store.root}/sha256/{digest[:2]}/{digest}/notes.md", sha256=digest, size=5)
    assert not store.exists(blob)
    assert list(place(blob).parent.iterdir()) == []


def test_a_folder_is_stored_as_a_tree_and_read_by_path(store: ArtifactStore, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    (docs / "static").mkdir(parents=True)
    (docs / "index.html").write_text("<h1>ok</h1>")
    (docs / "static" / "a b.css").write_text("h1 {}")
    (docs / "passwd").symlink_to("/etc/passwd")
    for _ in range(2):
        uri = store.put_tree(docs, "docs/run 1+00:00/quality")
    base = store.relative(uri)
    assert base == "docs/run 1+00:00/quality"
    assert store.read(f"{base}/index.html") == b"<h1>ok</h1>"
    assert store.read(f"{base}/static/a b.css") == b"h1 {}"
    with pytest.raises(AssetMissing):
        store.read(f"{base}/passwd")
    with pytest.raises(NotADirectoryError):
        store.put_tree(tmp_path / "none", "docs/x")


@pytest.mark.parametrize("path", ["", "..", "../x", "a/../../x", "/etc/passwd", "a//b", "a/./b", "a\\..\\b", "a/\0"])
def test_no_path_leaves_the_store(store: ArtifactStore, tmp_path: Path, path: str) -> None:
    with pytest.raises(RequestRefused, match="is not a path inside the artifact store"):
        store.read(path)
    with pytest.raises(RequestRefused):
        store.put_tree(tmp_path, path)
    with pytest.raises(RequestRefused):
        store.get_bytes(Blob(uri=f"{store.root}/{path}", sha256="0" * 64, size=0))


def test_a_link_in_the_store_leads_nowhere(tmp_path: Path) -> None:
    store = ArtifactStore(Folder(tmp_path / "store"))
    store.put_bytes(b"x", "x")
    (tmp_path / "secret").write_text("s3cret")
    (tmp_path / "store" / "out").symlink_to(tmp_path)
    with pytest.raises(AssetMissing):
        store.read("out/secret")
    with pytest.raises(AssetMissing):
        store.read("sha256")


def test_bytes_of_another_store_are_refused(store: ArtifactStore) -> None:
    for uri in ("file:///etc/passwd", "s3://bucket/x", f"{store.root}x/y", store.root):
        with pytest.raises(RequestRefused, match="is not in the artifact store"):
            store.get_bytes(Blob(uri=uri, sha256="0" * 64, size=0))


def test_names_and_places_that_would_confuse_are_refused(store: ArtifactStore, tmp_path: Path) -> None:
    for name in ("", "../x", "a/b", ".hidden", "a b", "x" * 201):
        with pytest.raises(RequestRefused, match="cannot be the name of an artifact"):
            store.put_bytes(b"x", name)
    with pytest.raises(RequestRefused, match="is reserved for blobs"):
        store.put_tree(tmp_path, "sha256/ab")


@pytest.mark.parametrize(
    "connection",
    [Connection("fs"), Connection("aws", prefix="p"), Connection("http", path="/tmp"), Connection("fs", path="")],
)
def test_a_connection_that_describes_no_store_is_refused(connection: Connection) -> None:
    with pytest.raises(AssetMissing, match="it must be fs with path, or aws with bucket"):
        open_store(connection)
