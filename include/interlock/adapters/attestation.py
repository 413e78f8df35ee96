"""What is claimed about a release, in standard words: in-toto statements, SLSA provenance.

A statement is plain JSON; :mod:`.signing` puts it into a signed envelope.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from include.interlock.domain.catalogue import Build
from include.interlock.domain.records import Blob

from .source import public_url

STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:interlock:build:v1"
"""A clean clone of one commit, built by the service's own tool with a whitelisted environment, packed as a bundle."""
BUILDER = "urn:interlock:builder"


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
    builder: str = BUILDER,
    byproducts: Mapping[str, Blob] | None = None,
) -> dict[str, Any]:
    """Return SLSA provenance v1: which commit was built, how, by whom and when.

    :param artifact: the bundle.
    :param name: the bundle's file name.
    :param repository: its URL; a password in it is left out.
    :param ref: what the release was asked for with.
    :param tool: name and version of the build tool.
    :param invocation: Dag and run: ``release_bike_shop/manual__2026-…``.
    :param builder: URI of the installation that built it.
    :param byproducts: what else the build left: its log, the bill of materials.
    """
    address = _address(repository)
    definition = {
        "buildType": BUILD_TYPE,
        "externalParameters": {
            "source": {"repository": address, "ref": ref, "commit": commit},
            "build": build.model_dump(mode="json"),
        },
        "internalParameters": {"tool": tool},
        "resolvedDependencies": [{"uri": f"git+{address}@{ref}", "digest": {"gitCommit": commit}}],
    }
    details: dict[str, Any] = {
        "builder": {"id": builder},
        "metadata": {"invocationId": invocation, "startedOn": _time(started), "finishedOn": _time(finished)},
        "byproducts": [
            {"name": what, "uri": blob.uri, "digest": {"sha256": blob.sha256}}
            for what, blob in sorted((byproducts or {}).items())
        ],
    }
    return statement({name: artifact.sha256}, PROVENANCE, {"buildDefinition": definition, "runDetails": details})


def _address(repository: str) -> str:
    """Return a repository's URL in URL form: git also takes ``login@host:path`` and a folder's path."""
    url = public_url(repository)
    if url.startswith("/"):
        return f"file://{url}"
    if "://" in url:
        return url
    host, _, path = url.partition(":")
    return f"ssh://{host}/{path.lstrip('/')}"


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
