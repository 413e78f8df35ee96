from __future__ import annotations

import json
from pathlib import Path

import pytest

from interlock.adapters.artifacts.bundle import pack
from interlock.domain.canonical import sha256_of
from interlock.domain.errors import DigestMismatch
from interlock.estate.settings import Settings
from interlock.estate.world import image
from interlock.estate.world.image import Image


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state=tmp_path / "state")


@pytest.fixture
def disk(settings: Settings, tmp_path: Path) -> Image:
    """Return an image whose bundle has nothing but an AppSpec."""
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "appspec.yml").write_text("version: 0.0\nos: linux\n")
    pack(tmp_path / "build", tmp_path / "bundle.tar.gz")
    data = (tmp_path / "bundle.tar.gz").read_bytes()
    made = Image(version="1.0.0", commit="c" * 40, sha256=sha256_of(data))
    kept = image.bundle_of(settings, made)
    kept.parent.mkdir(parents=True)
    kept.write_bytes(data)
    return made


def test_new_disk_is_as_a_deployment_leaves_it(settings: Settings, disk: Image) -> None:
    folder = settings.host_folder("one")
    image.install(settings, disk, folder)
    root = folder / "srv" / "bike-shop"
    assert (root / "current").readlink() == Path("releases") / disk.release
    assert disk.release == f"1.0.0-{disk.sha256[:12]}"
    assert json.loads((root / "current" / ".interlock.json").read_text()) == {
        "service": "bike-shop",
        "release": disk.release,
        "version": "1.0.0",
        "commit": "c" * 40,
        "sha256": disk.sha256,
    }
    assert (root / "shared").is_dir()


def test_disk_that_is_there_is_left_alone(settings: Settings, disk: Image) -> None:
    settings.host_folder("one").mkdir(parents=True)
    image.install(settings, disk, settings.host_folder("one"))
    assert not any(settings.host_folder("one").iterdir())


def test_disk_is_whole_or_not_there(settings: Settings, disk: Image) -> None:
    image.bundle_of(settings, disk).write_bytes(b"no bundle")
    with pytest.raises(DigestMismatch):
        image.install(settings, disk, settings.host_folder("one"))
    assert not any(settings.host_folders.iterdir())


def test_hosts_of_an_environment_share_a_secret_and_nothing_else_does(settings: Settings) -> None:
    found = {}
    for host in settings.hosts():
        (settings.host_folder(host.name) / "srv" / "bike-shop" / "shared").mkdir(parents=True)
        image.configure(settings, host)
        path = settings.host_folder(host.name) / "srv" / "bike-shop" / "shared" / "shop.json"
        assert path.stat().st_mode & 0o777 == 0o600
        found[host.name] = json.loads(path.read_text())
    production = [it for name, it in found.items() if "production" in name]
    (test,) = (it for name, it in found.items() if "test" in name)
    assert len({it["secret"] for it in production}) == 1
    assert production[0]["secret"] != test["secret"]
    assert len({it["address"] for it in found.values()}) == len(found)
    assert production[0]["price_list"] != test["price_list"]


def test_removed_disk_leaves_nothing(settings: Settings, disk: Image) -> None:
    image.install(settings, disk, settings.host_folder("one"))
    image.remove(settings.host_folder("one"))
    image.remove(settings.host_folder("one"))
    assert not any(settings.host_folders.iterdir())
