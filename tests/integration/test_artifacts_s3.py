from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from airflow.sdk import Connection
from moto.server import ThreadedMotoServer

from interlock.adapters.artifacts.store import ArtifactStore, open_store
from interlock.domain.errors import AssetMissing, DigestMismatch, TransientError
from interlock.domain.records import Blob

CREDENTIALS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing-secret", "region_name": "eu-west-1"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def client(endpoint: str) -> Any:
    client = boto3.client("s3", endpoint_url=endpoint, **CREDENTIALS)
    client.create_bucket(Bucket="artifacts", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    yield client
    for item in client.list_objects_v2(Bucket="artifacts").get("Contents", []):
        client.delete_object(Bucket="artifacts", Key=item["Key"])
    client.delete_bucket(Bucket="artifacts")


def connection(endpoint: str, **extra: Any) -> Connection:
    """Return the connection as Airflow hands it to a task."""
    settings = {"bucket": "artifacts", "endpoint_url": endpoint, "region_name": "eu-west-1"} | extra
    return Connection(
        conn_id="interlock_artifacts",
        conn_type="aws",
        login="testing",
        password="testing-secret",
        extra=json.dumps(settings),
    )


@pytest.fixture
def store(client: Any, endpoint: str) -> ArtifactStore:
    return open_store(connection(endpoint, prefix="interlock/main/"))


def test_bytes_lie_in_the_bucket_under_their_digest_and_come_back(store: ArtifactStore, client: Any) -> None:
    blob = store.put_bytes(b"bikes", "notes.md")
    assert blob.uri == f"s3://artifacts/interlock/main/sha256/{blob.sha256[:2]}/{blob.sha256}/notes.md"
    assert store.put_bytes(b"bikes", "notes.md") == blob
    assert store.get_bytes(blob) == b"bikes"
    assert store.exists(blob)
    (item,) = client.list_objects_v2(Bucket="artifacts")["Contents"]
    assert f"s3://artifacts/{item['Key']}" == blob.uri


def test_a_big_file_goes_and_comes_in_parts(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "bundle").write_bytes(b"0123456789abcdef" * 600_000)
    blob = store.put_file(tmp_path / "bundle", "bike-shop-1.1.0.tar.gz")
    assert store.get_file(blob, tmp_path / "there").read_bytes() == (tmp_path / "bundle").read_bytes()


def test_changed_and_missing_objects_are_noticed(store: ArtifactStore, client: Any, tmp_path: Path) -> None:
    blob = store.put_bytes(b"bikes", "notes.md")
    key = blob.uri.removeprefix("s3://artifacts/")
    client.put_object(Bucket="artifacts", Key=key, Body=b"cars!")
    assert not store.exists(blob)
    with pytest.raises(DigestMismatch):
        store.get_bytes(blob)
    with pytest.raises(DigestMismatch):
        store.get_file(blob, tmp_path / "there")
    client.delete_object(Bucket="artifacts", Key=key)
    assert not store.exists(blob)
    with pytest.raises(AssetMissing, match=r"notes\.md is not in the artifact store"):
        store.get_bytes(blob)


def test_a_tree_is_stored_with_the_types_that_browsers_need(store: ArtifactStore, client: Any, tmp_path: Path) -> None:
    (tmp_path / "docs" / "static").mkdir(parents=True)
    (tmp_path / "docs" / "index.html").write_text("<h1>ok</h1>")
    (tmp_path / "docs" / "static" / "a.css").write_text("h1 {}")
    uri = store.put_tree(tmp_path / "docs", "docs/run-1/quality")
    assert uri == "s3://artifacts/interlock/main/docs/run-1/quality"
    assert store.read(store.relative(uri) + "/static/a.css") == b"h1 {}"
    head = client.head_object(Bucket="artifacts", Key="interlock/main/docs/run-1/quality/index.html")
    assert head["ContentType"] == "text/html"
    with pytest.raises(AssetMissing):
        store.read("docs/run-1/none.html")


def test_a_store_at_the_top_of_its_bucket_needs_no_prefix(client: Any, endpoint: str) -> None:
    blob = open_store(connection(endpoint)).put_bytes(b"bikes", "notes.md")
    assert blob.uri == f"s3://artifacts/sha256/{blob.sha256[:2]}/{blob.sha256}/notes.md"


def test_a_forked_process_reads_what_its_parent_wrote(store: ArtifactStore) -> None:
    blob = store.put_bytes(b"bikes", "notes.md")
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()
    child = fork.Process(target=_read, args=(store, blob, answers))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert answers.get() == b"bikes"


def _read(store: ArtifactStore, blob: Blob, answers: Any) -> None:
    answers.put(store.get_bytes(blob))


def test_a_bucket_that_is_not_there_is_refused(store: ArtifactStore, endpoint: str) -> None:
    elsewhere = open_store(connection(endpoint, bucket="elsewhere"))
    with pytest.raises(AssetMissing, match="elsewhere"):
        elsewhere.put_bytes(b"bikes", "notes.md")


def test_a_server_that_does_not_answer_is_worth_another_try() -> None:
    impatient = {"connect_timeout": 1, "retries": {"total_max_attempts": 1}}
    store = open_store(connection("http://127.0.0.1:1", config_kwargs=impatient))
    with pytest.raises(TransientError, match="cannot be written"):
        store.put_bytes(b"bikes", "notes.md")
