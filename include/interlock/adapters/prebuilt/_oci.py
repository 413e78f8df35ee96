"""Artifacts in OCI registries, as ORAS pushes them: a manifest by its digest, and the one blob that it names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import httpx

from interlock.domain.canonical import sha256_of
from interlock.domain.errors import AssetMissing, DigestMismatch, TransientError

from ._web import Web, may_have_logins
from .places import MAX_FILE_BYTES, Fetched, Wanted, checked, missing

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_TITLE = "org.opencontainers.image.title"
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class OciRegistry:
    """A registry that speaks the OCI distribution protocol."""

    def __init__(self, web: Web) -> None:
        self._web, self._headers = web, dict[str, str]()

    def fetch(self, artifact: str, wanted: Wanted, folder: Path) -> Fetched:
        """Bring the blob of the manifest with the requested digest; both digests name the artifact."""
        repository = wanted.filled(artifact)
        if not _REPOSITORY.fullmatch(repository):
            raise missing(f"{repository!r} is not the name of a repository of an OCI registry", self._web.name)
        digest = f"sha256:{wanted.sha256}"
        data = self._get(repository, f"manifests/{digest}", MAX_FILE_BYTES, accept=MANIFEST)
        if data is None:
            raise missing(
                f"{self._uri(repository)} has no manifest {digest}",
                self._web.name,
                next_step="request the digest that oras push printed, which is the manifest's",
            )
        if (found := sha256_of(data)) != wanted.sha256:
            raise DigestMismatch(
                f"{self._uri(repository)} has a manifest of SHA-256 {found} where {wanted.sha256} was requested.",
                rule="an artifact from elsewhere is taken by its digest",
                next_step="find out who replaced it",
            )
        layer = self._layer(data, repository)
        path, blob = folder / "artifact", str(layer["digest"])
        url = self._web.at(f"v2/{repository}/blobs/{blob}")
        if not self._web.save(url, path, wanted.limit, headers=self._login(repository)):
            raise missing(f"{self._uri(repository)} has no blob {blob}, which its manifest names", self._web.name)
        checked(path, blob.removeprefix("sha256:"), f"{self._uri(repository)}@{blob}")
        title = str(layer.get("annotations", {}).get(_TITLE, "")) or "artifact"
        uri = f"{self._uri(repository)}@{digest}"
        return Fetched(path, title.rpartition("/")[2], uri, (wanted.sha256, blob.removeprefix("sha256:")))

    def read(self, path: str, limit: int) -> bytes | None:
        """Return a file: the blob of the manifest that ``<repository>:<tag>`` or ``<repository>@<digest>`` names.

        The tag of a statement may move: its signature counts, not its name.
        """
        repository, reference = re.split(r"[@:]", path, maxsplit=1) if re.search(r"[@:]", path) else (path, "")
        if not _REPOSITORY.fullmatch(repository) or not reference:
            raise missing(f"{path!r} names no file in an OCI registry: repository:tag or repository@digest", "build")
        data = self._get(repository, f"manifests/{reference}", MAX_FILE_BYTES, accept=MANIFEST)
        if data is None:
            return None
        digest = str(self._layer(data, repository)["digest"])
        found = self._get(repository, f"blobs/{digest}", limit)
        if found is not None and sha256_of(found) != digest.removeprefix("sha256:"):
            raise DigestMismatch(f"{self._uri(repository)}@{digest} has other bytes.")
        return found

    def _layer(self, data: bytes, repository: str) -> Mapping[str, Any]:
        """Return the one blob that a manifest names."""
        try:
            manifest = json.loads(data)
            layers = [one for one in manifest["layers"] if _DIGEST.fullmatch(one["digest"])]
        except (ValueError, KeyError, TypeError) as error:
            raise missing(f"The manifest in {self._uri(repository)} is not an OCI manifest", self._web.name) from error
        if manifest.get("schemaVersion") != 2 or len(layers) != 1 or len(manifest["layers"]) != 1:
            raise missing(
                f"The manifest in {self._uri(repository)} names {len(manifest['layers'])} blobs instead of one",
                self._web.name,
                next_step="push the release as one file: oras push REPOSITORY:TAG release.tar.gz",
            )
        layer: Mapping[str, Any] = layers[0]
        return layer

    def _get(self, repository: str, what: str, limit: int, *, accept: str = "*/*") -> bytes | None:
        url = self._web.at(f"v2/{repository}/{what}")
        return self._web.get(url, limit, headers={**self._login(repository), "Accept": accept})

    def _login(self, repository: str) -> dict[str, str]:
        """Return what the registry asks for: nothing, the login of the connection, or a token that the login gets."""
        if not self._headers:
            self._headers["User-Agent"] = "interlock"
            try:
                with httpx.Client(verify=self._web.trust(), timeout=30) as client:
                    challenge = client.get(self._web.at("v2/")).headers.get("WWW-Authenticate", "")
                    if challenge.lower().startswith("bearer"):
                        self._headers["Authorization"] = f"Bearer {self._token(client, challenge, repository)}"
            except httpx.HTTPError as error:
                raise TransientError(f"{self._web.url} does not answer: {error}", next_step="try again") from error
        return self._headers

    def _token(self, client: httpx.Client, challenge: str, repository: str) -> str:
        said = dict(_CHALLENGE.findall(challenge))
        realm = urljoin(self._web.url, said.get("realm", ""))
        if not may_have_logins(realm, self._web.url):
            raise self._refused(f"asks for a login at {realm}, which is not https")
        query = {"service": said.get("service", ""), "scope": f"repository:{repository}:pull"}
        login = (self._web.login, self._web.password) if self._web.password else None
        answer = client.get(f"{realm}?{urlencode(query)}", auth=login)
        if answer.status_code != 200:
            raise self._refused(f"gives no token: {realm} answers with status {answer.status_code}")
        plain = answer.json()
        return str(plain.get("token") or plain.get("access_token") or "")

    def _refused(self, what: str) -> AssetMissing:
        return missing(f"The registry {self._web.url} {what}", self._web.name)

    def _uri(self, repository: str) -> str:
        return f"oci://{urlsplit(self._web.url).netloc}/{repository}"
