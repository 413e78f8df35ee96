from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from interlock.adapters.evidence.attestation import provenance_statement, statement
from interlock.adapters.signing.signing import (
    IN_TOTO,
    Signer,
    generate_key,
    load_signer,
    open_signer,
    verified_statement,
    verify,
)
from interlock.domain.catalogue import Build
from interlock.domain.errors import AssetMissing, DigestMismatch, PolicyViolation
from interlock.domain.records import Blob

CLAIM = {"what": "bikes ✓"}


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "keys" / "signing.pem"
    generate_key(path)
    return path


@pytest.fixture
def signer(key: Path) -> Signer:
    return load_signer(f"file:{key}")


class Connection:
    """What Airflow gives for a connection, as far as it is read."""

    def __init__(self, host: str | None) -> None:
        self.host = host


def test_a_key_is_written_once_and_only_for_its_owner(key: Path) -> None:
    before = key.read_bytes()
    generate_key(key)
    assert key.read_bytes() == before
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    public = key.with_name("signing.pem.pub")
    assert public.read_bytes() == load_signer(f"file:{key}").public_key
    assert sorted(path.name for path in key.parent.iterdir()) == ["signing.pem", "signing.pem.pub"]


def test_what_is_signed_comes_back_verified(key: Path, signer: Signer) -> None:
    envelope = open_signer(Connection(f"file:{key}")).envelope(statement({"a": "0" * 64}, "urn:x", CLAIM))
    assert json.loads(envelope)["payloadType"] == IN_TOTO
    for form in (envelope, json.loads(envelope)):
        assert verified_statement(form, signer.public_key)["predicate"] == CLAIM
    assert verify(signer.sign(b"bytes \xff", "text/plain"), signer.public_key) == b"bytes \xff"


def test_an_envelope_says_which_key_signed_it(signer: Signer) -> None:
    assert [one["keyid"] for one in signer.sign(b"x", IN_TOTO)["signatures"]] == [signer.key_id]


def test_verifying_does_not_change_the_envelope(signer: Signer) -> None:
    envelope = signer.sign(b"x", IN_TOTO)
    before = json.dumps(envelope)
    verify(envelope, signer.public_key)
    assert json.dumps(envelope) == before


def test_the_signature_is_plain_ed25519_over_dsses_own_encoding(signer: Signer) -> None:
    envelope = signer.sign(b"bikes", IN_TOTO)
    signed = b"DSSEv1 %d %b 5 bikes" % (len(IN_TOTO), IN_TOTO.encode())
    key: Any = load_pem_public_key(signer.public_key)
    key.verify(base64.b64decode(envelope["signatures"][0]["sig"]), signed)


@pytest.mark.parametrize(
    "change",
    [
        {"payload": base64.b64encode(b"cars").decode()},
        {"payloadType": "text/plain"},
        {"signatures": []},
        {"signatures": [{"keyid": "x", "sig": "AAAA"}]},
        {"signatures": 7},
        {"payload": None},
    ],
)
def test_a_changed_envelope_does_not_verify(signer: Signer, change: dict[str, Any]) -> None:
    with pytest.raises(DigestMismatch, match="The signature is not valid"):
        verify(signer.sign(b"bikes", IN_TOTO) | change, signer.public_key)


def test_another_key_does_not_verify(signer: Signer, tmp_path: Path) -> None:
    generate_key(tmp_path / "other.pem")
    other = load_signer(f"file:{tmp_path}/other.pem")
    with pytest.raises(DigestMismatch, match="The signature is not valid"):
        verify(signer.sign(b"bikes", IN_TOTO), other.public_key)
    envelope = signer.sign(b"bikes", IN_TOTO)
    envelope["signatures"][0]["keyid"] = other.key_id
    with pytest.raises(DigestMismatch):
        verify(envelope, other.public_key)


def test_what_is_no_envelope_or_no_key_does_not_verify(signer: Signer) -> None:
    with pytest.raises(DigestMismatch):
        verify(b"not json", signer.public_key)
    with pytest.raises(DigestMismatch):
        verify(signer.sign(b"x", IN_TOTO), b"not a key")
    with pytest.raises(DigestMismatch, match="does not hold application/vnd"):
        verified_statement(signer.sign(b"{}", "text/plain"), signer.public_key)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_key_that_others_can_read_is_refused(key: Path, mode: int) -> None:
    key.chmod(mode)
    with pytest.raises(PolicyViolation, match=f"has mode {mode:o}.*a signing key has mode 600"):
        load_signer(f"file:{key}")


