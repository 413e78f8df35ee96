"""What is claimed about a release, in standard words: in-toto statements with SLSA's and in-toto's predicates.

A statement is plain JSON; :mod:`.signing` puts it into a signed envelope.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from packageurl import PackageURL

from interlock.adapters.source.addresses import public_url
from interlock.domain.catalogue import Build
from interlock.domain.records import Blob, BuildEnvironment, Origin, Outcome, QualityReport, RolloutPlan

STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
BOM = "https://cyclonedx.org/bom"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
RELEASE = "https://in-toto.io/attestation/release/v0.1"
VERIFICATION_SUMMARY = "https://slsa.dev/verification_summary/v1"
SIGNED_BOM = "bom.dsse.json"
"""What the signed bill of materials is called among what a build left, in its provenance."""
FILE_LIST = "files.json"
"""What the list of the bundle's files with their digests is called there."""
BUILD_TYPE = "urn:interlock:build:v1"
"""A clean clone of one commit, built by the service's own tool with a whitelisted environment, packed as a bundle."""
TAKEN_TYPE = "urn:interlock:prebuilt:v1"
"""An artifact of another pipeline, taken by its digest and packed anew as a bundle."""
PIPELINE = "pipeline-statements.json"
"""What the statements of an artifact's own pipeline are called there."""
BUILDER = "urn:interlock:builder"
VERIFIER = "urn:interlock:release-process"
POLICY = "urn:interlock:policy"
BUILD_LEVEL = "SLSA_BUILD_LEVEL_1"
"""What a build here can claim: there is provenance. The worker that builds is the one that signs, so not level 2."""


def statement(subjects: Mapping[str, str], predicate_type: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    """Return an in-toto statement v1.

    :param subjects: name of what it is about: its SHA-256.
    """
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(subjects.items())],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }


def provenance_statement(
    *,
    artifact: Blob,
    name: str,
    repository: str,
    ref: str,
    commit: str,
    build: Build,
    tool: str,
    invocation: str,
    started: datetime,
    finished: datetime,
    surroundings: BuildEnvironment | None = None,
    builder: str = BUILDER,
    byproducts: Mapping[str, Blob] | None = None,
) -> dict[str, Any]:
    """Return SLSA provenance v1: which commit was built, how, by whom and when.

    :param artifact: the bundle.
    :param name: the bundle's file name.
    :param repository: its URL; a password in it is left out.
    :param ref: what the release was asked for with.
    :param tool: name and version of the build tool.
    :param invocation: Dag and run: ``release_bike_shop/1.4.0__2026-…``.
    :param surroundings: where it was built, and what it could reach from there.
    :param builder: URI of the installation that built it.
    :param byproducts: what else the build left: its log, the bill of materials.
    """
    address = address_of(repository)
    definition = {
        "buildType": BUILD_TYPE,
        "externalParameters": {
            "source": {"repository": address, "ref": ref, "commit": commit},
            "build": build.model_dump(mode="json"),
        },
        "internalParameters": {
            "tool": tool,
            **({"surroundings": surroundings.model_dump(mode="json")} if surroundings else {}),
        },
        "resolvedDependencies": [{"uri": f"git+{address}@{ref}", "digest": {"gitCommit": commit}}],
    }
    details = _run(builder, invocation, started, finished, byproducts or {})
    return statement({name: artifact.sha256}, PROVENANCE, {"buildDefinition": definition, "runDetails": details})


def taken_statement(
    *,
    artifact: Blob,
    name: str,
    repository: str,
    ref: str,
    commit: str,
    origin: Origin,
    invocation: str,
    started: datetime,
    finished: datetime,
    builder: str = BUILDER,
    byproducts: Mapping[str, Blob] | None = None,
) -> dict[str, Any]:
    """Return SLSA provenance v1 of a bundle that was packed from an artifact which another pipeline built.

    The parameters are those of :func:`provenance_statement`; ``origin`` says what was taken, and what was verified.
    """
    address = address_of(repository)
    definition = {
        "buildType": TAKEN_TYPE,
        "externalParameters": {
            "source": {"repository": address, "ref": ref, "commit": commit},
            "artifact": {"store": origin.store, "uri": origin.uri, "digest": {"sha256": origin.sha256}},
        },
        "internalParameters": {
            "signedBy": list(origin.signed_by),
            "claims": [claim.model_dump(mode="json") for claim in origin.claims],
        },
        "resolvedDependencies": [
            {"uri": origin.uri, "digest": {"sha256": origin.sha256}},
            {"uri": f"git+{address}@{ref}", "digest": {"gitCommit": commit}},
        ],
    }
    details = _run(builder, invocation, started, finished, byproducts or {})
    return statement({name: artifact.sha256}, PROVENANCE, {"buildDefinition": definition, "runDetails": details})


