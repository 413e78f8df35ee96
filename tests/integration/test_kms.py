"""A signing key in KMS, at moto's server: what it signs is proven by others, and by the verifier of evidence packs."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from airflow.sdk import Connection
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from moto.kms import utils as moto_keys
from moto.server import ThreadedMotoServer
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

from interlock.adapters.evidence.pack import build_pack
from interlock.adapters.signing import _kms
from interlock.adapters.signing.signing import Signer, generate_key, load_signer, open_signer, ssh_key, verify
from interlock.domain.errors import AssetMissing, DigestMismatch, TransientError
from interlock.domain.permits.on_hosts import NAMESPACE, allowed_signer
from interlock.locations import PROJECT
from tests.factories import evidence as make
from tests.factories import releases

REGION = "eu-central-1"
TYPE = "application/vnd.interlock.chain-head+json"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def client(endpoint: str) -> Any:
    secrets = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing-secret"}
    return boto3.client("kms", endpoint_url=endpoint, region_name=REGION, **secrets)


@pytest.fixture(scope="module")
def arn(client: Any) -> str:
    key: str = client.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
    client.create_alias(AliasName="alias/interlock/signing", TargetKeyId=key)
    return key


def test_a_host_verifies_with_openssh_what_kms_signed(client: Any, arn: str, tmp_path: Path) -> None:
    signer = load_signer(f"awskms:///{arn}", kms=client)
    (tmp_path / "keys").write_text(allowed_signer(ssh_key(signer.public_key)))
    text = b"interlock-permit 1\ntoken 7\n"
    command = ["ssh-keygen", "-Y", "verify", "-f", tmp_path / "keys", "-I", "interlock", "-n", NAMESPACE, "-s"]
    for _ in range(8):  # its numbers are of several lengths
        (tmp_path / "signature").write_text(signer.sign_for_ssh(text, NAMESPACE))
        subprocess.run([*command, tmp_path / "signature"], input=text, check=True, capture_output=True)
        changed = subprocess.run(
            [*command, tmp_path / "signature"], input=text + b"x", check=False, capture_output=True
        )
        assert changed.returncode != 0


@pytest.fixture
def digests_are_not_hashed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let moto do with a digest what KMS does; moto takes it for a message and hashes it a second time."""

    def sign(self: Any, message: bytes, signing_algorithm: str) -> bytes:
        how = Prehashed(SHA256()) if len(message) == 32 else SHA256()
        signature: bytes = self.private_key.sign(message, ec.ECDSA(how))
        return signature

    monkeypatch.setattr(moto_keys.ECDSAPrivateKey, "sign", sign)


def connection(endpoint: str, uri: str, conn_type: str = "aws", **extra: Any) -> Connection:
    """Return the connection as Airflow hands it to a task."""
    return Connection(
        conn_id="interlock_signing_key",
        conn_type=conn_type,
        host=uri,
        login="testing",
        password="testing-secret",
        extra=json.dumps({"endpoint_url": endpoint, "region_name": REGION} | extra),
    )


@pytest.fixture
def signer(endpoint: str, arn: str) -> Signer:
    return open_signer(connection(endpoint, "awskms:///alias/interlock/signing"))


def test_what_kms_signs_is_verified_by_us_and_by_another_library(signer: Signer) -> None:
    envelope = signer.sign(b'{"chain":"x"}', TYPE)
    assert verify(envelope, signer.public_key) == b'{"chain":"x"}'
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = SSlibKey.from_crypto(load_pem_public_key(signer.public_key))
    Envelope.from_dict(json.loads(json.dumps(envelope))).verify([key], 1)
    assert envelope["signatures"][0]["keyid"] == key.keyid == signer.key_id
    with pytest.raises(DigestMismatch, match="signature is not valid"):
        verify({**envelope, "payload": base64.b64encode(b"{}").decode()}, signer.public_key)


def test_the_key_is_named_by_id_alias_or_arn(endpoint: str, arn: str, signer: Signer) -> None:
    for name in (arn, arn.rpartition("/")[2], arn.rpartition(":")[0] + ":alias/interlock/signing"):
        other = open_signer(connection(endpoint, f"awskms:///{name}"))
        assert other.public_key == signer.public_key, name


def test_the_region_is_the_arns_if_the_connection_names_none(endpoint: str, arn: str, signer: Signer) -> None:
    bare = Connection(
        conn_id="interlock_signing_key", conn_type="aws", host=f"awskms:///{arn}", login="a", password="b",
        extra=json.dumps({"endpoint_url": endpoint}),
    )  # fmt: skip
    assert open_signer(bare).public_key == signer.public_key


