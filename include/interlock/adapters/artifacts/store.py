"""The artifact store: bytes by content, in a folder or in S3, chosen by one Airflow connection.

A blob lives at ``<root>/sha256/<first two digits>/<digest>/<name>``, so writing it again changes nothing, and what is
read is checked against the digest that was recorded, whatever happened to the store in between.

Airflow's ``ObjectStoragePath`` was tried and not taken: a file of its is visible before it is whole, and its S3 file
system refuses to work in a forked process, which every task of Airflow's is.
"""

from __future__ import annotations

import hashlib
import mimetypes
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import quote, unquote

from interlock.adapters.aws.clients import aws_client
from interlock.domain.canonical import sha256_of
from interlock.domain.errors import AssetMissing, DigestMismatch, RequestRefused, TransientError
from interlock.domain.records import Blob

_CHUNK = 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9_.+-]{0,199}")
_GONE = ("404", "NoSuchKey", "NotFound")
_SETTINGS = "the connection interlock_artifacts"


class BlobStore(Protocol):
    """The storage below an artifact store: whole files by a path below its root."""

    root: str
    """URI of the root, without a slash at its end."""

    def write(self, relative: str, source: IO[bytes]) -> None:
        """Store a file, whole or not at all; what was there before is replaced."""

    def open(self, relative: str) -> IO[bytes]:
        """Open a file; FileNotFoundError if there is none."""

    def names(self, prefix: str) -> list[str]:
        """Return the files below a prefix, by their paths below the root."""


class ArtifactStore:
    """Bytes by URI and SHA-256."""

    def __init__(self, shelf: BlobStore) -> None:
        self._shelf = shelf

    @property
    def root(self) -> str:
        """URI under which everything lies."""
        return self._shelf.root

    def put_bytes(self, data: bytes, name: str) -> Blob:
        """Store bytes under a name that people will know them by; again: the same blob."""
        with tempfile.SpooledTemporaryFile(max_size=_CHUNK) as file:
            file.write(data)
            file.seek(0)
            return self._put(file, name, sha256_of(data), len(data))

    def put_file(self, path: Path, name: str) -> Blob:
        """Store a file's bytes; again: the same blob."""
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
            file.seek(0)
            return self._put(file, name, digest, size)

    def get_bytes(self, blob: Blob) -> bytes:
        """Return a blob's bytes; DigestMismatch if they are not the bytes that were recorded."""
        with self._open(blob) as file:
            data = file.read()
        if sha256_of(data) != blob.sha256:
            raise _tampered(blob, sha256_of(data))
        return data

    def get_file(self, blob: Blob, destination: Path) -> Path:
        """Copy a blob to ``destination``, which appears only when all of it is there and has the recorded digest."""
        with self._open(blob) as source, _aside(destination) as file:
            digest = _copy(source, file)
            if digest != blob.sha256:
                raise _tampered(blob, digest)
        return destination

    def exists(self, blob: Blob) -> bool:
        """Tell whether the blob exists with the recorded digest; all of it is read."""
        return self.digest_of(blob) == blob.sha256

    def digest_of(self, blob: Blob) -> str | None:
        """Return the SHA-256 of the bytes that lie where a blob's should, all read again; none: there are none."""
        try:
            with self._open(blob) as source:
                return _copy(source, None)
        except AssetMissing:
            return None

    def put_tree(self, folder: Path, prefix: str) -> str:
        """Store every file of a folder below ``prefix``; return the prefix's URI."""
        base = _below_root(prefix)
        if base.split("/")[0] == "sha256":
            raise RequestRefused(f"{prefix!r} is reserved for blobs; choose another path for {folder}.")
        if not folder.is_dir():
            raise NotADirectoryError(folder)
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            with open(path, "rb") as file:
                self._shelf.write(f"{base}/{path.relative_to(folder).as_posix()}", file)
        return f"{self.root}/{quote(base)}"

    def get_tree(self, prefix: str, folder: Path) -> int:
        """Copy every file below ``prefix`` into a folder; return how many there were."""
        base = _below_root(prefix)
        names = [_below_root(name) for name in self._shelf.names(base)]
        for name in names:
            with self._shelf.open(name) as source, _aside(folder / name.removeprefix(f"{base}/")) as file:
                _copy(source, file)
        return len(names)

    def read(self, relative: str) -> bytes:
        """Return one file by its path below the root; AssetMissing if there is none, RequestRefused for a way out."""
        path = _below_root(relative)
        try:
            with self._shelf.open(path) as file:
                return file.read()
        except FileNotFoundError as error:
            raise AssetMissing(f"The artifact store has no {path}.") from error

    def relative(self, uri: str) -> str:
        """Return what of a URI of this store is below its root, as :meth:`read` takes it."""
        if not uri.startswith(self.root + "/"):
            raise RequestRefused(
                f"{uri} is not in the artifact store {self.root}.",
                rule="artifacts are read only from the configured store",
                who="the platform engineer",
                next_step=f"check {_SETTINGS}",
            )
        return _below_root(unquote(uri.removeprefix(self.root + "/")))

    def _put(self, file: IO[bytes], name: str, digest: str, size: int) -> Blob:
        if not _NAME.fullmatch(name):
            raise RequestRefused(f"{name!r} cannot be the name of an artifact: letters, digits, _ . + and - only.")
        relative = f"sha256/{digest[:2]}/{digest}/{name}"
        self._shelf.write(relative, file)
        return Blob(uri=f"{self.root}/{relative}", sha256=digest, size=size)

    @contextmanager
    def _open(self, blob: Blob) -> Iterator[IO[bytes]]:
        try:
            with self._shelf.open(self.relative(blob.uri)) as file:
                yield file
        except FileNotFoundError as error:
            raise AssetMissing(
                f"{blob.uri} is not in the artifact store.",
                rule="only the artifact that was built and reviewed is deployed",
                who=f"the owner of the storage in {_SETTINGS}",
                next_step="restore it from a backup, or build the release again",
            ) from error