def test_root_may_give_a_key_to_a_service_by_its_group(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Kubernetes mounts a Secret for a process that is not root's."""
    real = os.fstat

    def of_root(descriptor: int) -> os.stat_result:
        found = list(real(descriptor))
        found[4] = 0
        return os.stat_result(found)

    monkeypatch.setattr(os, "fstat", of_root)
    monkeypatch.setattr(os, "geteuid", lambda: 50000)
    for mode in (0o440, 0o640):
        key.chmod(mode)
        assert load_signer(f"file:{key}")
    for mode in (0o660, 0o444, 0o641):
        key.chmod(mode)
        with pytest.raises(PolicyViolation, match=f"has mode {mode:o}"):
            load_signer(f"file:{key}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    key.chmod(0o640)
    with pytest.raises(PolicyViolation, match="has mode 640"):
        load_signer(f"file:{key}")


@pytest.mark.parametrize("uri", ["", "signing.pem", "file:relative.pem", "file://host/key", "gcpkms:key"])
def test_an_address_that_names_no_key_is_refused(uri: str) -> None:
    with pytest.raises(AssetMissing, match="does not name a signing key"):
        open_signer(Connection(uri or None))


def test_a_key_that_is_missing_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    with pytest.raises(AssetMissing, match="cannot be opened: No such file"):
        load_signer(f"file:{path}")
    path.write_text("nothing")
    path.chmod(0o600)
    with pytest.raises(AssetMissing, match="is not an unencrypted private key"):
        load_signer(f"file:{path}")
    subprocess.run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path],
                   check=True, capture_output=True, env={"PATH": os.environ["PATH"]})  # fmt: skip
    path.chmod(0o600)
    with pytest.raises(AssetMissing, match="is not an Ed25519 key"):
        load_signer(f"file:{path}")


def test_provenance_says_what_was_built_from_what_how_and_when(signer: Signer) -> None:
    bundle = Blob(uri="s3://artifacts/sha256/ab/…/bike-shop-1.1.0.tar.gz", sha256="ab" * 32, size=7)
    log = Blob(uri="s3://artifacts/sha256/cd/…/build.log", sha256="cd" * 32, size=9)
    made = provenance_statement(
        artifact=bundle,
        name="bike-shop-1.1.0.tar.gz",
        repository="https://ci:s3cret@example.com/bike-shop.git",
        ref="1.1.0",
        commit="c" * 40,
        build=Build(tool="make", build=("release",), output="build/release"),
        tool="GNU Make 4.3",
        invocation="release_bike_shop/manual__1",
        started=datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2))),
        finished=datetime(2026, 1, 1, 10, 1, tzinfo=UTC),
        byproducts={"build.log": log},
    )
    assert made["_type"] == "https://in-toto.io/Statement/v1"
    assert made["predicateType"] == "https://slsa.dev/provenance/v1"
    assert made["subject"] == [{"name": "bike-shop-1.1.0.tar.gz", "digest": {"sha256": "ab" * 32}}]
    definition, details = made["predicate"]["buildDefinition"], made["predicate"]["runDetails"]
    assert definition["externalParameters"]["source"] == {
        "repository": "https://example.com/bike-shop.git", "ref": "1.1.0", "commit": "c" * 40
    }  # fmt: skip
    assert definition["externalParameters"]["build"]["build"] == ["release"]
    assert definition["internalParameters"] == {"tool": "GNU Make 4.3"}
    assert definition["resolvedDependencies"] == [
        {"uri": "git+https://example.com/bike-shop.git@1.1.0", "digest": {"gitCommit": "c" * 40}}
    ]
    assert details["metadata"] == {
        "invocationId": "release_bike_shop/manual__1",
        "startedOn": "2026-01-01T10:00:00Z",
        "finishedOn": "2026-01-01T10:01:00Z",
    }
    assert details["byproducts"] == [{"name": "build.log", "uri": log.uri, "digest": {"sha256": "cd" * 32}}]
    assert "s3cret" not in json.dumps(made)
    assert verified_statement(signer.envelope(made), signer.public_key) == made


@pytest.mark.parametrize(
    ("repository", "uri"),
    [
        ("git@example.com:team/shop.git", "git+ssh://git@example.com/team/shop.git@main"),
        ("/srv/git/shop", "git+file:///srv/git/shop@main"),
        ("ssh://git@example.com/shop", "git+ssh://git@example.com/shop@main"),
    ],
)
def test_a_repositorys_address_becomes_a_uri(repository: str, uri: str) -> None:
    now = datetime.now(UTC)
    made = provenance_statement(
        artifact=Blob(uri="file:///x", sha256="ab" * 32, size=1),
        name="x",
        repository=repository,
        ref="main",
        commit="c" * 40,
        build=Build(tool="make", output="out"),
        tool="make",
        invocation="d/r",
        started=now,
        finished=now,
    )
    assert made["predicate"]["buildDefinition"]["resolvedDependencies"][0]["uri"] == uri
