"""Debian's docker-registry on the loopback interface: the server that keeps images, and whatever ORAS pushes."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from interlock.domain.canonical import sha256_of

from .file_server import FileServer
from .ports import free_port

LOGIN, PASSWORD = "reader", "may-read"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
EMPTY = b"{}"
_STARTS_WITHIN = 30.0


@dataclass
class OciRegistry:
    """A registry that runs, and how a pipeline pushes to it.

    :param headers: with which the pipeline may push.
    """

    url: str
    headers: dict[str, str]

    def push(self, repository: str, *files: bytes, tag: str = "", title: str = "release.tar.gz") -> str:
        """Push files as ``oras push`` does; return the manifest's digest, without ``sha256:``."""
        for data in (EMPTY, *files):
            self._blob(repository, data)
        layers = [
            {**_described(data, "application/vnd.oci.image.layer.v1.tar+gzip"), "annotations": _titled(title)}
            for data in files
        ]
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _described(EMPTY, "application/vnd.oci.empty.v1+json"),
            "layers": layers,
        }
        return self.put_manifest(repository, json.dumps(manifest).encode(), tag)

    def put_manifest(self, repository: str, data: bytes, tag: str = "") -> str:
        """Push a manifest."""
        name = tag or f"sha256:{sha256_of(data)}"
        url = f"{self.url}/v2/{repository}/manifests/{name}"
        httpx.put(url, content=data, headers={**self.headers, "Content-Type": MANIFEST}).raise_for_status()
        return sha256_of(data)

    def _blob(self, repository: str, data: bytes) -> None:
        begun = httpx.post(f"{self.url}/v2/{repository}/blobs/uploads/", headers=self.headers)
        begun.raise_for_status()
        place = begun.headers["Location"]
        more = f"{'&' if '?' in place else '?'}digest=sha256:{sha256_of(data)}"
        httpx.put(place + more, content=data, headers=self.headers).raise_for_status()


def _described(data: bytes, kind: str) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{sha256_of(data)}", "size": len(data)}


def _titled(title: str) -> dict[str, str]:
    return {"org.opencontainers.image.title": title} if title else {}


@contextmanager
def registry_with_logins(folder: Path) -> Iterator[OciRegistry]:
    """Run a registry that asks for login and password."""
    (folder / "logins").write_bytes(LOGIN.encode() + b":" + bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)) + b"\n")
    auth = {"htpasswd": {"realm": "registry", "path": str(folder / "logins")}}
    basic = base64.b64encode(f"{LOGIN}:{PASSWORD}".encode()).decode()
    with _running(folder, auth) as url:
        yield OciRegistry(url, {"Authorization": f"Basic {basic}"})


@contextmanager
def registry_with_tokens(folder: Path, server: FileServer, repository: str) -> Iterator[OciRegistry]:
    """Run a registry that asks for tokens, which the file server gives: one that may pull from the repository."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tokens")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, SHA256())
    )
    (folder / "tokens.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    chain = [base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()]

    def token(*actions: str) -> str:
        granted = [{"type": "repository", "name": repository, "actions": actions}]
        times = {"nbf": int(now.timestamp()) - 60, "exp": int(now.timestamp()) + 600, "iat": int(now.timestamp())}
        claims = {"iss": "tokens", "aud": "registry", "sub": LOGIN, "jti": "1", "access": granted, **times}
        return jwt.encode(claims, key, "RS256", {"x5c": chain})

    auth = {
        "token": {
            "realm": f"{server.url}/token",
            "service": "registry",
            "issuer": "tokens",
            "rootcertbundle": str(folder / "tokens.pem"),
        }
    }
    scope = f"repository%3A{repository.replace('/', '%2F')}%3Apull"
    server.put(f"token?service=registry&scope={scope}", json.dumps({"token": token("pull")}).encode())
    with _running(folder, auth) as url:
        yield OciRegistry(url, {"Authorization": f"Bearer {token('pull', 'push')}"})


@contextmanager
def _running(folder: Path, auth: dict[str, Any]) -> Iterator[str]:
    port = free_port()
    settings = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}"},
        "auth": auth,
    }
    (folder / "config.yml").write_text(json.dumps(settings))
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log, cwd=folder
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + _STARTS_WITHIN
        while not _answers(url):
            assert process.poll() is None, (folder / "registry.log").read_text()
            assert time.monotonic() < deadline, "docker-registry does not answer"
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v2/").status_code in (200, 401)
    except httpx.TransportError:
        return False
