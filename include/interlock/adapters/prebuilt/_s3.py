"""Objects in S3, or in what speaks its protocol."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from interlock.adapters.aws.clients import aws_client
from interlock.domain.errors import AssetMissing, TransientError

from .places import Fetched, Wanted, checked, missing, too_big

_GONE = ("404", "NoSuchKey", "NotFound")
_CHUNK = 1024 * 1024


class S3Bucket:
    """A bucket that an Airflow connection of type ``aws`` names in its extra: bucket, and maybe prefix.

    :param client: boto3's S3 client.
    """

    def __init__(self, client: Any, name: str, bucket: str, prefix: str = "") -> None:
        self._client, self._name, self._bucket, self._prefix = client, name, bucket, prefix.strip("/")

    @classmethod
    def of(cls, connection: Any) -> Self:
        """Open the bucket of a connection."""
        extra = connection.extra_dejson
        if connection.conn_type != "aws" or not extra.get("bucket"):
            raise AssetMissing(
                f"The connection {connection.conn_id} is not a place of artifacts: it is of type "
                f"{connection.conn_type}, or names no bucket.",
                rule="a bucket is a connection of type aws, with bucket and maybe prefix in its extra",
                who="the platform engineer",
                next_step="correct the connection",
            )
        client = aws_client(connection, "s3")
        return cls(client, str(connection.conn_id), str(extra["bucket"]), str(extra.get("prefix", "")))

    def fetch(self, artifact: str, wanted: Wanted, folder: Path) -> Fetched:
        """Bring an object and check its digest."""
        key, path = wanted.filled(artifact), folder / "artifact"
        with open(path, "xb") as file:
            chunks = self._chunks(key, wanted.limit)
            if chunks is None:
                raise missing(f"There is no object {self._uri(key)}", self._name)
            for chunk in chunks:
                file.write(chunk)
        checked(path, wanted.sha256, self._uri(key))
        return Fetched(path, key.rpartition("/")[2], self._uri(key), (wanted.sha256,))

    def read(self, path: str, limit: int) -> bytes | None:
        """Return an object by its key."""
        chunks = self._chunks(path, limit)
        return None if chunks is None else b"".join(chunks)

    def _chunks(self, key: str, limit: int) -> Iterator[bytes] | None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(key))
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
            if code in _GONE:
                return None
            if status >= 500 or code == "SlowDown":
                raise TransientError(f"{self._uri(key)} cannot be read: {error}", next_step="try again") from error
            raise missing(f"{self._uri(key)} cannot be read: {error}", self._name) from error
        except BotoCoreError as error:
            raise TransientError(f"{self._uri(key)} cannot be read: {error}", next_step="try again") from error
        return self._limited(answer["Body"], key, limit)

    def _limited(self, body: Any, key: str, limit: int) -> Iterator[bytes]:
        from botocore.exceptions import BotoCoreError

        total = 0
        try:
            for chunk in body.iter_chunks(_CHUNK):
                total += len(chunk)
                if total > limit:
                    raise too_big(self._uri(key), limit)
                yield chunk
        except BotoCoreError as error:
            raise TransientError(f"{self._uri(key)} cannot be read: {error}", next_step="try again") from error

    def _key(self, key: str) -> str:
        return "/".join(part for part in (self._prefix, key) if part)

    def _uri(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._key(key)}"
