"""Signed statements of a pipeline: read strictly, verified with pinned keys or against a pinned Sigstore.

Only what a pinned signer signed comes out of here. Of everything else comes a sentence that says why it does not count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from interlock.adapters.signing.signing import IN_TOTO
from interlock.domain.catalogue import PinnedKey, PrebuiltRules
from interlock.domain.prebuilt.claims import Signed

from ._sigstore import BUNDLE, Root, verify_bundle
from ._strict import NotVerified, as_statement, decoded, json_object, parsed

_MOST = 100
_LEAST_RSA_BITS = 2048


@dataclass(frozen=True, slots=True)
class Read:
    """What was read of a file of statements.

    :param faults: why the others do not count.
    """

    signed: tuple[Signed, ...]
    faults: tuple[str, ...]


def read_statements(data: bytes, name: str, rules: PrebuiltRules, root: Root | None) -> Read:
    """Read a file of statements, and keep those that a pinned key or identity signed.

    :param name: what people call the file.
    :param root: the pinned Sigstore.
    """
    signed: list[Signed] = []
    faults: list[str] = []
    try:
        found = [*_documents(data)]
    except NotVerified as error:
        return Read((), (f"{name}: {error}",))
    for number, document in enumerate(found[:_MOST], start=1):
        where = name if len(found) == 1 else f"{name}, statement {number}"
        try:
            signed.append(_verified(document, rules, root))
        except NotVerified as error:
            faults.append(f"{where}: {error}")
    if len(found) > _MOST:
        faults.append(f"{name}: has more than {_MOST} statements")
    return Read(tuple(signed), tuple(faults))


def _documents(data: bytes) -> Iterator[Mapping[str, Any]]:
    """Yield the envelopes and bundles of a file: one, one per line, or as GitHub's API lists them."""
    try:
        text = data.decode()
        plain = parsed(text)
    except UnicodeDecodeError as error:
        raise NotVerified("is not UTF-8") from error
    except ValueError:
        lines = [line for line in text.splitlines() if line.strip()]
        try:
            yield from (json_object(parsed(line)) for line in lines)
        except ValueError as error:
            raise NotVerified(f"is not JSON: {error}") from error
        return
    listed = plain.get("attestations") if isinstance(plain, dict) else None
    if isinstance(listed, list):
        yield from (json_object(json_object(one).get("bundle")) for one in listed)
    else:
        yield json_object(plain)


def _verified(document: Mapping[str, Any], rules: PrebuiltRules, root: Root | None) -> Signed:
    if str(document.get("mediaType", "")).startswith(BUNDLE):
        if root is None:
            raise NotVerified("is a Sigstore bundle, and prebuilt of policy.yaml pins no Sigstore")
        try:
            return verify_bundle(document, rules.identities, root)
        except ValueError as error:
            raise NotVerified(str(error)) from error
    if "payloadType" not in document:
        raise NotVerified("is neither a DSSE envelope nor a Sigstore bundle")
    return _by_key(document, rules.keys)


def _by_key(envelope: Mapping[str, Any], keys: Sequence[PinnedKey]) -> Signed:
    """Verify a DSSE envelope with the pinned keys; a signature's hint at its key counts for nothing."""
    if envelope.get("payloadType") != IN_TOTO:
        raise NotVerified(f"has the payload type {str(envelope.get('payloadType'))[:100]!r} instead of {IN_TOTO}")
    payload, signatures = decoded(envelope.get("payload")), envelope.get("signatures")
    if not isinstance(signatures, list) or not 1 <= len(signatures) <= _MOST:
        raise NotVerified("has no signatures")
    said = b"DSSEv1 %d %s %d %s" % (len(IN_TOTO), IN_TOTO.encode(), len(payload), payload)
    given = [decoded(json_object(one).get("sig")) for one in signatures]
    for key in keys:
        if any(_holds(key, signature, said) for signature in given):
            return Signed(statement=as_statement(payload), signer=key.name, builders=key.builders)
    names = ", ".join(key.name for key in keys) or "none"
    raise NotVerified(f"no pinned key of policy.yaml signed it (pinned: {names})")


def _holds(pinned: PinnedKey, signature: bytes, said: bytes) -> bool:
    try:
        key = load_pem_public_key(pinned.key.encode())
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, said)
        elif isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
            key.verify(signature, said, ec.ECDSA(SHA256() if isinstance(key.curve, ec.SECP256R1) else SHA384()))
        elif isinstance(key, rsa.RSAPublicKey) and key.key_size >= _LEAST_RSA_BITS:
            _verify_rsa(key, signature, said)
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def _verify_rsa(key: rsa.RSAPublicKey, signature: bytes, said: bytes) -> None:
    """Verify either of the two schemes; tools use both."""
    try:
        key.verify(signature, said, padding.PSS(padding.MGF1(SHA256()), padding.PSS.AUTO), SHA256())
    except InvalidSignature:
        key.verify(signature, said, padding.PKCS1v15(), SHA256())


def unusable_keys(rules: PrebuiltRules) -> Iterator[tuple[int, str]]:
    """Yield the pinned keys that cannot be used, by their place in the list, and why."""
    for index, pinned in enumerate(rules.keys):
        try:
            key = load_pem_public_key(pinned.key.encode())
        except (ValueError, UnsupportedAlgorithm):
            yield index, "it cannot be read"
            continue
        known = (
            isinstance(key, ed25519.Ed25519PublicKey)
            or (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1))
            or (isinstance(key, rsa.RSAPublicKey) and key.key_size >= _LEAST_RSA_BITS)
        )
        if not known:
            yield index, "it is neither Ed25519, nor ECDSA on P-256 or P-384, nor RSA with at least 2048 bits"
