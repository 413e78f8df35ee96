"""Taking an artifact from a web server: bytes by digest, claims that are verified, reports that belong to it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection
from cryptography.hazmat.primitives.asymmetric import ec

from interlock.adapters.artifacts import bundle
from interlock.adapters.prebuilt.pipeline import Taken, take
from interlock.adapters.prebuilt.places import Wanted, open_place
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import Prebuilt, PrebuiltRules
from interlock.domain.errors import AssetMissing, DigestMismatch, TransientError
from interlock.domain.prebuilt.claims import Expected
from tests.factories import pipelines
from tests.factories.pipelines import BOM, COMMIT, COVERAGE, ENTRY_POINT, JUNIT, REPOSITORY, WORKFLOW, Pipeline
from tests.file_server import FileServer, file_server

ALL = ("provenance", "builder", "source", "commit", "workflow", "entry_point", "tests", "coverage", "bom")
SPEC: dict[str, Any] = {
    "tool": "prebuilt",
    "store": "https",
    "connection": "shop_artifacts",
    "artifact": "shop/{version}/shop-{version}.tar.gz",
    "statements": ["shop/{version}/{artifact}.json"],
    "junit": ["shop/{version}/unit.xml"],
    "coverage": "shop/{version}/coverage.xml",
    "bom": "shop/{version}/bom.json",
    "workflow": WORKFLOW,
    "entry_point": ENTRY_POINT,
}
BILL = json.dumps(BOM).encode()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as served:
        yield served


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline()


def published(server: FileServer, pipeline: Pipeline, archive: bytes | None = None, **said: Any) -> str:
    """Leave a release as a good pipeline does; return its digest."""
    data = pipelines.release_archive() if archive is None else archive
    digest = sha256_of(data)
    said.setdefault("left", (JUNIT, COVERAGE, BILL))
    server.put("shop/1.1.0/shop-1.1.0.tar.gz", data)
    server.put("shop/1.1.0/unit.xml", JUNIT)
    server.put("shop/1.1.0/coverage.xml", COVERAGE)
    server.put("shop/1.1.0/bom.json", BILL)
    signed = pipeline.envelope(pipelines.statement(digest, pipelines.provenance(**said)))
    server.put(f"shop/1.1.0/{digest}.json", signed)
    return digest


def taken(
    server: FileServer,
    folder: Path,
    digest: str,
    rules: PrebuiltRules,
    *,
    limit: int = 1 << 20,
    demanded: tuple[str, ...] = ALL,
    password: str = "",
    **changes: Any,
) -> Taken:
    spec = Prebuilt.model_validate(SPEC | changes)
    connection = Connection(conn_id="shop_artifacts", conn_type="http", host=server.url, password=password)
    expected = Expected((digest,), REPOSITORY, COMMIT, rules.signers, demanded, spec.workflow, spec.entry_point, "x")  # type: ignore[arg-type]
    wanted = Wanted("1.1.0", COMMIT, digest, limit)
    folder.mkdir(exist_ok=True)
    return take(spec, open_place(spec, connection), wanted, expected, rules, catalogue=folder, folder=folder)


def fails(found: Taken) -> list[str]:
    return [one.claim for one in found.claims if not one.holds]


def test_an_artifact_whose_pipeline_says_all_that_is_demanded_is_taken(
    server: FileServer, pipeline: Pipeline, tmp_path: Path
) -> None:
    found = taken(server, tmp_path, published(server, pipeline), pipeline.rules)
    assert [(one.claim, one.holds) for one in found.claims] == [(claim, True) for claim in ALL]
    assert [row.name for row in found.tests] == ["adds", "pays"]
    assert found.coverage is not None
    assert found.coverage.read_bytes() == COVERAGE
    assert found.bom is not None
    assert bundle.check(found.contents).files == ()
    assert (found.contents / "shop/till.py").read_bytes() == b"print('till')\n"


def test_the_same_artifact_gives_the_same_bundle_whoever_packed_it(
    server: FileServer, pipeline: Pipeline, tmp_path: Path
) -> None:
    digests = set()
    for number, around in enumerate((".", "shop-1.1.0")):
        archive = pipelines.release_archive(around=around)
        found = taken(server, tmp_path / around, published(server, pipeline, archive), pipeline.rules, strip=number)
        bundle.pack(found.contents, tmp_path / "bundle.tar.gz")
        digests.add(sha256_of((tmp_path / "bundle.tar.gz").read_bytes()))
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"builder": "https://jenkins.elsewhere.example/"}, "builder"),
        ({"repository": "https://git.elsewhere.example/shop.git"}, "source"),
        ({"commit": "6" * 40}, "commit"),
        ({"workflow": "Jenkinsfile.test"}, "workflow"),
        ({"workflow": {"path": "other.yml"}}, "workflow"),
        ({"entry_point": "nightly"}, "entry_point"),
        ({"left": (COVERAGE, BILL)}, "tests"),
        ({"left": (JUNIT, BILL)}, "coverage"),
        ({"left": (JUNIT, COVERAGE)}, "bom"),
    ],
)
def test_what_the_pipeline_says_wrong_does_not_hold(
    server: FileServer, pipeline: Pipeline, tmp_path: Path, said: dict[str, Any], wrong: str
) -> None:
    found = taken(server, tmp_path, published(server, pipeline, **said), pipeline.rules)
    assert wrong in fails(found)
    assert set(fails(found)) <= {wrong, "commit"}, "a commit of another repository proves nothing either"
    claim = next(one for one in found.claims if one.claim == wrong)
    assert claim.expected != claim.found


def test_the_repository_is_the_same_however_its_address_is_written(
    server: FileServer, pipeline: Pipeline, tmp_path: Path
) -> None:
    digest = published(server, pipeline, repository="git@git.spoke-wheel.example:shop")
    assert fails(taken(server, tmp_path, digest, pipeline.rules)) == []


def test_a_statement_of_an_unknown_key_counts_for_nothing(
    server: FileServer, pipeline: Pipeline, tmp_path: Path
) -> None:
    found = taken(server, tmp_path, published(server, Pipeline()), pipeline.rules)
    assert fails(found) == ["provenance", "tests", "coverage", "bom"]
    assert "no pinned key of policy.yaml signed it (pinned: jenkins)" in found.claims[0].found
    assert found.claims[0].expected.endswith("signed by jenkins")


def test_a_statement_about_another_artifact_counts_for_nothing(
    server: FileServer, pipeline: Pipeline, tmp_path: Path
) -> None:
    digest = published(server, pipeline)
    other = pipeline.envelope(pipelines.statement("f" * 64, pipelines.provenance(left=(JUNIT, COVERAGE, BILL))))
    server.put(f"shop/1.1.0/{digest}.json", other)
    found = taken(server, tmp_path, digest, pipeline.rules)
    assert "the provenance that jenkins signed is about another artifact" in found.claims[0].found


def test_missing_statements_are_claims_that_do_not_hold_only_where_they_are_demanded(
    server: FileServer, pipeline: Pipeline, tmp_path: Path
) -> None:
    digest = published(server, pipeline)
    bare: dict[str, Any] = {"statements": [], "junit": [], "coverage": None, "bom": None}
    found = taken(server, tmp_path / "one", digest, pipeline.rules, **bare)
    assert fails(found) == ["provenance", "tests", "coverage", "bom"]
    assert "and so no proof of builder, commit, entry_point, source, workflow" in found.claims[0].found
    assert taken(server, tmp_path / "two", digest, pipeline.rules, demanded=(), **bare).claims == ()


def test_signed_test_results_and_bills_count_without_files(
    server: FileServer, pipeline: Pipeline, tmp_path: Path
) -> None:
    digest = published(server, pipeline)
    results = {"result": "FAILED", "passedTests": ["adds"], "failedTests": ["pays"], "warnedTests": ["waits"]}
    signed = [
        pipeline.envelope(pipelines.statement(digest, pipelines.provenance())),
        pipeline.envelope(pipelines.statement(digest, results, "https://in-toto.io/attestation/test-result/v0.1")),
        pipeline.envelope(pipelines.statement(digest, BOM, "https://cyclonedx.org/bom")),
    ]
    server.put(f"shop/1.1.0/{digest}.json", b"\n".join(signed))
    found = taken(server, tmp_path, digest, pipeline.rules, junit=[], coverage=None, bom=None, demanded=ALL[:-2])
    assert fails(found) == []
    assert [(row.name, row.status) for row in found.tests] == [
        ("adds", "passed"),
        ("waits", "passed"),
        ("pays", "failed"),
    ]
    assert found.bom is not None
    assert json.loads(found.bom.read_bytes()) == BOM


def test_ecdsa_keys_count_as_ed25519_keys_do(server: FileServer, tmp_path: Path) -> None:
    pipeline = Pipeline(key=ec.generate_private_key(ec.SECP256R1()))
    assert fails(taken(server, tmp_path, published(server, pipeline), pipeline.rules)) == []


def test_other_bytes_than_the_requested_are_refused(server: FileServer, pipeline: Pipeline, tmp_path: Path) -> None:
    digest = published(server, pipeline)
    server.put("shop/1.1.0/shop-1.1.0.tar.gz", pipelines.release_archive({"appspec.yml": b"other"}))
    with pytest.raises(DigestMismatch, match=f"but {digest} was requested"):
        taken(server, tmp_path, digest, pipeline.rules)


def test_bytes_are_taken_as_they_are_sent_whatever_their_encoding_is_called(
    server: FileServer, pipeline: Pipeline, tmp_path: Path
) -> None:
    archive = pipelines.release_archive()
    digest = published(server, pipeline, archive)
    server.put("shop/1.1.0/shop-1.1.0.tar.gz", archive, Content_Encoding="gzip")
    assert fails(taken(server, tmp_path, digest, pipeline.rules)) == []


def test_an_artifact_that_is_not_there_is_named(server: FileServer, pipeline: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(AssetMissing, match=r"There is no artifact at .*/shop/1\.1\.0/shop-1\.1\.0\.tar\.gz"):
        taken(server, tmp_path, "a" * 64, pipeline.rules)


def test_too_many_bytes_are_refused_before_they_are_all_read(
    server: FileServer, pipeline: Pipeline, tmp_path: Path
) -> None:
    with pytest.raises(DigestMismatch, match="more than 10 bytes"):
        taken(server, tmp_path, published(server, pipeline), pipeline.rules, limit=10)


def test_a_server_in_trouble_is_worth_another_try(server: FileServer, pipeline: Pipeline, tmp_path: Path) -> None:
    digest = published(server, pipeline)
    server.put("shop/1.1.0/shop-1.1.0.tar.gz", b"", status=503)
    with pytest.raises(TransientError, match="503"):
        taken(server, tmp_path, digest, pipeline.rules)


def test_a_login_is_sent_to_its_own_server_and_to_no_other(
    server: FileServer, pipeline: Pipeline, tmp_path: Path
) -> None:
    digest = published(server, pipeline)
    with file_server() as other:
        other.put("kept", pipelines.release_archive())
        server.put("shop/1.1.0/shop-1.1.0.tar.gz", b"", status=302, Location=f"{other.url}/kept")
        with pytest.raises(AssetMissing, match="which is not https"):
            taken(server, tmp_path / "one", digest, pipeline.rules, password="token")
        assert other.asked == []
    server.put("elsewhere", pipelines.release_archive())
    server.put("shop/1.1.0/shop-1.1.0.tar.gz", b"", status=302, Location="/elsewhere")
    taken(server, tmp_path / "two", digest, pipeline.rules, password="token")
    assert {login for _, login in server.asked} == {"Bearer token"}


def test_a_login_that_is_refused_names_the_connection(server: FileServer, pipeline: Pipeline, tmp_path: Path) -> None:
    server.put("shop/1.1.0/shop-1.1.0.tar.gz", b"", status=401)
    with pytest.raises(AssetMissing, match="check login and password of the connection shop_artifacts"):
        taken(server, tmp_path, "a" * 64, pipeline.rules)


@pytest.mark.parametrize(
    "host", ["http://artifacts.example", "ftp://artifacts.example", "https://u:p@artifacts.example"]
)
def test_a_place_is_reached_by_https_alone(host: str) -> None:
    spec = Prebuilt.model_validate(SPEC)
    with pytest.raises(AssetMissing, match="is not a place of artifacts"):
        open_place(spec, Connection(conn_id="shop_artifacts", conn_type="http", host=host))


@pytest.mark.parametrize(
    ("archive", "why"),
    [
        pytest.param(pipelines.release_archive({"../evil": b""}), "not a name inside it", id="outside"),
        pytest.param(b"BZh91AY&SY", "neither a tar.gz nor a zip", id="bzip2"),
        pytest.param(gzip.compress(b"no tar"), "not a bundle|cannot be taken", id="no tar"),
    ],
)
def test_an_archive_that_reaches_outside_or_is_none_is_refused(
    server: FileServer, pipeline: Pipeline, tmp_path: Path, archive: bytes, why: str
) -> None:
    with pytest.raises(DigestMismatch, match=why):
        taken(server, tmp_path / "there", published(server, pipeline, archive), pipeline.rules)
    assert not (tmp_path / "evil").exists()


def test_folders_around_the_contents_are_the_same_for_all_of_them(
    server: FileServer, pipeline: Pipeline, tmp_path: Path
) -> None:
    two = pipelines.release_archive({"a/appspec.yml": b"", "b/till.py": b""})
    with pytest.raises(DigestMismatch, match="is not below"):
        taken(server, tmp_path, published(server, pipeline, two), pipeline.rules, strip=2)


def test_an_artifact_that_is_one_file_is_laid_beside_the_appspec_of_the_commit(
    server: FileServer, pipeline: Pipeline, tmp_path: Path
) -> None:
    found = taken(server, tmp_path, published(server, pipeline, b"PK\x03\x04jar"), pipeline.rules, contents="file")
    assert [path.name for path in found.contents.iterdir()] == ["shop-1.1.0.tar.gz"]