def _run(
    builder: str, invocation: str, started: datetime, finished: datetime, byproducts: Mapping[str, Blob]
) -> dict[str, Any]:
    return {
        "builder": {"id": builder},
        "metadata": {"invocationId": invocation, "startedOn": _time(started), "finishedOn": _time(finished)},
        "byproducts": [
            {"name": what, "uri": blob.uri, "digest": {"sha256": blob.sha256}}
            for what, blob in sorted(byproducts.items())
        ],
    }


def named_byproducts(statement: Mapping[str, Any], name: str) -> Iterator[Blob]:
    """Yield what a build left by a name, by its provenance, which does not say how large it is."""
    for left in statement["predicate"]["runDetails"]["byproducts"]:
        if left["name"] == name:
            yield Blob(uri=left["uri"], sha256=left["digest"]["sha256"], size=0)


def bom_statement(*, artifact: Blob, name: str, bom: bytes) -> dict[str, Any]:
    """Return the bill of materials of a bundle as a statement: the CycloneDX document is its predicate.

    :param bom: CycloneDX JSON.
    """
    return statement({name: artifact.sha256}, BOM, json.loads(bom))


def test_result_statement(
    *, artifact: Blob, name: str, report: QualityReport, expectations: Mapping[str, str]
) -> dict[str, Any]:
    """Return in-toto's test result v0.1: which suites the artifact passed, and which it failed.

    A waiver changes nothing here: what failed has failed.

    :param expectations: suite: the SHA-256 of the file that says what it expects.
    """
    predicate = {
        "result": "PASSED" if report.success else "FAILED",
        "configuration": [
            {"name": suite, "digest": {"sha256": digest}} for suite, digest in sorted(expectations.items())
        ],
        "url": report.docs,
        "passedTests": [suite.suite for suite in report.suites if suite.success],
        "warnedTests": [],
        "failedTests": [suite.suite for suite in report.suites if not suite.success],
    }
    return statement({name: artifact.sha256}, TEST_RESULT, predicate)


def release_statement(*, artifact: Blob, name: str, service: str, version: str) -> dict[str, Any]:
    """Return in-toto's release v0.1: these bytes are this version of the service."""
    purl = PackageURL(type="generic", name=service, version=version).to_string()
    return statement({name: artifact.sha256}, RELEASE, {"purl": purl})


def verification_summary_statement(
    *,
    plan: RolloutPlan,
    name: str,
    outcome: Outcome,
    verified: datetime,
    inputs: Sequence[Blob],
    verifier: str = VERIFIER,
) -> dict[str, Any]:
    """Return SLSA's verification summary v1: whether the artifact went the whole way that the policy asks.

    :param verified: when the release was closed.
    :param inputs: the attestations that it is derived from, in their envelopes.
    :param verifier: URI of the installation that judged it.
    """
    passed = outcome.outcome in ("deployed", "rehearsed")
    predicate = {
        "verifier": {"id": verifier},
        "timeVerified": _time(verified),
        "resourceUri": plan.bundle.uri,
        "policy": {"uri": POLICY, "digest": {"sha256": plan.policy_digest}},
        "inputAttestations": [{"uri": blob.uri, "digest": {"sha256": blob.sha256}} for blob in inputs],
        "verificationResult": "PASSED" if passed else "FAILED",
        "verifiedLevels": [BUILD_LEVEL] if passed else ["FAILED"],
        "slsaVersion": "1.0",
    }
    return statement({name: plan.bundle.sha256}, VERIFICATION_SUMMARY, predicate)


def address_of(repository: str) -> str:
    """Return a repository's URL, without a password: git also takes ``login@host:path`` and a folder's path."""
    url = public_url(repository)
    if url.startswith("/"):
        return f"file://{url}"
    if "://" in url:
        return url
    host, _, path = url.partition(":")
    return f"ssh://{host}/{path.lstrip('/')}"


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
