"""The evidence pack: everything that proves a release, in one signed archive that is proven without us.

``include/interlock/verify`` proves it; ``docs/evidence.md`` says what is in it. The same evidence is the same bytes:
the files are stored as they are, in a fixed order, with fixed times and modes. So every byte of the archive is either
in a file that the signed manifest names, or can be computed from those, and the verifier does.
"""

from __future__ import annotations

import base64
import os
import re
import tempfile
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, FileSystemLoader, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from interlock.adapters.airflow.rest_api import Answer
from interlock.adapters.signing.signing import Signer
from interlock.adapters.templates import HIDDEN, MAX_LINE_LENGTH, NOTHING
from interlock.domain.canonical import Model, Sha256, canonical_bytes, sha256_of
from interlock.domain.errors import ReleaseError
from interlock.domain.ledger.chain import Entry, SignedHead, instant
from interlock.domain.ledger.kinds import KINDS, title_of
from interlock.domain.records import RolloutPlan
from interlock.locations import TEMPLATES

FORMAT = "interlock-evidence/1"
MANIFEST_TYPE = "application/vnd.interlock.manifest+json"
"""Payload type of a pack's signed manifest."""
MANIFEST, SEAL = "manifest.json", "manifest.dsse.json"
MAX_FILES, MAX_BYTES = 60_000, 2**31 - 1
"""The limits of the simple archive format that the verifier accepts."""

_SAFE_PATH = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[\w.+@=~-]+(?:/[\w.+@=~-]+)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence of one release.

    :param chain: the release's chain, such as ``release/release_bike_shop/1.4.0__2026-…``.
    :param attestations: name, such as ``provenance``: the in-toto statement in its DSSE envelope, as it was signed.
    :param plan: the frozen rollout plan; none: the release did not get so far.
    :param ballots: what people were asked and answered, as Airflow stored it.
    :param run: the run as Airflow stored it, plain JSON: who triggered it, with what, when; its tasks.
    :param hosts: what the hosts said that they run, plain JSON.
    :param quality: the folder with the data docs.
    :param logs: ``<task>/<number>``: the text of the log.
    :param pipeline: SHA-256: what the artifact's own pipeline signed, as it came.
    :param attached: ``<SHA-256>.<kind>``: a file that a tester attached to a test case, as it came.
    :param matrix: the rows of the test matrix, plain JSON; empty: the release has no test cases.
    :param keys: key id: PEM of public keys that signed something, beside the signer's.
    """

    chain: str
    entries: Sequence[Entry]
    heads: Sequence[SignedHead]
    attestations: Mapping[str, bytes]
    plan: RolloutPlan | None
    ballots: Sequence[Answer]
    run: Mapping[str, Any]
    hosts: Mapping[str, Any]
    quality: Path | None = None
    logs: Mapping[str, bytes] = field(default_factory=dict)
    keys: Mapping[str, bytes] = field(default_factory=dict)
    matrix: Sequence[Mapping[str, Any]] = ()
    pipeline: Mapping[str, bytes] = field(default_factory=dict)
    attached: Mapping[str, bytes] = field(default_factory=dict)


class SealedPack(Model):
    """A written pack, as recorded in the installation's chain."""

    chain: str
    sha256: Sha256
    size: int
    files: int
    key: str = ""


def build_pack(destination: Path, evidence: Evidence, signer: Signer, *, created: datetime) -> SealedPack:
    """Write a pack, whole or not at all.

    :param created: goes into the manifest; with the same instant, the same evidence gives the same bytes.
    :raises ReleaseError: a file has a name that could lead out of the pack, or there are too many or too large ones.
    """
    files = _files(evidence, signer)
    files["index.html"] = _index(evidence, signer, created, files)
    _refuse_unfit(files)
    manifest = canonical_bytes(
        {
            "format": FORMAT,
            "chain": evidence.chain,
            "created": instant(created),
            "files": [
                {"path": path, "sha256": sha256_of(content), "size": len(content)}
                for path, content in sorted(files.items())
            ],
        }
    )
    seal = canonical_bytes(signer.sign(manifest, MANIFEST_TYPE))
    members = [(MANIFEST, manifest), (SEAL, seal), *sorted(files.items())]
    digest, size = _write(destination, members)
    return SealedPack(chain=evidence.chain, sha256=digest, size=size, files=len(members), key=signer.key_id)


def fingerprint(public_key: bytes) -> str:
    """Return what people compare of a public key in PEM: the SHA-256 of its DER."""
    lines = [line for line in public_key.decode().splitlines() if not line.startswith("-----")]
    return sha256_of(base64.b64decode("".join(lines)))


def _files(evidence: Evidence, signer: Signer) -> dict[str, bytes]:
    """Return every file but the index page and the manifest."""
    files = {
        "chain.jsonl": _lines(entry.model_dump(mode="json") for entry in evidence.entries),
        "heads.jsonl": _lines(head.envelope for head in evidence.heads),
        "ballots.json": canonical_bytes({"ballots": [answer.model_dump(mode="json") for answer in evidence.ballots]}),
        "run.json": canonical_bytes(dict(evidence.run)),
        "hosts.json": canonical_bytes(dict(evidence.hosts)),
    }
    if evidence.plan is not None:
        files["plan.json"] = canonical_bytes(evidence.plan)
    if evidence.matrix:
        files["matrix.json"] = canonical_bytes({"rows": [dict(row) for row in evidence.matrix]})
    files |= {f"keys/{key}.pem": pem for key, pem in {**evidence.keys, signer.key_id: signer.public_key}.items()}
    files |= {f"attestations/{name}.dsse.json": envelope for name, envelope in evidence.attestations.items()}
    files |= {f"pipeline/{digest}.json": said for digest, said in evidence.pipeline.items()}
    files |= {f"attached/{name}": content for name, content in evidence.attached.items()}
    files |= {f"logs/{name}.log": text for name, text in evidence.logs.items()}
    if evidence.quality is not None:
        files |= dict(_tree(evidence.quality, "quality"))
    return files


