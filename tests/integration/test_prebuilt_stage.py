"""The build stage of a service whose own pipeline builds it: what it takes, what it verifies, and what it signs."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from interlock.adapters.artifacts import bundle
from interlock.adapters.evidence import file_lists
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import Policy, Prebuilt, ServiceCatalogue
from interlock.domain.errors import PolicyViolation, QualityRejected, RequestRefused
from interlock.domain.ledger.kinds import ARTIFACT_BUILT
from interlock.domain.records import Artifact, ReleasePlan
from interlock.stages.release import prebuilt
from interlock.stages.runtime import resources
from tests.airflow_server import RUN
from tests.factories import pipelines, releases
from tests.factories.pipelines import BOM, BUILDER, COVERAGE, JUNIT, Pipeline
from tests.file_server import FileServer, file_server
from tests.git_project import git_project
from tests.running_task import running_task

ARCHIVE = pipelines.release_archive({"shop/till.py": b"print('till')\n"})
DIGEST = sha256_of(ARCHIVE)
BILL = json.dumps(BOM).encode()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as served:
        yield served


@pytest.fixture
def commit(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The commit of which the pipeline built the artifact; all connections lead to this machine."""
    project = git_project(tmp_path / "project")
    script = "#!/bin/sh\nexit 0\n"
    spec = "version: 0.0\nos: linux\nhooks:\n  ApplicationStart:\n    - location: start.sh\n"
    sha = project.commit({"appspec.yml": spec, "start.sh": script})
    key = tmp_path / "key.pem"
    key.touch(mode=0o600)
    key.write_bytes(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    connections: dict[str, dict[str, Any]] = {
        "bike_shop_source": {"conn_type": "git", "host": f"file://{project.folder}"},
        "shop_artifacts": {"conn_type": "http", "host": server.url},
        resources.ARTIFACTS: {"conn_type": "fs", "extra": {"path": str(tmp_path / "store")}},
        resources.SIGNING_KEY: {"conn_type": "generic", "host": f"file:{key}"},
    }
    for name, connection in connections.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
    return sha


def fetched(
    server: FileServer,
    commit: str,
    pipeline: Pipeline,
    patch: pytest.MonkeyPatch,
    *,
    stores: bool = True,
    waived_by: str = "",
    plan: Mapping[str, Any] = MappingProxyType({}),
    **said: Any,
) -> Artifact:
    """Run the task on a release that a pipeline left.

    :param waived_by: the role that may waive what does not hold; empty: nobody may.
    """
    bike_shop = resources.catalogue_of("bike-shop")
    url = resources.repository_url(bike_shop.service)
    statement = pipelines.statement(
        DIGEST, pipelines.provenance(repository=url, commit=commit, left=(JUNIT, COVERAGE, BILL)) | said
    )
    for name, data in {
        "shop-1.1.0.tar.gz": ARCHIVE,
        "provenance.json": pipeline.envelope(statement),
        "unit.xml": JUNIT,
        "coverage.xml": COVERAGE,
        "bom.json": BILL,
    }.items():
        server.put(name, data)
    spec = Prebuilt(
        tool="prebuilt",
        store="https",
        connection="shop_artifacts",
        artifact="shop-{version}.tar.gz",
        statements=("provenance.json",),
        junit=("unit.xml",),
        coverage="coverage.xml",
        bom="bom.json",
    )
    rules = pipeline.rules if stores else pipeline.rules.model_copy(update={"stores": ()})
    more: dict[str, Any] = {"prebuilt": rules.model_dump()}
    if waived_by:
        more["waivers"] = {"provenance": {"roles": [waived_by]}}
    policy = Policy.model_validate(bike_shop.policy.model_dump() | more)
    service = bike_shop.service.model_copy(update={"build": spec})
    patch.setattr(resources, "catalogue_of", lambda _: ServiceCatalogue(policy, bike_shop.board, service))
    return taken(releases.plan(commit=releases.commit(sha=commit), artifact=DIGEST, **plan), patch)


def taken(plan: ReleasePlan, patch: pytest.MonkeyPatch) -> Artifact:
    with running_task("build.fetch_artifact", patch) as running:
        running.knows("plan.made", plan)
        try:
            return Artifact.from_xcom(prebuilt.fetch_artifact.function("bike-shop", plan.to_xcom()))
        except AirflowFailException as error:
            recorded = [payload for kind, payload in running.recorded if kind == ARTIFACT_BUILT]
            raise Refused(str(error), recorded, running.xcoms) from error.__cause__


class Refused(Exception):
    """The task failed. What it said, what it recorded, and its XComs."""


def test_the_artifact_of_a_pipeline_becomes_the_record_that_a_build_leaves(
    server: FileServer, commit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = fetched(server, commit, Pipeline(), monkeypatch)
    store, origin = resources.store(), artifact.origin
    assert origin is not None
    assert (origin.sha256, origin.uri, origin.signed_by) == (DIGEST, f"{server.url}/shop-1.1.0.tar.gz", ("jenkins",))
    assert {claim.claim: claim.holds for claim in origin.claims} == dict.fromkeys(
        ("provenance", "builder", "source", "commit", "tests", "coverage", "bom"), True
    )
    assert store.get_bytes(origin.original) == ARCHIVE
    bundle.unpack(store.get_file(artifact.bundle, tmp_path / "bundle.tar.gz"), tmp_path / "host")
    assert (tmp_path / "host/shop/till.py").read_bytes() == b"print('till')\n"
    assert (tmp_path / "host/start.sh").stat().st_mode & 0o100, "the hooks of the commit are added, and can be run"
    assert [row["name"] for row in json.loads(store.get_bytes(artifact.tests))["rows"]] == ["adds", "pays"]
    assert json.loads(store.get_bytes(artifact.bom))["components"][0]["name"] == "flask"
    assert artifact.coverage is not None


def test_our_provenance_says_what_was_taken_and_what_was_verified(
    server: FileServer, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = fetched(server, commit, Pipeline(), monkeypatch)
    assert artifact.origin is not None
    envelope = json.loads(resources.store().get_bytes(artifact.provenance))
    statement = json.loads(base64.b64decode(envelope["payload"]))
    definition = statement["predicate"]["buildDefinition"]
    assert statement["subject"][0]["digest"] == {"sha256": artifact.bundle.sha256}
    assert definition["buildType"] == "urn:interlock:prebuilt:v1"
    assert definition["externalParameters"]["artifact"]["digest"] == {"sha256": DIGEST}
    assert definition["externalParameters"]["source"]["commit"] == commit
    assert [claim["claim"] for claim in definition["internalParameters"]["claims"] if claim["holds"]]
    named = {one["name"]: one["digest"]["sha256"] for one in statement["predicate"]["runDetails"]["byproducts"]}
    assert named["1-pipeline-statements.json"] == artifact.origin.statements[0].sha256
    assert statement["predicate"]["runDetails"]["metadata"]["invocationId"] == "/".join(RUN)
    listed = file_lists.released_files(artifact, resources.store(), resources.signer().public_key)
    assert {"appspec.yml", "shop/till.py", "start.sh"} == {one.path for one in listed.files}


def test_a_statement_that_is_wrong_is_on_record_as_one_that_does_not_hold(
    server: FileServer, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"builder": {"id": "https://other/"}}
    artifact = fetched(server, commit, Pipeline(), monkeypatch, waived_by="security", runDetails=said)
    assert artifact.origin is not None
    wrong = {claim.claim: claim.found for claim in artifact.origin.claims if not claim.holds}
    assert wrong["builder"] == "https://other/"
    assert wrong["tests"].endswith("which the provenance does not name")
    assert b"builder: does not hold; expected " in resources.store().get_bytes(artifact.log)


@pytest.mark.parametrize("plan", [{}, {"rehearsal": True}, {"requested_by": "cora"}])
def test_what_nobody_may_waive_ends_the_release_before_it_runs_anywhere(
    server: FileServer, commit: str, monkeypatch: pytest.MonkeyPatch, plan: dict[str, Any]
) -> None:
    said, role = {"builder": {"id": "https://other/"}}, "security" if plan else ""
    with pytest.raises(Refused) as error:
        fetched(server, commit, Pipeline(), monkeypatch, plan=plan, waived_by=role, runDetails=said)
    told, (recorded,), xcoms = error.value.args
    assert isinstance(error.value.__cause__, QualityRejected)
    assert f"builder: expected {BUILDER}; found https://other/" in told
    assert "without waivers.provenance there, nobody may waive it" in told
    wrong = [one["claim"] for one in recorded["origin"]["claims"] if not one["holds"]]
    assert wrong == ["builder", "tests", "coverage", "bom"], "what was refused is on record"
    assert xcoms["return_value"]["origin"] == recorded["origin"]


def test_a_place_that_the_policy_does_not_allow_is_not_asked(
    server: FileServer, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Exception, match=r"which the policy does not allow.*prebuilt\.stores, in policy\.yaml") as error:
        fetched(server, commit, Pipeline(), monkeypatch, stores=False)
    assert isinstance(error.value.__cause__, PolicyViolation)
    assert server.asked == []


def test_a_release_without_a_digest_takes_nothing(commit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Exception, match="has no artifact to take") as error:
        taken(releases.plan(commit=releases.commit(sha=commit)), monkeypatch)
    assert isinstance(error.value.__cause__, RequestRefused)
