"""Signatures over DSSE envelopes: Ed25519 by a key in a file that only its owner can read, or ECDSA by one in KMS."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import FormatError, VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]  # its __init__ has no __all__

from interlock.adapters.aws.clients import aws_client
from interlock.domain.canonical import canonical_bytes
from interlock.domain.errors import AssetMissing, DigestMismatch, PolicyViolation

from ._kms import KmsKey

IN_TOTO = "application/vnd.in-toto+json"
"""Payload type of in-toto statements."""

KMS = "awskms"
"""The scheme of the URIs of keys in AWS KMS."""

_SSHSIG = b"SSHSIG"
_SETTINGS = "the connection interlock_signing_key"
_KMS_KEY = re.compile(
    r"[A-Za-z0-9-]{1,64}|alias/[\w/-]{1,250}|arn:[\w-]+:kms:[\w-]+:\d{12}:(?:key|alias)/[\w/-]{1,250}", re.ASCII
)


class Signer:
    """Signs what the release process claims."""

    def __init__(self, key: Ed25519PrivateKey | KmsKey) -> None:
        self._signer = key if isinstance(key, KmsKey) else CryptoSigner(key)
        self._private = None if isinstance(key, KmsKey) else key
        public = key.key if isinstance(key, KmsKey) else key.public_key()
        self.public_key: bytes = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        """The public key as PEM, for :func:`verify`."""

    @property
    def key_id(self) -> str:
        """What names the key in an envelope."""
        return str(self._signer.public_key.keyid)

    def derived_key(self, purpose: str) -> bytes | None:
        """Return a secret that only the holder of the key can work out; None: the key is in KMS, which hides it."""
        if self._private is None:
            return None
        return HKDF(SHA256(), length=32, salt=None, info=f"interlock: {purpose}".encode()).derive(
            self._private.private_bytes_raw()
        )

    def sign(self, payload: bytes, payload_type: str) -> dict[str, Any]:
        """Return a DSSE envelope around bytes."""
        envelope = Envelope(payload, payload_type, {})
        envelope.sign(self._signer)
        return dict(envelope.to_dict())

    def sign_for_ssh(self, message: bytes, namespace: str) -> str:
        """Return a signature that ``ssh-keygen -Y verify`` verifies, which every host with OpenSSH has.

        :param namespace: what the signature is for.
        """
        hashed = (namespace.encode(), b"", b"sha512", hashlib.sha512(message).digest())
        signed = bytes.fromhex(self._signer.sign(_SSHSIG + b"".join(map(_string, hashed))).signature)
        kind, _, public = ssh_key(self.public_key).partition(" ")
        if kind != "ssh-ed25519":
            signed = b"".join(_string(_mpint(number)) for number in decode_dss_signature(signed))
        parts = (base64.b64decode(public), *hashed[:3], _string(kind.encode()) + _string(signed))
        whole = base64.b64encode(_SSHSIG + (1).to_bytes(4, "big") + b"".join(map(_string, parts))).decode()
        lines = (whole[start : start + 70] for start in range(0, len(whole), 70))
        return "\n".join(("-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""))

    def envelope(self, statement: dict[str, Any]) -> bytes:
        """Return an in-toto statement in its DSSE envelope, as JSON."""
        return canonical_bytes(self.sign(canonical_bytes(statement), IN_TOTO))


def open_signer(connection: Any) -> Signer:
    """Open the private key that an Airflow connection names by the URI in its host.

    Of a key in KMS, the connection is of type ``aws`` and says the rest: credentials, region, endpoint, role.
    """
    uri = str(connection.host or "")
    if urlsplit(uri).scheme != KMS:
        return load_signer(uri)
    if connection.conn_type != "aws":
        raise AssetMissing(
            f"The key {uri} is in KMS, but {_SETTINGS} has the type {connection.conn_type} instead of aws.",
            who="the platform engineer",
            next_step="set its type to aws, with region_name in its extra",
        )
    region = re.match(r"arn:[^:]*:kms:([^:]+):", kms_key_id(uri))
    return load_signer(uri, kms=aws_client(connection, "kms", region=region[1] if region else None))


def open_key(uri: str) -> Signer:
    """Open the private key that a URI names; of one in KMS, AWS's usual places say the credentials and the region."""
    if urlsplit(uri).scheme != KMS:
        return load_signer(uri)
    import boto3  # not at the top: only for keys in KMS

    return load_signer(uri, kms=boto3.client("kms"))


def load_signer(uri: str, *, kms: Any = None) -> Signer:
    """Open the private key that a URI names; one in a file must be readable by its owner only.

    :param uri: ``file:`` and the absolute path of a PEM file with an Ed25519 key, or ``awskms:///`` and key id, alias
        (``alias/…``), or the ARN of either.
    :param kms: boto3's client, for a key in KMS.
    """
    parts = urlsplit(uri)
    if parts.scheme == KMS and kms is not None:
        return Signer(KmsKey(kms, kms_key_id(uri)))
    path = Path(unquote(parts.path))
    if parts.scheme != "file" or parts.netloc or not path.is_absolute():
        raise AssetMissing(
            f"{uri!r} does not name a signing key: it must be file: and an absolute path, or awskms:/// and a key.",
            who="the platform engineer",
            next_step=f"correct the host of {_SETTINGS}",
        )
    pem = _read_private(path)
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "is not an unencrypted private key in PEM") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path, "is not an Ed25519 key")
    return Signer(key)


