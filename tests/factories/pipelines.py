"""A pipeline of somebody else: what it builds, and what it signs about it."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from interlock.adapters.signing.signing import IN_TOTO
from interlock.domain.canonical import canonical_bytes, sha256_of
from interlock.domain.catalogue import PinnedKey, PrebuiltRules

BUILDER = "https://jenkins.spoke-wheel.example/job/shop/"
REPOSITORY = "https://git.spoke-wheel.example/shop.git"
COMMIT = "5f2d" + "0" * 36
WORKFLOW, ENTRY_POINT = "Jenkinsfile", "release"
JUNIT = b"""<testsuite name="till">
<testcase classname="till" name="adds"/><testcase classname="till" name="pays"/></testsuite>"""
COVERAGE = b"""<coverage><packages><package name="shop"><classes><class name="till" filename="shop/till.py"><lines>
<line number="1" hits="1"/><line number="2" hits="1"/></lines></class></classes></package></packages></coverage>"""
BOM = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "version": 1,
    "components": [
        {"type": "library", "name": "flask", "version": "3.1.0", "licenses": [{"license": {"id": "BSD-3-Clause"}}]}
    ],
}
APPSPEC = "version: 0.0\nos: linux\n"


def release_archive(files: dict[str, bytes] | None = None, *, around: str = ".") -> bytes:
    """Return the release as ``tar czf`` packs a folder: owners, times and the folder itself are in it."""
    contents = files if files is not None else {"appspec.yml": APPSPEC.encode(), "shop/till.py": b"print('till')\n"}
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as archive,
    ):
        top = tarfile.TarInfo(around)
        top.type, top.mode, top.uid = tarfile.DIRTYPE, 0o755, 1000
        archive.addfile(top)
        for name, data in contents.items():
            info = tarfile.TarInfo(f"{around}/{name}")
            info.size, info.mode, info.uname, info.mtime = len(data), 0o664, "jenkins", 1_767_225_600
            archive.addfile(info, io.BytesIO(data))
    return packed.getvalue()


@dataclass
class Pipeline:
    """A Jenkins with a key of its own."""

    name: str = "jenkins"
    key: Any = field(default_factory=ed25519.Ed25519PrivateKey.generate)

    @property
    def pinned(self) -> PinnedKey:
        """Its key as the policy pins it."""
        pem = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        return PinnedKey(name=self.name, key=pem, builders=(BUILDER,))

    @property
    def rules(self) -> PrebuiltRules:
        """The rules that pin it."""
        return PrebuiltRules(stores=("shop_artifacts",), keys=(self.pinned,))

    def envelope(self, statement: dict[str, Any], kind: str = IN_TOTO) -> bytes:
        """Sign a statement."""
        payload = canonical_bytes(statement)
        said = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
        signature = (
            self.key.sign(said, ec.ECDSA(SHA256()))
            if isinstance(self.key, ec.EllipticCurvePrivateKey)
            else self.key.sign(said)
        )
        return json.dumps(
            {
                "payloadType": kind,
                "payload": base64.b64encode(payload).decode(),
                "signatures": [{"keyid": "", "sig": base64.b64encode(signature).decode()}],
            }
        ).encode()


def statement(sha256: str, predicate: dict[str, Any], kind: str = "https://slsa.dev/provenance/v1") -> dict[str, Any]:
    """Return an in-toto statement about an artifact."""
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "shop.tar.gz", "digest": {"sha256": sha256}}],
        "predicateType": kind,
        "predicate": predicate,
    }


def provenance(
    *,
    builder: str = BUILDER,
    repository: str = REPOSITORY,
    commit: str = COMMIT,
    workflow: Any = WORKFLOW,
    entry_point: str = ENTRY_POINT,
    left: tuple[bytes, ...] = (),
) -> dict[str, Any]:
    """Return what a Jenkins says of a build: SLSA's provenance v1."""
    return {
        "buildDefinition": {
            "buildType": "https://jenkins.spoke-wheel.example/buildtypes/pipeline/v1",
            "externalParameters": {
                "source": {"repository": repository},
                "workflow": workflow,
                "entryPoint": entry_point,
            },
            "resolvedDependencies": [{"uri": f"git+{repository}@refs/heads/main", "digest": {"gitCommit": commit}}],
        },
        "runDetails": {
            "builder": {"id": builder},
            "byproducts": [
                {"name": f"report-{number}", "digest": {"sha256": sha256_of(data)}} for number, data in enumerate(left)
            ],
        },
    }