def test_of_the_two_numbers_that_hold_the_lower_is_kept(signer: Signer) -> None:
    for number in range(12):
        signature = base64.b64decode(signer.sign(b"%d" % number, TYPE)["signatures"][0]["sig"])
        assert decode_dss_signature(signature)[1] <= _kms.ORDER // 2


@pytest.mark.usefixtures("digests_are_not_hashed_again")
def test_what_is_longer_than_kms_takes_is_signed_by_its_digest(signer: Signer) -> None:
    for size in (_kms.MAX_MESSAGE_BYTES - 100, _kms.MAX_MESSAGE_BYTES, 100_000):
        assert verify(signer.sign(b"x" * size, TYPE), signer.public_key) == b"x" * size


@pytest.mark.usefixtures("digests_are_not_hashed_again")
def test_a_pack_signed_in_kms_is_proven_offline(
    signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = make.provenance(releases.artifact().bundle, signer)  # once: of the same, ECDSA makes another signature
    monkeypatch.setattr(make, "provenance", lambda *_: signed)
    build_pack(tmp_path / "pack.zip", make.evidence(by=signer), signer, created=make.AT + timedelta(hours=1))
    (tmp_path / "key.pem").write_bytes(signer.public_key)

    def proof(file: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "interlock.verify", str(tmp_path / file)]
        return subprocess.run(
            [*command, "--key", str(tmp_path / "key.pem")], cwd=PROJECT, capture_output=True, text=True, check=False
        )

    done = proof("pack.zip")
    assert done.returncode == 0, done.stdout
    assert f"given: SHA-256 {hashlib.sha256(_der(signer.public_key)).hexdigest()}" in done.stdout
    changed = (tmp_path / "pack.zip").read_bytes().replace(b"I am ben", b"I am dan")
    (tmp_path / "changed.zip").write_bytes(changed)
    assert proof("changed.zip").returncode == 1


def _der(pem: bytes) -> bytes:
    return base64.b64decode(b"".join(pem.splitlines()[1:-1]))


def test_a_signature_that_does_not_hold_is_not_handed_on(signer: Signer) -> None:
    with pytest.raises(DigestMismatch, match="KMS returned a signature that is not valid"):
        signer.sign(b"x" * 100_000, TYPE)  # moto hashes the digest again: the signature is of something else


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("awskms:///alias/none", "cannot be used: .*NotFoundException"),
        ("awskms://127.0.0.1:5560/alias/interlock", "does not name a key in KMS"),
        ("awskms:///", "does not name a key in KMS"),
        ("awskms:///alias/x?y", "does not name a key in KMS"),
        ("awskms:///../key", "does not name a key in KMS"),
    ],
)
def test_a_key_that_is_not_there_is_refused(endpoint: str, client: Any, uri: str, said: str) -> None:
    with pytest.raises(AssetMissing, match=said):
        open_signer(connection(endpoint, uri))


def test_a_connection_of_another_type_is_refused(endpoint: str) -> None:
    with pytest.raises(AssetMissing, match="the type generic instead of aws"):
        open_signer(connection(endpoint, "awskms:///alias/x", conn_type="generic"))


@pytest.mark.parametrize("spec", ["ECC_NIST_P384", "ECC_SECG_P256K1", "RSA_2048"])
def test_a_key_of_another_kind_is_refused(endpoint: str, client: Any, spec: str) -> None:
    key = client.create_key(KeySpec=spec, KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    with pytest.raises(AssetMissing, match=r"is of another kind.*ECC_NIST_P256"):
        open_signer(connection(endpoint, f"awskms:///{key}"))


def test_a_kms_out_of_reach_is_tried_again(signer: Signer) -> None:
    class Away:
        def get_public_key(self, **_: Any) -> Any:
            from botocore.exceptions import EndpointConnectionError

            raise EndpointConnectionError(endpoint_url="http://kms")

    with pytest.raises(TransientError, match="KMS cannot be reached"):
        load_signer("awskms:///alias/x", kms=Away())


def test_a_key_in_a_file_signs_as_before(tmp_path: Path) -> None:
    generate_key(tmp_path / "key")
    by = load_signer((tmp_path / "key").as_uri())
    assert verify(by.sign(b"x", TYPE), by.public_key) == b"x"