def kms_key_id(uri: str) -> str:
    """Return what KMS calls the key that a URI names; AssetMissing if it names none."""
    parts = urlsplit(uri)
    key_id = unquote(parts.path).lstrip("/")
    if parts.netloc or parts.query or parts.fragment or not _KMS_KEY.fullmatch(key_id):
        raise AssetMissing(
            f"{uri!r} does not name a key in KMS: it must be awskms:/// and key id, alias/…, or the ARN of either.",
            who="the platform engineer",
            next_step=f"correct the host of {_SETTINGS}",
        )
    return key_id


def generate_key(path: Path) -> None:
    """Write a new private key with mode 600 and its public key beside it as ``.pub``; a key that is there stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    private = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write_once(path, private, 0o600)
    # From the file, not from memory: another process may have been first.
    _write_once(path.with_name(path.name + ".pub"), load_signer(path.absolute().as_uri()).public_key, 0o644)


def key_id(public_key: bytes) -> str:
    """Return what names a public key in PEM in envelopes."""
    return str(_ours(load_pem_public_key(public_key)).keyid)


def ssh_key(public_key: bytes) -> str:
    """Return a public key in PEM as OpenSSH writes it: its kind, and base64."""
    return load_pem_public_key(public_key).public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _mpint(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")  # with a bit for the sign


def verify(envelope: Mapping[str, Any] | bytes, public_key: bytes) -> bytes:
    """Return an envelope's payload if the key signed it; DigestMismatch if not.

    :param envelope: as JSON, or read from it.
    :param public_key: PEM.
    """
    try:
        key = load_pem_public_key(public_key)
        opened = _opened(envelope)
        opened.verify([_ours(key)], threshold=1)
    except (VerificationError, FormatError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise DigestMismatch(
            f"The signature is not valid: {error}.",
            rule="a record counts only with a valid signature",
            next_step="have the change investigated, or use the public key of the installation that signed it",
        ) from error
    return bytes(opened.payload)


def said(envelope: Any, public_key: bytes, payload_type: str) -> Any:
    """Return the JSON content of an envelope; None: it has another type, or the key did not sign it."""
    if isinstance(envelope, dict) and envelope.get("payloadType") == payload_type:
        with suppress(DigestMismatch, ValueError):
            return json.loads(verify(envelope, public_key))
    return None


def verified_statement(envelope: Mapping[str, Any] | bytes, public_key: bytes) -> dict[str, Any]:
    """Return the in-toto statement in an envelope that the key signed."""
    payload = verify(envelope, public_key)
    if _opened(envelope).payload_type != IN_TOTO:
        raise DigestMismatch(f"The envelope does not hold {IN_TOTO}.")
    statement: dict[str, Any] = json.loads(payload)
    return statement


def _opened(envelope: Mapping[str, Any] | bytes) -> Envelope:
    # Copied: reading changes what is read.
    return Envelope.from_dict(json.loads(envelope) if isinstance(envelope, bytes) else copy.deepcopy(dict(envelope)))


def _ours(key: object) -> SSlibKey:
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return SSlibKey.from_crypto(key)
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("records are signed with Ed25519 or ECDSA on P-256, but the public key is of another kind")
    return SSlibKey.from_crypto(key)


def _read_private(path: Path) -> bytes:
    """Read a file that only its owner can read, or one of root's that a group of this process can read.

    The second is how root gives a service a key, and Kubernetes a Secret; PostgreSQL has the same rule. The check and
    the read use the same open file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _no_key(path, f"cannot be opened: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        mode = stat.S_IMODE(found.st_mode)
        if mode & (0o037 if found.st_uid == 0 != os.geteuid() else 0o077):
            raise PolicyViolation(
                f"The signing key {path} has mode {mode:o}: users other than its owner can read or change it.",
                rule="a signing key has mode 600; or it is root's, with mode 640, for the group of the service",
                who="the operators of this installation",
                next_step="create a new key, because this key may be compromised; then chmod 600",
            )
        return file.read(65536)


def _write_once(path: Path, data: bytes, mode: int) -> None:
    """Write a file, whole or not at all, if there is none yet."""
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.link(aside, path)
    except FileExistsError:
        return
    finally:
        os.unlink(aside)


def _no_key(path: Path, what: str) -> AssetMissing:
    return AssetMissing(
        f"The signing key {path} {what}.",
        rule="artifacts and decisions are signed",
        who="the operators of this installation",
        next_step=f"create a key with the setup, or correct the host of {_SETTINGS}",
    )
