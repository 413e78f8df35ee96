"""A Sigstore of a test's own: an authority, its log of certificates, and a log of signatures, with keys in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from interlock.adapters.signing.signing import IN_TOTO
from interlock.domain.canonical import canonical_bytes, sha256_of
from interlock.domain.catalogue import PinnedIdentity

AT = datetime(2026, 11, 23, 9, tzinfo=UTC)
ISSUER = "https://token.actions.githubusercontent.com"
REPOSITORY = "https://github.com/spoke-wheel/shop"
WORKFLOW = ".github/workflows/release.yml"
SUBJECT = f"{REPOSITORY}/{WORKFLOW}@refs/tags/1.1.0"
BUILDER = "https://github.com/actions/runner/github-hosted"
_SCTS = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_ECDSA = ec.ECDSA(SHA256())

IDENTITY = PinnedIdentity(
    name="github",
    issuer=ISSUER,
    subjects=("https://github.com/spoke-wheel/*/.github/workflows/release.yml@refs/tags/*",),
    builders=(BUILDER,),
)


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _utf8(text: str) -> bytes:
    data = text.encode()
    size = bytes([len(data)]) if len(data) < 128 else b"\x81" + bytes([len(data)])
    return b"\x0c" + size + data


@dataclass
class Sigstore:
    """What signs without keys of one's own."""

    authority: ec.EllipticCurvePrivateKey = field(default_factory=_key)
    certificates: ec.EllipticCurvePrivateKey = field(default_factory=_key)
    signatures: ec.EllipticCurvePrivateKey = field(default_factory=_key)

    def __post_init__(self) -> None:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sigstore of a test")])
        self._name = name
        self._root = (
            x509.CertificateBuilder(name, name, self.authority.public_key(), 7)
            .not_valid_before(AT - timedelta(days=365))
            .not_valid_after(AT + timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.authority.public_key()), critical=False)
            .sign(self.authority, SHA256())
        )

    @property
    def trusted_root(self) -> bytes:
        """Its root as a platform pins it."""
        return json.dumps(
            {
                "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
                "tlogs": [self._log(self.signatures, "https://rekor.test")],
                "certificateAuthorities": [
                    {
                        "subject": {"organization": "test", "commonName": "sigstore of a test"},
                        "uri": "https://fulcio.test",
                        "certChain": {"certificates": [{"rawBytes": _b64(self._root.public_bytes(Encoding.DER))}]},
                        "validFor": {"start": "2026-01-01T00:00:00Z"},
                    }
                ],
                "ctlogs": [self._log(self.certificates, "https://ct.test")],
                "timestampAuthorities": [],
            }
        ).encode()

    def bundle(
        self, statement: dict[str, Any], *, kind: str = IN_TOTO, at: datetime = AT, **said: str
    ) -> dict[str, Any]:
        """Sign a statement, and leave it in the logs.

        :param said: ``subject``, ``issuer``, ``source``, ``commit`` and ``workflow`` of the certificate.
        """
        key, payload = _key(), canonical_bytes(statement)
        certificate = self._certificate(key, at, **said)
        signed = key.sign(b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload), _ECDSA)
        envelope = {"payloadType": kind, "payload": _b64(payload), "signatures": [{"sig": _b64(signed)}]}
        return {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "certificate": {"rawBytes": _b64(certificate.public_bytes(Encoding.DER))},
                "tlogEntries": [self._entry(certificate, payload, signed, at)],
            },
            "dsseEnvelope": envelope,
        }

    def _certificate(self, key: ec.EllipticCurvePrivateKey, at: datetime, **said: str) -> x509.Certificate:
        """Issue a certificate that is in the log of certificates."""
        facts = {
            8: said.get("issuer", ISSUER),
            12: said.get("source", REPOSITORY),
            13: said.get("commit", ""),
            18: said.get("workflow", SUBJECT),
        }
        subject = x509.UniformResourceIdentifier(said.get("subject", SUBJECT))
        builder = (
            x509.CertificateBuilder(self._name, x509.Name([]), key.public_key(), x509.random_serial_number())
            .not_valid_before(at - timedelta(minutes=1))
            .not_valid_after(at + timedelta(minutes=9))
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority.public_key()), critical=False
            )
            .add_extension(x509.SubjectAlternativeName([subject]), critical=True)
        )
        for number, text in facts.items():
            if text:
                oid = x509.ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{number}")
                builder = builder.add_extension(x509.UnrecognizedExtension(oid, _utf8(text)), critical=False)
        before = builder.sign(self.authority, SHA256()).tbs_certificate_bytes
        stamped = self._stamp(before, at)
        return builder.add_extension(x509.UnrecognizedExtension(_SCTS, stamped), critical=False).sign(
            self.authority, SHA256()
        )

    def _stamp(self, before: bytes, at: datetime) -> bytes:
        """Return what the log of certificates promises of a certificate (RFC 6962)."""
        issuer, moment = hashlib.sha256(_der(self.authority)).digest(), int(at.timestamp() * 1000)
        entry = issuer + len(before).to_bytes(3, "big") + before
        said = struct.pack("!BBQH", 0, 0, moment, 1) + entry + b"\0\0"
        signature = self.certificates.sign(said, _ECDSA)
        log = hashlib.sha256(_der(self.certificates)).digest()
        one = b"\0" + log + struct.pack("!QHBBH", moment, 0, 4, 3, len(signature)) + signature
        listed = struct.pack("!H", len(one)) + one
        whole = struct.pack("!H", len(listed)) + listed
        size = bytes([len(whole)]) if len(whole) < 128 else b"\x81" + bytes([len(whole)])
        return b"\x04" + size + whole

    def _entry(self, certificate: x509.Certificate, payload: bytes, signed: bytes, at: datetime) -> dict[str, Any]:
        """Return the entry in the log of signatures, with the log's promise and proof."""
        body = canonical_bytes(
            {
                "apiVersion": "0.0.1",
                "kind": "dsse",
                "spec": {
                    "envelopeHash": {"algorithm": "sha256", "value": sha256_of(payload)},
                    "payloadHash": {"algorithm": "sha256", "value": sha256_of(payload)},
                    "signatures": [
                        {"signature": _b64(signed), "verifier": _b64(certificate.public_bytes(Encoding.PEM))}
                    ],
                },
            }
        )
        log, leaf = hashlib.sha256(_der(self.signatures)).digest(), hashlib.sha256(b"\0" + body).digest()
        sibling = hashlib.sha256(b"another entry").digest()
        root, moment = hashlib.sha256(b"\1" + leaf + sibling).digest(), int(at.timestamp())
        promised = canonical_bytes({"body": _b64(body), "integratedTime": moment, "logID": log.hex(), "logIndex": 0})
        note = f"rekor.test - 1\n2\n{_b64(root)}\n"
        seal = _b64(log[:4] + self.signatures.sign(note.encode(), _ECDSA))
        return {
            "logIndex": "0",
            "logId": {"keyId": _b64(log)},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(moment),
            "inclusionPromise": {"signedEntryTimestamp": _b64(self.signatures.sign(promised, _ECDSA))},
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": _b64(root),
                "treeSize": "2",
                "hashes": [_b64(sibling)],
                "checkpoint": {"envelope": f"{note}\n— rekor.test {seal}\n"},
            },
            "canonicalizedBody": _b64(body),
        }

    @staticmethod
    def _log(key: ec.EllipticCurvePrivateKey, url: str) -> dict[str, Any]:
        return {
            "baseUrl": url,
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": _b64(_der(key)),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": {"start": "2026-01-01T00:00:00Z"},
            },
            "logId": {"keyId": _b64(hashlib.sha256(_der(key)).digest())},
        }


def _usage(**used: bool) -> x509.KeyUsage:
    every = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: used.get(name, False) for name in every})
