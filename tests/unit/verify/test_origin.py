"""The verifier on an artifact of another pipeline: the requested one, with what was said of it, as it was judged."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from interlock.adapters.evidence import attestation
from interlock.domain.canonical import sha256_of
from interlock.domain.records import Origin, VerifiedClaim
from interlock.verify import __main__ as verifier
from tests.factories import evidence as make
from tests.factories import releases

DIGEST = "d" * 64
SAID = b'{"payloadType": "application/vnd.in-toto+json"}'


def origin(**changes: Any) -> Origin:
    usual: dict[str, Any] = {
        "store": "https",
        "uri": "https://artifacts.example/shop-1.1.0.tar.gz",
        "sha256": DIGEST,
        "original": releases.blob("artifact", "d"),
        "statements": (releases.blob("pipeline-statements.json").model_copy(update={"sha256": sha256_of(SAID)}),),
        "signed_by": ("jenkins",),
        "claims": (VerifiedClaim(claim="commit", expected=releases.SHA, found=releases.SHA, holds=True),),
    }
    return Origin(**(usual | changes))


def told(
    tmp_path: Path,
    taken: Origin,
    *,
    requested: str | None = f"sha256:{DIGEST}",
    planned: str | None = DIGEST,
    named: Origin | None = None,
    pipeline: dict[str, bytes] | None = None,
) -> tuple[bool, str]:
    """Verify the pack of a release whose artifact came from elsewhere.

    :param named: the origin that our provenance names; none: the one on record.
    """
    by, bundle = make.signer(), releases.artifact().bundle
    bill = releases.blob("bom.dsse.json").model_copy(update={"sha256": sha256_of(make.bill(bundle, by))})
    provenance = by.envelope(
        attestation.taken_statement(
            artifact=bundle,
            name="bike-shop-1.1.0.tar.gz",
            repository="https://git.example/bike-shop.git",
            ref="1.1.0",
            commit=releases.SHA,
            origin=named or taken,
            invocation=make.CHAIN,
            started=make.AT,
            finished=make.AT,
            byproducts={"bom.dsse.json": bill},
        )
    )

    def from_elsewhere(many: list[make.Step]) -> list[make.Step]:
        changed = []
        for kind, payload in many:
            if kind == "release.requested" and requested:
                payload = {**payload, "artifact": requested}
            if kind == "artifact.built":
                sealed = {**payload["provenance"], "sha256": sha256_of(provenance)}
                payload = {**payload, "provenance": sealed, "origin": taken.model_dump(mode="json")}
            changed.append((kind, payload))
        return changed

    what = make.evidence(from_elsewhere, artifact=planned)
    attestations = {**what.attestations, "provenance": provenance}
    kept = {sha256_of(SAID): SAID} if pipeline is None else pipeline
    data = make.packed(tmp_path / "pack.zip", dataclasses.replace(what, attestations=attestations, pipeline=kept))
    lines: list[str] = []
    return verifier.verify(data, [], lines.append), "\n".join(lines)


def test_an_artifact_of_another_pipeline_is_proven_as_ours_are(tmp_path: Path) -> None:
    proven, said = told(tmp_path, origin())
    assert proven, said


WRONG = VerifiedClaim(claim="commit", expected=releases.SHA, found="nothing", holds=False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"requested": "sha256:" + "e" * 64}, "as the request names it"),
        ({"requested": None}, "as the request names it"),
        ({"planned": "e" * 64}, "plan.json, artifact"),
        ({"planned": None}, "plan.json, artifact"),
        ({"named": origin(sha256="e" * 64)}, "as the provenance names it"),
        ({"pipeline": {}}, "expected what the pipeline signed"),
        ({"pipeline": {sha256_of(SAID): b"{}"}}, "expected what the pipeline signed"),
        ({"taken": origin(claims=(WRONG,))}, "commit did not hold, and quality.judged is silent"),
    ],
)
def test_an_artifact_that_nobody_asked_for_or_proved_is_named(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    proven, said = told(tmp_path, **({"taken": origin()} | changes))
    assert not proven
    assert words in said


def test_a_plan_that_names_an_artifact_from_elsewhere_has_one(tmp_path: Path) -> None:
    lines: list[str] = []
    data = make.packed(tmp_path / "pack.zip", make.evidence(artifact=DIGEST))
    assert not verifier.verify(data, [], lines.append)
    assert "plan.json, artifact" in "\n".join(lines)
