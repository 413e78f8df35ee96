"""Places where pipelines leave artifacts, each behind one Airflow connection: bytes by digest, and files by path."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from interlock.domain.catalogue import Prebuilt
from interlock.domain.errors import AssetMissing, DigestMismatch

MAX_FILE_BYTES = 64 * 1024 * 1024
"""Bytes that a report, a bill of materials or a statement may have."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a release takes.

    :param sha256: the digest that was requested.
    :param limit: bytes that it may have.
    """

    version: str
    commit: str
    sha256: str
    limit: int

    def filled(self, template: str) -> str:
        """Return a path of the service's file for this release."""
        known = {"{version}": self.version, "{commit}": self.commit, "{artifact}": self.sha256}
        for name, value in known.items():
            template = template.replace(name, value)
        return template


@dataclass(frozen=True, slots=True)
class Fetched:
    """An artifact whose bytes have been checked.

    :param name: of its file.
    :param uri: from where it came, without a login.
    :param digests: SHA-256 by which it is known; the first is the requested one.
    :param around: folders that its format puts around the contents.
    """

    path: Path
    name: str
    uri: str
    digests: tuple[str, ...]
    around: int = 0


class Place(Protocol):
    """A place of one kind."""

    def fetch(self, artifact: str, wanted: Wanted, folder: Path) -> Fetched:
        """Bring an artifact; DigestMismatch if its bytes are others, AssetMissing if there is none."""

    def read(self, path: str, limit: int) -> bytes | None:
        """Return a file by its path below the connection's address; None: there is none."""


def open_place(spec: Prebuilt, connection: Any) -> Place:
    """Open the place that a service's file names.

    :param connection: Airflow's.
    """
    from ._oci import OciRegistry
    from ._packages import MavenRepository, NpmRegistry, PythonIndex
    from ._s3 import S3Bucket
    from ._web import Web, WebFiles

    if spec.store == "s3":
        return S3Bucket.of(connection)
    web = Web.of(connection)
    kinds: Mapping[str, type[Any]] = {
        "https": WebFiles,
        "oci": OciRegistry,
        "python": PythonIndex,
        "npm": NpmRegistry,
        "maven": MavenRepository,
    }
    place: Place = kinds[spec.store](web)
    return place


def checked(path: Path, wanted: str, uri: str) -> None:
    """Refuse bytes that have another digest."""
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wanted:
        path.unlink()
        raise DigestMismatch(
            f"{uri} has SHA-256 {found}, but {wanted} was requested.",
            rule="an artifact from elsewhere is taken by its digest: other bytes are another artifact",
            who="the service's team",
            next_step="find out who replaced the artifact, or request the release again with the digest that its "
            "pipeline printed",
        )


def missing(what: str, connection: str, *, next_step: str = "") -> AssetMissing:
    """Return the error about an artifact that is not where it should be."""
    return AssetMissing(
        f"{what}.",
        rule="build of the service's file says where its pipeline leaves artifacts",
        who=f"the service's team for the artifact, the platform engineer for the connection {connection}",
        next_step=next_step or "publish the artifact, or correct build in the service's file",
    )


def too_big(uri: str, limit: int) -> DigestMismatch:
    """Return the error about a file that has more bytes than it may have."""
    return DigestMismatch(
        f"{uri} has more than {limit} bytes.",
        rule="max_mib of build in the service's file for an artifact; 64 MiB for a report or a statement",
        who="the service's team",
        next_step="find out why the file has grown, or raise max_mib",
    )