class Folder:
    """Storage in a folder of this machine, or in a folder that is mounted on every worker."""

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()
        self.root = self._path.as_uri()

    def write(self, relative: str, source: IO[bytes]) -> None:
        """Write aside, flush to disk, rename."""
        with _aside(self._path / relative) as file:
            shutil.copyfileobj(source, file, _CHUNK)

    def names(self, prefix: str) -> list[str]:
        """Return the files below a prefix, by their paths below the root."""
        below = self._path / prefix
        return sorted(
            path.relative_to(self._path).as_posix()
            for path in below.rglob("*")
            if path.is_file() and not path.is_symlink()
        )

    def open(self, relative: str) -> IO[bytes]:
        """Open a file; links that lead out of the folder lead nowhere."""
        path = (self._path / relative).resolve()
        if not path.is_relative_to(self._path) or not path.is_file():
            raise FileNotFoundError(relative)
        return open(path, "rb")


class Bucket:
    """A shelf in an S3 bucket; S3 shows an object only when all of it has arrived.

    :param client: boto3's S3 client.
    """

    def __init__(self, client: Any, bucket: str, prefix: str = "") -> None:
        self._client, self._bucket, self._prefix = client, bucket, prefix.strip("/")
        self.root = "/".join(part for part in (f"s3://{bucket}", self._prefix) if part)

    def write(self, relative: str, source: IO[bytes]) -> None:
        """Upload an object, in parts if it is big."""
        kind = mimetypes.guess_type(relative)[0] or "application/octet-stream"
        with self._errors(f"{relative} cannot be written to {self.root}"):
            self._client.upload_fileobj(source, self._bucket, self._key(relative), ExtraArgs={"ContentType": kind})

    def names(self, prefix: str) -> list[str]:
        """Return the objects below a prefix, by their paths below the root."""
        pages = self._client.get_paginator("list_objects_v2")
        with self._errors(f"{prefix} cannot be listed in {self.root}"):
            found = pages.paginate(Bucket=self._bucket, Prefix=f"{self._key(prefix)}/")
            keys = [one["Key"] for page in found for one in page.get("Contents", ())]
        return sorted(key.removeprefix(f"{self._prefix}/") if self._prefix else key for key in keys)

    def open(self, relative: str) -> IO[bytes]:
        """Download an object into a temporary file."""
        file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # the caller closes it
        try:
            with self._errors(f"{relative} cannot be read from {self.root}"):
                self._client.download_fileobj(self._bucket, self._key(relative), file)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    def _key(self, relative: str) -> str:
        return "/".join(part for part in (self._prefix, relative) if part)

    @contextmanager
    def _errors(self, about: str) -> Iterator[None]:
        """Turn boto3's errors into ours: not there, may not, or try again."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            yield
        except ClientError as error:
            answer = error.response
            code = str(answer.get("Error", {}).get("Code", ""))
            if code in _GONE:
                raise FileNotFoundError(about) from error
            if int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)) >= 500 or code == "SlowDown":
                raise TransientError(f"{about}: {error}", next_step="try again") from error
            raise _unusable(f"{about}: {error}") from error
        except NoCredentialsError as error:
            raise _unusable(f"{about}: {error}") from error
        except (BotoCoreError, Boto3Error) as error:
            raise TransientError(f"{about}: {error}", next_step="try again") from error


def open_store(connection: Any) -> ArtifactStore:
    """Open the store that an Airflow connection describes.

    :param connection: ``fs`` with ``path`` in its extra, or ``aws`` with ``bucket`` and, if wanted, ``prefix`` and
        ``endpoint_url``.
    """
    extra = connection.extra_dejson
    if connection.conn_type == "fs" and extra.get("path"):
        return ArtifactStore(Folder(Path(str(extra["path"]))))
    if connection.conn_type == "aws" and extra.get("bucket"):
        return ArtifactStore(Bucket(aws_client(connection, "s3"), str(extra["bucket"]), str(extra.get("prefix", ""))))
    raise _unusable(
        f"{_SETTINGS.capitalize()} has type {connection.conn_type!r} and the extras "
        f"{', '.join(sorted(extra)) or 'none'}; it must be fs with path, or aws with bucket"
    )


@contextmanager
def _aside(destination: Path) -> Iterator[IO[bytes]]:
    """Give a file that becomes ``destination`` on success, and is removed on failure."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=destination.parent, prefix=f".{destination.name[:50]}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, destination)
        _flush_folder(destination.parent)
    finally:
        Path(name).unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Make a rename durable across a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy(source: IO[bytes], destination: IO[bytes] | None) -> str:
    """Copy bytes, or only read them; return their digest."""
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        if destination:
            destination.write(chunk)
    return digest.hexdigest()


def _below_root(relative: str) -> str:
    """Return a path that stays below the root."""
    parts = relative.split("/")
    if not relative or any(part in ("", ".", "..") for part in parts) or "\\" in relative or "\0" in relative:
        raise RequestRefused(f"{relative!r} is not a path inside the artifact store.")
    return relative


def _tampered(blob: Blob, found: str) -> DigestMismatch:
    return DigestMismatch(
        f"{blob.uri} has SHA-256 {found[:12]}…, but {blob.sha256[:12]}… was recorded.",
        rule="only the artifact that was built and reviewed is deployed",
        who=f"the owner of the storage in {_SETTINGS}",
        next_step="have the change of the store investigated, then build the release again",
    )


def _unusable(what: str) -> AssetMissing:
    return AssetMissing(
        f"{what}.",
        who="the platform engineer",
        next_step=f"check {_SETTINGS}: type, extras, credentials, and that the bucket exists",
    )