def _lines(values: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(canonical_bytes(value) + b"\n" for value in values)


def _tree(folder: Path, prefix: str) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a folder; links and other kinds are refused."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise _unfit(f"{path} is a link or a device")
        if path.is_file():
            yield f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes()


def _refuse_unfit(files: Mapping[str, bytes]) -> None:
    size = sum(map(len, files.values()))
    if len(files) > MAX_FILES or size > MAX_BYTES:
        raise _unfit(f"{len(files)} files with {size} bytes; the maximum is {MAX_FILES} files and {MAX_BYTES} bytes")
    for path in files:
        if not _SAFE_PATH.fullmatch(path):
            raise _unfit(
                f"{path!r} may only have letters, digits and the characters . + @ = ~ _ -, and must stay "
                "inside of the pack"
            )
    if len({path.lower() for path in files}) < len(files):
        raise _unfit("two file names differ only in case, which some file systems do not support")


def _unfit(what: str) -> ReleaseError:
    return ReleaseError(
        f"This cannot go into an evidence pack: {what}.",
        rule="a pack has plain files below it (docs/evidence.md)",
        next_step="leave the file out or rename it, and create the pack again",
    )


def _write(destination: Path, members: Sequence[tuple[str, bytes]]) -> tuple[str, int]:
    """Write the archive aside, then put it in its place; return its SHA-256 and size."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    descriptor, aside = tempfile.mkstemp(dir=destination.parent, prefix=f".{destination.name}-")
    try:
        with os.fdopen(descriptor, "w+b") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for path, content in members:
                    archive.writestr(_member(path), content)
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            data = file.read()
        os.chmod(aside, 0o644)
        os.replace(aside, destination)
    except BaseException:
        os.unlink(aside)
        raise
    return sha256_of(data), len(data)


def _member(path: str) -> zipfile.ZipInfo:
    """Return a member's header: nothing in it depends on when, where or by whom it is written."""
    member = zipfile.ZipInfo(path, date_time=(1980, 1, 1, 0, 0, 0))
    member.create_system = 3  # Unix, also where it is not
    member.external_attr = 0o100644 << 16
    return member


def _index(evidence: Evidence, signer: Signer, created: datetime, files: Mapping[str, bytes]) -> bytes:
    """Render the page for people: nothing on it is needed for the proof."""
    kinds: dict[str, list[Entry]] = {}
    for entry in evidence.entries:
        kinds.setdefault(entry.kind, []).append(entry)
    page = _environment().get_template("evidence_index.html.j2")
    text = page.render(
        chain=evidence.chain,
        created=instant(created),
        entries=evidence.entries,
        K={one.constant: name for name, one in KINDS.items()},
        kinds=kinds,
        last={kind: found[-1].payload for kind, found in kinds.items()},
        plan=evidence.plan.model_dump(mode="json") if evidence.plan else None,
        plan_digest=evidence.plan.digest if evidence.plan else None,
        run=evidence.run,
        hosts=evidence.hosts,
        matrix=evidence.matrix,
        fingerprint=fingerprint(signer.public_key),
        files=[(path, len(content)) for path, content in sorted(files.items())],
    )
    return text.encode()


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=ChainableUndefined,  # an incomplete record must not prevent the pack
        finalize=_said,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(when=_when, short=_short, gist=_gist, title_of=title_of)
    return environment


def _said(value: Any) -> Any:
    """Return a value as text for people, without invisible and bidirectional control characters."""
    if isinstance(value, Markup):
        return value
    if value is None or isinstance(value, Undefined) or value == "":
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(str(_said(item)) for item in value) or NOTHING
    return "".join(sign for sign in str(value) if sign == "\n" or unicodedata.category(sign) not in HIDDEN)


def _when(value: Any) -> str:
    """Return an instant to the second."""
    text = instant(value) if isinstance(value, datetime) else value
    return f"{text[:10]} {text[11:19]} UTC" if isinstance(text, str) and len(text) >= 19 else NOTHING


def _short(digest: Any) -> str:
    return digest[:12] if isinstance(digest, str) else NOTHING


def _gist(entry: Entry) -> str:
    """Return a line about an entry: the first of its fields with a description."""
    permit = entry.payload.get("permit")
    if isinstance(permit, dict):
        return f"to {permit.get('purpose')} {_said(permit.get('hosts'))}"
    for key in ("what", "summary", "reason", "because", "title", "outcome", "release", "version", "change_type"):
        value = entry.payload.get(key)
        if isinstance(value, str) and value:
            return value if len(value) <= MAX_LINE_LENGTH else f"{value[: MAX_LINE_LENGTH - 1]}…"
    success = entry.payload.get("success")
    return ("passed" if success else "failed") if isinstance(success, bool) else ""
