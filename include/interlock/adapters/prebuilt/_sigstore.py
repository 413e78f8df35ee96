"""Sigstore bundles, verified offline against a root that the platform pins: certificate, logs, time, and signature.

The library of Sigstore verifies (docs/adr/0017); what it accepts is then held against the pinned identities.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interlock.adapters.signing.signing import IN_TOTO
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import PinnedIdentity, PrebuiltRules
from interlock.domain.errors import DigestMismatch
from interlock.domain.prebuilt.claims import Signed

from ._strict import as_statement

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from sigstore.models import TrustedRoot

BUNDLE = "application/vnd.dev.sigstore.bundle"
_ISSUER, _OLD_ISSUER = "1.3.6.1.4.1.57264.1.8", "1.3.6.1.4.1.57264.1.1"
_SOURCE, _COMMIT, _WORKFLOW = (f"1.3.6.1.4.1.57264.1.{number}" for number in (12, 13, 18))


@dataclass(frozen=True, slots=True)
class Root:
    """A pinned Sigstore: whose certificates, logs and timestamps count."""

    trusted: TrustedRoot


def pinned_root(rules: PrebuiltRules, folder: Path) -> Root | None:
    """Read the pinned root; None: none is pinned.

    :param folder: of the catalogue.
    :raises DigestMismatch: the file is not the pinned one.
    """
    if rules.trusted_root is None:
        return None
    path = folder / rules.trusted_root.file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _changed(f"{path.name} cannot be read: {error.strerror}") from error
    if (found := sha256_of(data)) != rules.trusted_root.sha256:
        raise _changed(f"{path.name} has SHA-256 {found}, but {rules.trusted_root.sha256} is pinned")
    from sigstore.errors import Error
    from sigstore.models import TrustedRoot

    try:
        return Root(TrustedRoot.from_file(str(path)))
    except (Error, ValueError, TypeError, KeyError) as error:
        raise _changed(f"{path.name} is no trusted root of Sigstore: {error}") from error


def verify_bundle(bundle: Mapping[str, Any], identities: Sequence[PinnedIdentity], root: Root) -> Signed:
    """Verify a bundle, and find the pinned identity that signed it.

    :raises ValueError: it does not count, and why.
    """
    from sigstore.errors import Error, VerificationError
    from sigstore.models import Bundle
    from sigstore.verify.verifier import Verifier

    met: list[PinnedIdentity] = []

    class Pinned:
        """What a certificate has to say: a pinned issuer and one of its subjects."""

        def verify(self, cert: Certificate) -> None:
            found = next((one for one in identities if _is(one, cert)), None)
            if found is None:
                names = ", ".join(one.name for one in identities) or "none"
                raise VerificationError(
                    f"it is signed by {' or '.join(_subjects(cert)) or 'nobody'} of the issuer {_issuer(cert)}, which "
                    f"is no pinned identity (pinned: {names})"
                )
            met.append(found)

    try:
        read = Bundle.from_json(json.dumps(bundle))
        kind, payload = Verifier(trusted_root=root.trusted).verify_dsse(read, Pinned())
    except Error as error:
        raise ValueError(f"its Sigstore bundle does not hold: {error}") from error
    except Exception as error:  # whatever a strange bundle makes a library raise: it does not count
        raise ValueError(f"its Sigstore bundle cannot be read: {type(error).__name__}") from error
    if kind != IN_TOTO or len(met) != 1:
        raise ValueError(f"has the payload type {kind[:100]!r} instead of {IN_TOTO}")
    certificate = read.signing_certificate
    return Signed(
        statement=as_statement(payload),
        signer=met[0].name,
        builders=met[0].builders,
        source=_said(certificate, _SOURCE),
        commit=_said(certificate, _COMMIT),
        workflow=_said(certificate, _WORKFLOW),
    )


def _is(identity: PinnedIdentity, certificate: Certificate) -> bool:
    patterns = [_pattern(subject) for subject in identity.subjects]
    subjects = _subjects(certificate)
    known = len(subjects) == 1 and any(pattern.fullmatch(subjects[0]) for pattern in patterns)
    return known and _issuer(certificate) == identity.issuer


def _pattern(subject: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*)", subject)
    return re.compile("".join({"*": "[^/]+", "**": ".+"}.get(part) or re.escape(part) for part in parts))


def _subjects(certificate: Certificate) -> list[str]:
    from cryptography.x509 import ExtensionNotFound, RFC822Name, SubjectAlternativeName, UniformResourceIdentifier

    try:
        names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    except ExtensionNotFound:
        return []
    kinds = (UniformResourceIdentifier, RFC822Name)
    return [str(text) for kind in kinds for text in names.get_values_for_type(kind)]


def _issuer(certificate: Certificate) -> str:
    return _said(certificate, _ISSUER) or _said(certificate, _OLD_ISSUER, plain=True)


def _said(certificate: Certificate, oid: str, *, plain: bool = False) -> str:
    """Return what Sigstore's own extension of a certificate says; empty: it has none.

    :param plain: the older extensions hold the text itself, the newer ones a UTF8String in DER.
    """
    from cryptography.hazmat import asn1
    from cryptography.x509 import ExtensionNotFound, ObjectIdentifier, UnrecognizedExtension

    try:
        found = certificate.extensions.get_extension_for_oid(ObjectIdentifier(oid)).value
    except ExtensionNotFound:
        return ""
    if not isinstance(found, UnrecognizedExtension):
        return ""
    try:
        return found.value.decode() if plain else str(asn1.decode_der(str, found.value))
    except ValueError:
        return ""


def _changed(what: str) -> DigestMismatch:
    return DigestMismatch(
        f"{what}.",
        rule="prebuilt.trusted_root, in policy.yaml: the file and its digest",
        who="the platform engineer",
        next_step="restore the file, or pin the new one after checking where it comes from",
    )
