"""What is in the embedded S3 is there after a restart: a cluster has its logs, results and artifacts nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

from interlock.estate.settings import REGION
from interlock.estate.world.aws import ACCOUNT
from interlock.estate.world.objects import keep_objects

BUCKET = "interlock-airflow"
LONG = "results/" + "a" * 900  # S3 takes 1,024 bytes, a file's name 255


def begin_anew(folder: Path) -> int:
    """Forget everything, as a process that ends does, and begin with what is in the folder."""
    s3_backends.reset()
    s3_backends.pop(ACCOUNT, None)
    return keep_objects(s3_backends[ACCOUNT]["aws"], folder)


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[Any]:
    begin_anew(tmp_path / "s3")
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    login = {"aws_access_key_id": "interlock", "aws_secret_access_key": "embedded", "region_name": REGION}
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", **login)
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    yield client
    server.stop()
    s3_backends.reset()
    s3_backends.pop(ACCOUNT, None)


def body(s3: Any, key: str) -> bytes:
    return bytes(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())


def test_what_was_written_is_there_after_a_restart(s3: Any, tmp_path: Path) -> None:
    large = b"x" * (9 * 1024 * 1024)  # boto sends it in parts
    (tmp_path / "large").write_bytes(large)
    s3.put_object(Bucket=BUCKET, Key="logs/a/1.log", Body=b"first")
    s3.put_object(Bucket=BUCKET, Key="logs/a/1.log", Body=b"first\nsecond")
    s3.put_object(Bucket=BUCKET, Key=LONG, Body=b"{}")
    s3.upload_file(str(tmp_path / "large"), BUCKET, "large")
    s3.copy_object(Bucket=BUCKET, Key="copy", CopySource=f"{BUCKET}/{LONG}")
    assert begin_anew(tmp_path / "s3") == 4
    assert [body(s3, key) for key in ("logs/a/1.log", LONG, "copy")] == [b"first\nsecond", b"{}", b"{}"]
    assert body(s3, "large") == large
    s3.put_object(Bucket=BUCKET, Key="later", Body=b"too")
    assert begin_anew(tmp_path / "s3") == 5


def test_what_was_deleted_stays_deleted(s3: Any, tmp_path: Path) -> None:
    for key in ("one", "two", "three"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    s3.delete_object(Bucket=BUCKET, Key="one")
    s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "two"}]})
    assert begin_anew(tmp_path / "s3") == 1
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == ["three"]


def test_half_a_file_is_not_an_object(s3: Any, tmp_path: Path) -> None:
    s3.put_object(Bucket=BUCKET, Key="whole", Body=b"x")
    (tmp_path / "s3" / ".half").write_bytes(b'{"bucket": "interlock-airflow", "key": "half"}\nx')
    (tmp_path / "s3" / "broken").write_bytes(b"\x00")
    assert begin_anew(tmp_path / "s3") == 1
    assert not (tmp_path / "s3" / ".half").exists()
