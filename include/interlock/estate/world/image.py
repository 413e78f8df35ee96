"""The machine image of the estate's hosts: the disk of a new host.

It has the sample service's first version, built from its repository and placed as a deployment would, and the host's
own configuration of it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from interlock.adapters import processes
from interlock.adapters.artifacts import bundle
from interlock.adapters.private_files import secret, write_private, write_whole
from interlock.adapters.source.git import open_repository
from interlock.domain.canonical import Model, Sha256, canonical_bytes, sha256_of
from interlock.domain.errors import BuildFailed
from interlock.domain.records import release_name
from interlock.estate.settings import DEPLOY_ROOT, SERVICE, EstateHost, Settings
from interlock.estate.stack.shop_databases import shop_urls

from .sample import make_repository

INITIAL_VERSION = "1.0.0"
CURRENCY = "EUR"
PRICE_LISTS = {"production": "canal_street_2025", "test": "standard-2025"}
WAREHOUSE_PORT = 8490  # nothing listens there: the sample's warehouse is not connected

_BUILD_SECONDS = 120.0
_LOG_CAP = 64 * 1024


class Image(Model):
    """A built release of the sample service."""

    schema_version: Literal[1] = 1
    version: str
    commit: str
    sha256: Sha256

    @property
    def release(self) -> str:
        """Return its name on a host."""
        return release_name(self.version, self.sha256)


def initial_image(settings: Settings, environ: Mapping[str, str]) -> Image:
    """Return the image, built if there is none of this commit."""
    commit = make_repository(settings.repository)[INITIAL_VERSION]
    described = settings.images / f"{SERVICE}-{commit}.json"
    if described.exists():
        image = Image.model_validate_json(described.read_bytes())
        kept = bundle_of(settings, image)
        if kept.exists() and sha256_of(kept.read_bytes()) == image.sha256:
            return image
    image = _build(settings, commit, environ)
    write_whole(described, image.model_dump_json() + "\n")
    return image


def bundle_of(settings: Settings, image: Image) -> Path:
    """Return the file that an image's bundle is kept in."""
    return settings.images / f"{image.sha256}.tar.gz"


def install(settings: Settings, image: Image, folder: Path) -> None:
    """Unpack an image as a new host's disk, completely or not at all; an existing disk is not changed."""
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder.parent) as aside:
        disk = Path(aside) / "disk"
        root = disk / DEPLOY_ROOT
        release = root / "releases" / image.release
        bundle.unpack(bundle_of(settings, image), release)
        about = {"service": SERVICE, "release": image.release, **image.model_dump(exclude={"schema_version"})}
        (release / ".interlock.json").write_bytes(canonical_bytes(about) + b"\n")
        (root / "shared").mkdir()
        (root / "current").symlink_to(f"releases/{image.release}")
        disk.rename(folder)


def signing_secret(settings: Settings, environment: str) -> str:
    """Return the secret that signs baskets: the same on all hosts of an environment, which share a load balancer."""
    return secret(settings.keys / f"{SERVICE}-{environment}.secret")


def configure(settings: Settings, host: EstateHost) -> None:
    """Write the host's own configuration of the sample service, as configuration management would."""
    shared = {
        "environment": host.environment,
        "host": host.name,
        "address": host.address,
        "port": settings.service_port,
        "currency": CURRENCY,
        "price_list": PRICE_LISTS[host.environment],
        "warehouse": f"http://{settings.network}.2:{WAREHOUSE_PORT}/stock.csv",
        "secret": signing_secret(settings, host.environment),
        **shop_urls(settings, host.environment),
    }
    text = json.dumps(shared, indent=2) + "\n"
    write_private(settings.host_folder(host.name) / DEPLOY_ROOT / "shared" / "shop.json", text)


def _build(settings: Settings, commit: str, environ: Mapping[str, str]) -> Image:
    """Build the bundle of a commit with the service's own tool."""
    settings.images.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=settings.images) as folder:
        checkout, packed = Path(folder) / "checkout", Path(folder) / "bundle.tar.gz"
        open_repository(settings.source_url, Path(folder) / "repository").checkout(commit, checkout)
        ran = processes.run(
            ["make", "build"],
            folder=checkout,
            environ=_build_environment(environ, folder),
            seconds=_BUILD_SECONDS,
            cap=_LOG_CAP,
            merged=True,
        )
        if ran.code or ran.timed_out:
            raise BuildFailed(
                f"The sample's version {INITIAL_VERSION} could not be built: make build ended with exit code "
                f"{ran.code}. It printed:\n{ran.output.decode(errors='replace')}",
                next_step="install what is missing, such as make, git or pip",
            )
        bundle.pack(checkout / "build" / "bundle", packed)
        image = Image(version=INITIAL_VERSION, commit=commit, sha256=sha256_of(packed.read_bytes()))
        packed.replace(bundle_of(settings, image))
    return image


def _build_environment(environ: Mapping[str, str], home: str) -> dict[str, str]:
    path = os.pathsep.join((str(Path(sys.executable).parent), environ.get("PATH", os.defpath)))
    return {"PATH": path, "HOME": home, "LANG": "C.UTF-8", "TZ": "UTC"}


def remove(folder: Path) -> None:
    """Remove the disk of a terminated host."""
    if folder.exists():
        with tempfile.TemporaryDirectory(prefix=".gone-", dir=folder.parent) as aside:
            shutil.move(folder, Path(aside) / "disk")
