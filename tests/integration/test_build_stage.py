"""The build stage, from a git repository to an artifact store: what it puts there, and what it signs."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from interlock.adapters.artifacts.bundle import list_files
from interlock.adapters.build import makers
from interlock.adapters.evidence import file_lists
from interlock.adapters.signing.signing import verified_statement
from interlock.domain.canonical import canonical_bytes, sha256_of
from interlock.domain.records import Artifact, Blob
from interlock.stages.release import build
from interlock.stages.runtime import resources
from tests.airflow_server import RUN
from tests.factories import releases
from tests.git_project import git_project
from tests.running_task import running_task

MAKEFILE = """build:
\tmkdir -p build/bundle build/reports; cp appspec.yml build/bundle
\techo '<coverage><packages/></coverage>' > build/reports/coverage.xml
test:
\techo '<testsuite name="s"><testcase name="works"/></testsuite>' > build/reports/unit.xml
"""


@pytest.fixture
def artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    """What the stage hands on of one build."""
    project = git_project(tmp_path / "project")
    sha = project.commit({"Makefile": MAKEFILE, "appspec.yml": "version: 0.0\nos: linux\nowner: us\n"})
    key = tmp_path / "key.pem"
    key.touch(mode=0o600)
    key.write_bytes(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    connections: dict[str, dict[str, Any]] = {
        "bike_shop_source": {"conn_type": "git", "host": f"file://{project.folder}"},
        resources.ARTIFACTS: {"conn_type": "fs", "extra": {"path": str(tmp_path / "store")}},
        resources.SIGNING_KEY: {"conn_type": "generic", "host": f"file:{key}"},
    }
    for name, connection in connections.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
    plan = releases.plan(commit=releases.commit(sha=sha))
    with running_task("build.build_artifact", monkeypatch) as running:
        running.knows("plan.made", plan)
        return Artifact.from_xcom(build.build_artifact.function("bike-shop", plan.to_xcom()))


def kept(blob: Blob) -> Any:
    """Return JSON from the artifact store."""
    return json.loads(resources.store().get_bytes(blob))


def test_what_means_nothing_in_the_appspec_stands_in_the_log(artifact: Artifact) -> None:
    log = resources.store().get_bytes(artifact.log).decode()
    assert log.endswith("\nappspec.yml: owner: is ignored, as in CodeDeploy\n")


def test_the_provenance_names_the_bundle_and_what_else_the_build_left(artifact: Artifact) -> None:
    statement = json.loads(base64.b64decode(kept(artifact.provenance)["payload"]))
    assert statement["subject"] == [
        {"name": "bike-shop-1.1.0.tar.gz", "digest": {"sha256": artifact.bundle.sha256}},
    ]
    assert statement["predicate"]["runDetails"]["metadata"]["invocationId"] == "/".join(RUN)
    ran = statement["predicate"]["buildDefinition"]["internalParameters"]["surroundings"]
    assert ran == {"isolated": True, "how": str(makers.find_maker(os.environ)[0]), "reaches": []}
    assert artifact.surroundings is not None
    assert artifact.surroundings.model_dump(mode="json") == ran
    bill, signed_bill, log, listed = statement["predicate"]["runDetails"]["byproducts"]
    assert bill == {"name": "bom.cdx.json", "uri": artifact.bom.uri, "digest": {"sha256": artifact.bom.sha256}}
    assert signed_bill["name"] == "bom.dsse.json"
    assert log == {"name": "build.log", "uri": artifact.log.uri, "digest": {"sha256": artifact.log.sha256}}
    assert listed["name"] == "files.json"


def test_the_files_of_the_bundle_are_listed_in_what_the_provenance_names(artifact: Artifact, tmp_path: Path) -> None:
    bundle = resources.store().get_file(artifact.bundle, tmp_path / "bundle.tar.gz")
    key = resources.signer().public_key
    bare = artifact.model_copy(update={"provenance": artifact.bom})
    listed = file_lists.released_files(artifact, resources.store(), key)
    assert listed == file_lists.released_files(bare, resources.store(), key) == list_files(bundle)
    assert "appspec.yml" in {one.path for one in listed.files}


def test_the_bill_of_materials_is_signed_as_what_the_bundle_is_made_of(artifact: Artifact) -> None:
    provenance = json.loads(base64.b64decode(kept(artifact.provenance)["payload"]))
    _, named, *_ = provenance["predicate"]["runDetails"]["byproducts"]
    envelope = resources.store().get_bytes(Blob(uri=named["uri"], sha256=named["digest"]["sha256"], size=0))
    statement = verified_statement(envelope, resources.signer().public_key)
    assert statement["predicateType"] == "https://cyclonedx.org/bom"
    assert statement["subject"] == [{"name": "bike-shop-1.1.0.tar.gz", "digest": {"sha256": artifact.bundle.sha256}}]
    assert statement["predicate"] == kept(artifact.bom)
    assert sha256_of(canonical_bytes(statement["predicate"])) == artifact.bom.sha256, "what the verifier compares"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(statement["predicate"])) is None


def test_the_results_of_the_build_are_in_the_store(artifact: Artifact) -> None:
    assert [row["name"] for row in kept(artifact.tests)["rows"]] == ["works"]
    assert kept(artifact.bom)["bomFormat"] == "CycloneDX"
    assert b"$ make build\n" in resources.store().get_bytes(artifact.log)
