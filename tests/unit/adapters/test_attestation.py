from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from packageurl import PackageURL

from interlock.adapters.evidence import attestation
from interlock.adapters.signing.signing import IN_TOTO
from interlock.domain.canonical import canonical_bytes
from tests.factories import evidence as make
from tests.factories import releases

BUNDLE = releases.blob()
NAME = "bike-shop-1.1.0.tar.gz"


def test_result(*failures: Any) -> dict[str, Any]:
    return attestation.test_result_statement(
        artifact=BUNDLE,
        name=NAME,
        report=releases.quality(*failures),
        expectations={"tests": "1" * 64, "load": "2" * 64},
    )


test_result.__test__ = False  # type: ignore[attr-defined]


def release() -> dict[str, Any]:
    return attestation.release_statement(artifact=BUNDLE, name=NAME, service="bike-shop", version="1.1.0+build.5")


def bill() -> dict[str, Any]:
    return attestation.bom_statement(artifact=BUNDLE, name=NAME, bom=make.BOM)


def summary(outcome: str = "deployed") -> dict[str, Any]:
    return attestation.verification_summary_statement(
        plan=releases.rollout(),
        name=NAME,
        outcome=releases.outcome(outcome=outcome),
        verified=datetime(2026, 11, 23, 10, 0, 0, 5, tzinfo=UTC),
        inputs=[releases.blob("provenance.dsse.json", "2")],
    )


STATEMENTS = {"bill of materials": bill(), "test result": test_result(), "release": release(), "summary": summary()}


@pytest.mark.parametrize("made", STATEMENTS.values(), ids=STATEMENTS.keys())
def test_every_statement_is_about_the_artifact(made: dict[str, Any]) -> None:
    assert made["_type"] == "https://in-toto.io/Statement/v1"
    assert made["subject"] == [{"name": NAME, "digest": {"sha256": BUNDLE.sha256}}]


def test_the_predicate_of_a_bill_of_materials_is_the_document_byte_for_byte() -> None:
    made = bill()
    assert made["predicateType"] == "https://cyclonedx.org/bom"
    assert canonical_bytes(made["predicate"]) == make.BOM


def test_what_was_judged_is_a_test_result() -> None:
    made = test_result()
    assert made["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert made["predicate"] == {
        "result": "PASSED",
        "configuration": [
            {"name": "load", "digest": {"sha256": "2" * 64}},
            {"name": "tests", "digest": {"sha256": "1" * 64}},
        ],
        "url": releases.quality().docs,
        "passedTests": list(releases.SUITES),
        "warnedTests": [],
        "failedTests": [],
    }


def test_what_failed_has_failed_in_the_test_result() -> None:
    predicate = test_result(releases.failure())["predicate"]
    assert predicate["result"] == "FAILED"
    assert predicate["failedTests"] == ["performance"]
    assert "performance" not in predicate["passedTests"]


def test_a_release_has_a_package_url_with_its_version() -> None:
    made = release()
    assert made["predicateType"] == "https://in-toto.io/attestation/release/v0.1"
    assert set(made["predicate"]) == {"purl"}
    purl = PackageURL.from_string(made["predicate"]["purl"])
    assert (purl.type, purl.name, purl.version) == ("generic", "bike-shop", "1.1.0+build.5")
    assert not purl.qualifiers
    assert not purl.subpath


def test_a_deployed_release_passed_its_verification() -> None:
    made = summary()
    assert made["predicateType"] == "https://slsa.dev/verification_summary/v1"
    assert made["predicate"] == {
        "verifier": {"id": "urn:interlock:release-process"},
        "timeVerified": "2026-11-23T10:00:00Z",
        "resourceUri": releases.rollout().bundle.uri,
        "policy": {"uri": "urn:interlock:policy", "digest": {"sha256": "b" * 64}},
        "inputAttestations": [{"uri": releases.blob("provenance.dsse.json", "2").uri, "digest": {"sha256": "2" * 64}}],
        "verificationResult": "PASSED",
        "verifiedLevels": ["SLSA_BUILD_LEVEL_1"],
        "slsaVersion": "1.0",
    }


@pytest.mark.parametrize("outcome", ["rejected", "expired", "backed_out", "failed"])
def test_any_other_release_failed_its_verification(outcome: str) -> None:
    predicate = summary(outcome)["predicate"]
    assert (predicate["verificationResult"], predicate["verifiedLevels"]) == ("FAILED", ["FAILED"])


@pytest.mark.parametrize("made", STATEMENTS.values(), ids=STATEMENTS.keys())
def test_another_library_verifies_the_envelope(made: dict[str, Any]) -> None:
    """Written by securesystemslib, on OpenSSL; the encoding is by DSSE's page, the signature checked by libsodium."""
    by = make.signer()
    envelope = json.loads(by.envelope(made))
    key = load_pem_public_key(by.public_key).public_bytes(Encoding.Raw, PublicFormat.Raw)
    payload = base64.b64decode(envelope["payload"])
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    kind = envelope["payloadType"]
    signed = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    assert kind == IN_TOTO == "application/vnd.in-toto+json"
    assert json.loads(payload) == made
    assert VerifyKey(key).verify(signed, signature) == signed
    with pytest.raises(BadSignatureError):
        VerifyKey(key).verify(signed.replace(b"bike", b"hike"), signature)
