"""Package registries: the version says which file, the digest says that it is the one.

Python: the simple index as JSON (PEP 691). npm: the document of a package. Maven: the layout of repositories.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from interlock.domain.errors import AssetMissing, DigestMismatch

from ._web import Web, fetch_file
from .places import MAX_FILE_BYTES, Fetched, Wanted, missing

_SIMPLE = "application/vnd.pypi.simple.v1+json"


class _Registry:
    """What the registries share: files beside packages are read by their path."""

    def __init__(self, web: Web) -> None:
        self._web = web

    def read(self, path: str, limit: int) -> bytes | None:
        """Return a file by its path."""
        return self._web.get(self._web.at(path), limit)

    def _document(self, url: str, what: str, accept: str = "application/json") -> Mapping[str, Any]:
        data = self._web.get(url, MAX_FILE_BYTES, headers={"Accept": accept})
        if data is None:
            raise missing(f"{self._web.url} has no {what}", self._web.name)
        try:
            plain = json.loads(data)
        except ValueError as error:
            raise self._unreadable(what) from error
        if not isinstance(plain, dict):
            raise self._unreadable(what)
        return plain

    def _unreadable(self, what: str) -> AssetMissing:
        return missing(f"{self._web.url} does not describe {what} as JSON", self._web.name)


class PythonIndex(_Registry):
    """An index of Python packages: of the files of a project, the wheel or source distribution with the digest."""

    def fetch(self, artifact: str, wanted: Wanted, folder: Path) -> Fetched:
        """Bring the file with the requested digest, if it is of the requested version."""
        project = canonicalize_name(wanted.filled(artifact))
        page = f"{self._web.url}/{project}/"
        files = self._document(page, f"project {project}", _SIMPLE).get("files")
        found = [
            one
            for one in (files if isinstance(files, list) else ())
            if isinstance(one, dict)
            and isinstance(one.get("hashes"), dict)
            and one["hashes"].get("sha256") == wanted.sha256
        ]
        if not found:
            raise missing(f"No file of {project} in {self._web.url} has SHA-256 {wanted.sha256}", self._web.name)
        name, url = str(found[0].get("filename", "")), str(found[0].get("url", ""))
        if found[0].get("yanked"):
            why = f"{name} was yanked: {found[0]['yanked']}"
            raise missing(why, self._web.name, next_step="release another version")
        if _version_of(name) != (project, wanted.version):
            raise missing(f"{name} is not version {wanted.version} of {project}", self._web.name)
        around = 0 if name.endswith(".whl") else 1
        return fetch_file(self._web, urljoin(page, url), wanted, folder, name=name, around=around)


def _version_of(name: str) -> tuple[str, object]:
    try:
        if name.endswith(".whl"):
            project, version, *_ = parse_wheel_filename(name)
        else:
            project, version = parse_sdist_filename(name)
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return "", ""
    return str(project), _Same(version)


class _Same:
    """A Python version that is equal to a semantic one if both mean the same."""

    def __init__(self, version: Version) -> None:
        self._version = version

    def __eq__(self, other: object) -> bool:
        try:
            return Version(str(other)) == self._version
        except InvalidVersion:
            return False

    __hash__ = None  # type: ignore[assignment]


class NpmRegistry(_Registry):
    """A registry of npm: the tarball of the version, which puts its contents into one folder."""

    def fetch(self, artifact: str, wanted: Wanted, folder: Path) -> Fetched:
        """Bring the tarball of the requested version; its own integrity counts beside the requested digest."""
        package = wanted.filled(artifact)
        document = self._document(f"{self._web.url}/{quote(package, safe='@')}", f"package {package}")
        versions = document.get("versions")
        version = versions.get(wanted.version) if isinstance(versions, dict) else None
        dist = version.get("dist") if isinstance(version, dict) else None
        if not isinstance(dist, dict) or not dist.get("tarball"):
            raise missing(f"{self._web.url} has no version {wanted.version} of {package}", self._web.name)
        url = urljoin(f"{self._web.url}/", str(dist["tarball"]))
        fetched = fetch_file(self._web, url, wanted, folder, around=1)
        _refuse_other_integrity(fetched, str(dist.get("integrity", "")))
        return fetched


def _refuse_other_integrity(fetched: Fetched, integrity: str) -> None:
    for part in integrity.split():
        algorithm, _, text = part.partition("-")
        if algorithm not in ("sha256", "sha384", "sha512"):
            continue
        with open(fetched.path, "rb") as file:
            found = hashlib.file_digest(file, algorithm).digest()
        try:
            same = base64.b64decode(text, validate=True) == found
        except binascii.Error:
            same = False
        if not same:
            raise DigestMismatch(
                f"{fetched.uri} has the requested digest, but not the integrity that its registry names.",
                rule="a tarball of npm is what its registry says it is",
                who="the service's team",
                next_step="find out who replaced the tarball",
            )


class MavenRepository(_Registry):
    """A repository of Maven: ``group:artifact:extension``, and maybe a classifier."""

    def fetch(self, artifact: str, wanted: Wanted, folder: Path) -> Fetched:
        """Bring the file of the requested version from its place in the layout."""
        group, name, extension, *classifier = wanted.filled(artifact).split(":")
        if wanted.version.endswith("-SNAPSHOT"):
            raise missing(f"{wanted.version} of {name} is a snapshot, which changes", self._web.name)
        file = "-".join((name, wanted.version, *classifier)) + f".{extension}"
        path = "/".join((*group.split("."), name, wanted.version, file))
        return fetch_file(self._web, self._web.at(path), wanted, folder, name=file)
