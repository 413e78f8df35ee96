"""Places where pipelines leave artifacts: each gives the bytes of the requested digest, or says why there are none."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from airflow.sdk import Connection
from moto.server import ThreadedMotoServer

from interlock.adapters.prebuilt import archives
from interlock.adapters.prebuilt.places import Fetched, Place, Wanted, open_place
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import Prebuilt
from interlock.domain.errors import AssetMissing, DigestMismatch, TransientError
from tests.factories.pipelines import release_archive
from tests.file_server import FileServer, file_server
from tests.oci_registry import LOGIN, PASSWORD, OciRegistry, registry_with_logins, registry_with_tokens

COMMIT = "5f2d" + "0" * 36
ARCHIVE = release_archive()
DIGEST = sha256_of(ARCHIVE)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as served:
        yield served


def spec(store: str, artifact: str, **more: Any) -> Prebuilt:
    return Prebuilt.model_validate(
        {"tool": "prebuilt", "store": store, "connection": "shop_artifacts", "artifact": artifact, **more}
    )


def place(described: Prebuilt, host: str, **more: Any) -> Place:
    return open_place(described, Connection(conn_id="shop_artifacts", conn_type="http", host=host, **more))


def wanted(digest: str = DIGEST, version: str = "1.1.0", limit: int = 1 << 20) -> Wanted:
    return Wanted(version, COMMIT, digest, limit)


def laid_out(fetched: Fetched, described: Prebuilt, folder: Path) -> list[str]:
    """Return the files that become the bundle."""
    archives.lay_out(fetched, described, folder / "contents")
    found = (path for path in sorted((folder / "contents").rglob("*")) if path.is_file())
    return [path.relative_to(folder / "contents").as_posix() for path in found]


FILES = ["appspec.yml", "shop/till.py"]


class TestS3:
    SPEC = spec("s3", "shop/{version}/{artifact}.tar.gz")

    @pytest.fixture
    def bucket(self) -> Iterator[Place]:
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        url = "http://{}:{}".format(*server.get_host_and_port())
        self.client = boto3.client(
            "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
        )
        self.client.create_bucket(Bucket="releases")
        extra = {"bucket": "releases", "prefix": "pipeline", "endpoint_url": url, "region_name": "us-east-1"}
        login = {"conn_type": "aws", "login": "a", "password": "b", "extra": json.dumps(extra)}
        yield open_place(self.SPEC, Connection(conn_id="shop_artifacts", **login))
        for item in self.client.list_objects_v2(Bucket="releases").get("Contents", []):
            self.client.delete_object(Bucket="releases", Key=item["Key"])
        server.stop()

    def test_an_object_is_taken_by_its_digest(self, bucket: Place, tmp_path: Path) -> None:
        key = f"pipeline/shop/1.1.0/{DIGEST}.tar.gz"
        self.client.put_object(Bucket="releases", Key=key, Body=ARCHIVE)
        fetched = bucket.fetch(self.SPEC.artifact, wanted(), tmp_path)
        assert (fetched.uri, fetched.digests) == (f"s3://releases/{key}", (DIGEST,))
        assert laid_out(fetched, self.SPEC, tmp_path) == FILES
        assert bucket.read("shop/unit.xml", 100) is None

    def test_an_object_that_is_missing_changed_or_too_big_is_refused(self, bucket: Place, tmp_path: Path) -> None:
        with pytest.raises(AssetMissing, match="There is no object s3://releases/pipeline/shop"):
            bucket.fetch(self.SPEC.artifact, wanted(), tmp_path)
        (tmp_path / "artifact").unlink()
        self.client.put_object(Bucket="releases", Key=f"pipeline/shop/1.1.0/{DIGEST}.tar.gz", Body=ARCHIVE + b"x")
        with pytest.raises(DigestMismatch, match="was requested"):
            bucket.fetch(self.SPEC.artifact, wanted(), tmp_path)
        with pytest.raises(DigestMismatch, match="more than 10 bytes"):
            bucket.read(f"shop/1.1.0/{DIGEST}.tar.gz", 10)

    def test_a_connection_without_a_bucket_is_named(self) -> None:
        with pytest.raises(AssetMissing, match="names no bucket"):
            open_place(self.SPEC, Connection(conn_id="shop_artifacts", conn_type="aws"))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OciRegistry]:
    with registry_with_logins(tmp_path_factory.mktemp("registry")) as running:
        yield running


class TestOci:
    SPEC = spec("oci", "shop/web")

    def opened(self, registry: OciRegistry) -> Place:
        return place(self.SPEC, registry.url, login=LOGIN, password=PASSWORD)

    def test_an_artifact_is_taken_by_the_digest_of_its_manifest(self, registry: OciRegistry, tmp_path: Path) -> None:
        digest = registry.push("shop/web", ARCHIVE)
        fetched = self.opened(registry).fetch("shop/web", wanted(digest), tmp_path)
        assert fetched.digests == (digest, DIGEST), "provenance may name the manifest or the file in it"
        assert fetched.uri == f"oci://{registry.url.removeprefix('http://')}/shop/web@sha256:{digest}"
        assert fetched.name == "release.tar.gz"
        assert laid_out(fetched, self.SPEC, tmp_path) == FILES

    def test_a_statement_beside_it_may_have_a_tag(self, registry: OciRegistry) -> None:
        digest = registry.push("shop/web", b"signed", tag="1.1.0.provenance", title="p.json")
        opened = self.opened(registry)
        assert opened.read("shop/web:1.1.0.provenance", 100) == b"signed"
        assert opened.read(f"shop/web@sha256:{digest}", 100) == b"signed"
        assert opened.read("shop/web:nothing", 100) is None

    def test_an_image_of_several_layers_is_not_an_artifact(self, registry: OciRegistry, tmp_path: Path) -> None:
        digest = registry.push("shop/web", ARCHIVE, b"more")
        with pytest.raises(AssetMissing, match="names 2 blobs instead of one"):
            self.opened(registry).fetch("shop/web", wanted(digest), tmp_path)

    def test_a_digest_that_no_manifest_has_is_not_there(self, registry: OciRegistry, tmp_path: Path) -> None:
        with pytest.raises(AssetMissing, match=r"has no manifest sha256:.*which is the manifest's"):
            self.opened(registry).fetch("shop/web", wanted("c" * 64), tmp_path)

    def test_a_wrong_password_is_told(self, registry: OciRegistry, tmp_path: Path) -> None:
        opened = place(self.SPEC, registry.url, login=LOGIN, password="wrong")
        with pytest.raises(AssetMissing, match="check login and password of the connection shop_artifacts"):
            opened.fetch("shop/web", wanted(), tmp_path)

    @pytest.mark.parametrize("name", ["Shop/web", "shop//web", "shop/../web", "shop/web:1.1.0"])
    def test_what_is_no_repository_is_refused(self, registry: OciRegistry, tmp_path: Path, name: str) -> None:
        with pytest.raises(AssetMissing, match="is not the name of a repository"):
            self.opened(registry).fetch(name, wanted(), tmp_path)

    def test_a_registry_that_lies_about_a_manifest_is_not_believed(self, server: FileServer, tmp_path: Path) -> None:
        server.put("v2/", b"")
        server.put(f"v2/shop/web/manifests/sha256:{DIGEST}", b'{"schemaVersion": 2, "layers": []}')
        with pytest.raises(DigestMismatch, match=f"where {DIGEST} was requested"):
            place(self.SPEC, server.url).fetch("shop/web", wanted(), tmp_path)

    def test_a_token_is_fetched_where_the_registry_says(self, server: FileServer, tmp_path: Path) -> None:
        with registry_with_tokens(tmp_path, server, "shop/web") as registry:
            digest = registry.push("shop/web", ARCHIVE)
            fetched = self.opened(registry).fetch("shop/web", wanted(digest), tmp_path)
        assert fetched.digests == (digest, DIGEST)
        assert server.asked[0][1] is not None, "the token is for who has the login"

    def test_a_login_does_not_leave_by_http(self, server: FileServer, tmp_path: Path) -> None:
        challenge = 'Bearer realm="http://192.0.2.1/token",service="registry"'
        server.put("v2/", b"", status=401, WWW_Authenticate=challenge)
        with pytest.raises(AssetMissing, match=r"asks for a login at http://192\.0\.2\.1/token, which is not https"):
            place(self.SPEC, server.url, password=PASSWORD).fetch("shop/web", wanted(), tmp_path)


class TestPython:
    SPEC = spec("python", "Bike_Shop")

    def index(self, server: FileServer, name: str, data: bytes, digest: str = "", **more: Any) -> None:
        file = {"filename": name, "url": f"../../files/{name}", "hashes": {"sha256": digest or sha256_of(data)}, **more}
        other = {"filename": "bike_shop-1.0.0.tar.gz", "url": "x", "hashes": {}}
        page = {"meta": {"api-version": "1.0"}, "name": "bike-shop", "files": [other, file]}
        server.put("simple/bike-shop/", json.dumps(page).encode())
        server.put(f"files/{name}", data)

    def fetched(self, server: FileServer, folder: Path, **more: Any) -> Fetched:
        return place(self.SPEC, f"{server.url}/simple").fetch(self.SPEC.artifact, wanted(**more), folder)

    def test_a_source_distribution_is_the_bundle(self, server: FileServer, tmp_path: Path) -> None:
        archive = release_archive(around="bike_shop-1.1.0")
        self.index(server, "bike_shop-1.1.0.tar.gz", archive)
        fetched = self.fetched(server, tmp_path, digest=sha256_of(archive))
        assert laid_out(fetched, self.SPEC, tmp_path) == FILES

    def test_a_wheel_is_one_file_of_it(self, server: FileServer, tmp_path: Path) -> None:
        self.index(server, "bike_shop-1.1.0-py3-none-any.whl", ARCHIVE)
        fetched = self.fetched(server, tmp_path)
        assert laid_out(fetched, self.SPEC, tmp_path) == ["bike_shop-1.1.0-py3-none-any.whl"]

    def test_a_release_candidate_is_written_in_two_ways(self, server: FileServer, tmp_path: Path) -> None:
        self.index(server, "bike_shop-1.1.0rc1-py3-none-any.whl", ARCHIVE)
        assert self.fetched(server, tmp_path, version="1.1.0-rc.1").digests == (DIGEST,)

    @pytest.mark.parametrize(
        ("name", "more", "why"),
        [
            ("bike_shop-1.2.0.tar.gz", {}, r"is not version 1\.1\.0 of bike-shop"),
            ("till-1.1.0.tar.gz", {}, r"is not version 1\.1\.0 of bike-shop"),
            ("bike_shop-1.1.0.tar.gz", {"yanked": "it is broken"}, "was yanked: it is broken"),
            ("bike_shop-1.1.0.tar.gz", {"digest": "b" * 64}, f"has SHA-256 {DIGEST}"),
        ],
    )
    def test_another_version_and_what_was_taken_back_are_refused(
        self, server: FileServer, tmp_path: Path, name: str, more: dict[str, Any], why: str
    ) -> None:
        self.index(server, name, ARCHIVE, **more)
        with pytest.raises(AssetMissing, match=why):
            self.fetched(server, tmp_path)

    def test_an_index_that_lies_about_a_digest_is_not_believed(self, server: FileServer, tmp_path: Path) -> None:
        self.index(server, "bike_shop-1.1.0.tar.gz", b"other", digest=DIGEST)
        with pytest.raises(DigestMismatch):
            self.fetched(server, tmp_path)


class TestNpm:
    SPEC = spec("npm", "@spoke/shop")
    TARBALL = release_archive(around="package")

    def registry(self, server: FileServer, *, integrity: bytes = b"", version: str = "1.1.0") -> None:
        digest = hashlib.sha512(integrity or self.TARBALL).digest()
        dist = {
            "tarball": f"{server.url}/@spoke/shop/-/shop-1.1.0.tgz",
            "integrity": f"sha512-{base64.b64encode(digest).decode()}",
        }
        document = {"name": "@spoke/shop", "versions": {version: {"version": version, "dist": dist}}}
        server.put("@spoke%2Fshop", json.dumps(document).encode())
        server.put("@spoke/shop/-/shop-1.1.0.tgz", self.TARBALL)

    def fetched(self, server: FileServer, folder: Path) -> Fetched:
        return place(self.SPEC, server.url).fetch(self.SPEC.artifact, wanted(sha256_of(self.TARBALL)), folder)

    def test_a_package_is_the_bundle(self, server: FileServer, tmp_path: Path) -> None:
        self.registry(server)
        assert laid_out(self.fetched(server, tmp_path), self.SPEC, tmp_path) == FILES

    def test_a_version_that_is_not_there_is_named(self, server: FileServer, tmp_path: Path) -> None:
        self.registry(server, version="1.0.0")
        with pytest.raises(AssetMissing, match=r"has no version 1\.1\.0 of @spoke/shop"):
            self.fetched(server, tmp_path)

    def test_a_tarball_that_its_registry_contradicts_is_refused(self, server: FileServer, tmp_path: Path) -> None:
        self.registry(server, integrity=b"other")
        with pytest.raises(DigestMismatch, match="not the integrity that its registry names"):
            self.fetched(server, tmp_path)


class TestMaven:
    def test_a_file_is_at_its_place_in_the_layout(self, server: FileServer, tmp_path: Path) -> None:
        described = spec("maven", "org.example.shop:web:tar.gz:bundle")
        server.put("org/example/shop/web/1.1.0/web-1.1.0-bundle.tar.gz", ARCHIVE)
        fetched = place(described, server.url).fetch(described.artifact, wanted(), tmp_path)
        assert laid_out(fetched, described, tmp_path) == FILES

    def test_a_jar_is_one_file_of_the_bundle(self, server: FileServer, tmp_path: Path) -> None:
        described, jar = spec("maven", "org.example:web:jar"), b"PK\x03\x04 a jar"
        server.put("org/example/web/1.1.0/web-1.1.0.jar", jar)
        fetched = place(described, server.url).fetch(described.artifact, wanted(sha256_of(jar)), tmp_path)
        assert laid_out(fetched, described, tmp_path) == ["web-1.1.0.jar"]

    def test_a_snapshot_is_refused(self, server: FileServer, tmp_path: Path) -> None:
        described = spec("maven", "org.example:web:jar")
        with pytest.raises(AssetMissing, match="is a snapshot, which changes"):
            place(described, server.url).fetch(described.artifact, wanted(version="1.1.0-SNAPSHOT"), tmp_path)


@pytest.mark.parametrize("store", ["https", "oci", "python", "npm", "maven"])
def test_a_place_that_does_not_answer_is_worth_another_try(store: str, tmp_path: Path) -> None:
    artifact = {"https": "{version}", "maven": "a:b:c"}.get(store, "shop")
    with pytest.raises(TransientError, match="does not answer"):
        place(spec(store, artifact), "http://127.0.0.1:1").fetch(artifact, wanted(), tmp_path)
