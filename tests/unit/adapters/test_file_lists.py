"""The list of a release's files counts only as the installation signed it, or as the bundle itself has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock.adapters.artifacts import bundle
from interlock.adapters.artifacts.store import ArtifactStore, Folder
from interlock.adapters.evidence.file_lists import released_files
from interlock.adapters.signing.signing import Signer, generate_key, load_signer
from interlock.domain.canonical import canonical_bytes
from interlock.domain.errors import DigestMismatch
from interlock.domain.hosts.released_files import ReleasedFiles
from interlock.domain.records import Artifact, Blob
from tests.factories import releases
from tests.factories.evidence import provenance


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(Folder(tmp_path / "store"))


def key(tmp_path: Path, name: str) -> Signer:
    generate_key(tmp_path / name)
    return load_signer((tmp_path / name).as_uri())


def built(
    store: ArtifactStore, tmp_path: Path, by: Signer, listed: ReleasedFiles | None = None, about: Blob | None = None
) -> Artifact:
    """Return an artifact whose provenance names lists of files."""
    tree = tmp_path / "tree"
    tree.mkdir(exist_ok=True)
    (tree / "appspec.yml").write_text("version: 0.0\nos: linux\n")
    (tree / "shop.py").write_text("print('bikes')\n")
    bundle.pack(tree, tmp_path / "bundle.tar.gz")
    packed = store.put_file(tmp_path / "bundle.tar.gz", "bundle.tar.gz")
    left = {"files.json": store.put_bytes(canonical_bytes(listed), "files.json")} if listed else {}
    signed = provenance(about or packed, by, byproducts=left)
    return releases.artifact().model_copy(
        update={"bundle": packed, "provenance": store.put_bytes(signed, "provenance.dsse.json")}
    )


def paths(listed: ReleasedFiles) -> list[str]:
    return [one.path for one in listed.files]


MADE_UP = ReleasedFiles(files=())


def test_the_list_that_the_provenance_names_is_taken(store: ArtifactStore, tmp_path: Path) -> None:
    signer = key(tmp_path, "key")
    assert released_files(built(store, tmp_path, signer, MADE_UP), store, signer.public_key) == MADE_UP


def test_without_a_list_the_bundle_is_read(store: ArtifactStore, tmp_path: Path) -> None:
    signer = key(tmp_path, "key")
    assert paths(released_files(built(store, tmp_path, signer), store, signer.public_key)) == ["appspec.yml", "shop.py"]


def test_a_list_that_somebody_else_signed_does_not_count(store: ArtifactStore, tmp_path: Path) -> None:
    artifact = built(store, tmp_path, key(tmp_path, "theirs"), MADE_UP)
    assert paths(released_files(artifact, store, key(tmp_path, "ours").public_key)) == ["appspec.yml", "shop.py"]


def test_a_list_of_another_bundle_does_not_count(store: ArtifactStore, tmp_path: Path) -> None:
    signer = key(tmp_path, "key")
    artifact = built(store, tmp_path, signer, MADE_UP, about=releases.blob())
    assert paths(released_files(artifact, store, signer.public_key)) == ["appspec.yml", "shop.py"]


def test_a_list_that_was_changed_in_the_store_does_not_count(store: ArtifactStore, tmp_path: Path) -> None:
    signer = key(tmp_path, "key")
    artifact = built(store, tmp_path, signer, MADE_UP)
    (kept,) = (tmp_path / "store").rglob("files.json")
    kept.write_text('{"schema_version":1,"files":[],"unlisted":1}')
    assert paths(released_files(artifact, store, signer.public_key)) == ["appspec.yml", "shop.py"]


def test_a_bundle_that_was_changed_in_the_store_is_not_believed(store: ArtifactStore, tmp_path: Path) -> None:
    signer = key(tmp_path, "key")
    artifact = built(store, tmp_path, signer)
    (kept,) = (tmp_path / "store").rglob("bundle.tar.gz")
    kept.write_bytes(b"other bytes")
    with pytest.raises(DigestMismatch, match="was recorded"):
        released_files(artifact, store, signer.public_key)
