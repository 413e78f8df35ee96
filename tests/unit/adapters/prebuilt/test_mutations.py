"""Hundreds of ways to change the bytes, what is said of them, or who says it: none is accepted.

A release as good pipelines leave it is accepted: one signed with a pinned key, one by an identity of a pinned Sigstore.
Each mutation changes one thing. What is accepted is what comes back whole, with every claim holding.
"""

from __future__ import annotations

import base64
import copy
import json
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from airflow.sdk import Connection

from interlock.adapters.prebuilt.pipeline import take
from interlock.adapters.prebuilt.places import Wanted, open_place
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import Prebuilt, PrebuiltRules
from interlock.domain.catalogue.prebuilt_file import TrustedRoot
from interlock.domain.errors import DigestMismatch, QualityRejected
from interlock.domain.prebuilt.claims import Expected
from tests.factories import pipelines, sigstore
from tests.factories.pipelines import BOM, BUILDER, COMMIT, COVERAGE, ENTRY_POINT, JUNIT, WORKFLOW, Pipeline
from tests.factories.sigstore import AT, IDENTITY, REPOSITORY, Sigstore
from tests.file_server import FileServer, file_server

log = logging.getLogger(__name__)
SEED = 20261129
CLAIMS = ("bom", "builder", "commit", "coverage", "entry_point", "provenance", "source", "tests", "workflow")
ARCHIVE = pipelines.release_archive()
DIGEST = sha256_of(ARCHIVE)
REPORTS = {"unit.xml": JUNIT, "coverage.xml": COVERAGE, "bom.json": json.dumps(BOM).encode()}
Change = Callable[["Left"], None]


@dataclass
class Left:
    """What a pipeline left of a release; a mutation changes it.

    :param signed: the file of the statement; none: the statement, signed as usual.
    :param certificate: what the certificate of a Sigstore says.
    """

    pipeline: Pipeline
    store: Sigstore
    by_identity: bool
    statement: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=lambda: {"shop-1.1.0.tar.gz": ARCHIVE, **REPORTS})
    certificate: dict[str, Any] = field(default_factory=lambda: {"commit": COMMIT})
    requested: str = DIGEST
    signed: bytes | None = None

    @cached_property
    def usual(self) -> bytes:
        """The statement as this pipeline signs it."""
        if not self.by_identity:
            return self.pipeline.envelope(self.statement)
        return json.dumps(self.store.bundle(self.statement, **self.certificate)).encode()


class World:
    """Two pipelines, both pinned, and a server on which they leave releases."""

    def __init__(self, server: FileServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.pipeline, self.store = Pipeline(), Sigstore()
        (folder / "trusted_root.json").write_bytes(self.store.trusted_root)
        root = TrustedRoot(file="trusted_root.json", sha256=sha256_of(self.store.trusted_root))
        self.rules = PrebuiltRules(
            stores=("shop_artifacts",), keys=(self.pipeline.pinned,), identities=(IDENTITY,), trusted_root=root
        )

    def left(self, *, by_identity: bool) -> Left:
        """Return a release that is accepted."""
        builder = sigstore.BUILDER if by_identity else BUILDER
        workflow: Any = WORKFLOW
        if by_identity:
            workflow = {"repository": REPOSITORY, "path": sigstore.WORKFLOW, "ref": "refs/tags/1.1.0"}
        predicate = pipelines.provenance(
            builder=builder, repository=REPOSITORY, workflow=workflow, left=tuple(REPORTS.values())
        )
        return Left(self.pipeline, self.store, by_identity, pipelines.statement(DIGEST, predicate))

    def stopped_by(self, left: Left) -> str:
        """Take a release, and say what stopped it; empty: it was accepted."""
        for name, data in {**left.files, "provenance.json": left.signed or left.usual}.items():
            self.server.put(name, data)
        spec = Prebuilt(
            tool="prebuilt",
            store="https",
            connection="shop_artifacts",
            artifact="shop-{version}.tar.gz",
            statements=("provenance.json",),
            junit=("unit.xml",),
            coverage="coverage.xml",
            bom="bom.json",
            workflow=sigstore.WORKFLOW if left.by_identity else WORKFLOW,
            entry_point=ENTRY_POINT,
        )
        place = open_place(spec, Connection(conn_id="shop_artifacts", conn_type="http", host=self.server.url))
        expected = Expected(
            digests=(left.requested,),
            repository=REPOSITORY,
            commit=COMMIT,
            signers=self.rules.signers,
            demanded=CLAIMS,  # type: ignore[arg-type]
            workflow=spec.workflow,
            entry_point=ENTRY_POINT,
        )
        wanted = Wanted("1.1.0", COMMIT, left.requested, 1 << 20)
        with TemporaryDirectory(dir=self.folder) as folder:
            try:
                found = take(spec, place, wanted, expected, self.rules, catalogue=self.folder, folder=Path(folder))
            except DigestMismatch:
                return "the artifact's digest"
            except QualityRejected:
                return "a report that cannot be read"
        wrong = [claim.claim for claim in found.claims if not claim.holds]
        return f"the claim {wrong[0]}" if wrong else ""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with file_server() as server:
        yield World(server, tmp_path_factory.mktemp("world"))


def flipped(data: bytes, chance: random.Random) -> bytes:
    """Change one bit."""
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]


def bytes_of_the_artifact(chance: random.Random) -> Iterator[Change]:
    """Yield 40 changes of the archive: a bit, an end that is missing, one that was added."""
    for number in range(40):

        def change(left: Left, number: int = number) -> None:
            changes = (flipped(ARCHIVE, chance), ARCHIVE[: -1 - number], ARCHIVE + bytes([number]))
            left.files["shop-1.1.0.tar.gz"] = changes[number % 3]

        yield change


def the_request(chance: random.Random) -> Iterator[Change]:
    """Yield 10 requests of another digest than that of the archive."""
    for _ in range(10):

        def change(left: Left) -> None:
            left.requested = flipped(bytes.fromhex(DIGEST), chance).hex()

        yield change


def reports(chance: random.Random) -> Iterator[Change]:
    """Yield 24 changes of the reports: tests that say otherwise, coverage that is higher, components that vanished."""
    for number in range(24):

        def change(left: Left, number: int = number) -> None:
            name = sorted(REPORTS)[number % 3]
            left.files[name] = REPORTS[name].replace(b"1", b"2", 1 + number // 3) + b"\n" * (1 + number // 3)

        yield change


MEANINGLESS = {("subject", 0, "name"), ("predicate", "buildDefinition", "buildType")}


SAID_TWICE = {
    False: {("externalParameters", "source", "repository")},
    True: {
        ("externalParameters", "source", "repository"),
        ("externalParameters", "workflow", "repository"),
    },
}
"""What another place of the statement, or the certificate, says as well: it may be left out, but not be wrong."""


def leaves(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the places of all texts in a statement that mean something to the question."""
    if isinstance(value, str):
        named = place[-1] == "name" and "byproducts" in place
        if place not in MEANINGLESS and not named and place[-1] != "ref":
            yield place
    else:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*place, key))


def said_by_the_pipeline_itself(statement: dict[str, Any], *, by_identity: bool) -> Iterator[Change]:
    """Yield statements that are signed as they should be and say something else, or leave it out, at each place."""
    for place in leaves(statement):
        for how in ("other", "number", "left out"):
            if how == "left out" and place[2:] in SAID_TWICE[by_identity]:
                continue

            def change(left: Left, place: tuple[Any, ...] = place, how: str = how) -> None:
                inner: Any = left.statement
                for key in place[:-1]:
                    inner = inner[key]
                if how == "left out":
                    del inner[place[-1]]
                else:
                    inner[place[-1]] = f"x{inner[place[-1]]}" if how == "other" else 7

            yield change


def what_was_signed(chance: random.Random) -> Iterator[Change]:
    """Yield 60 changes of the signed bytes and of the signature, each written as base64 again."""
    for number in range(60):

        def change(left: Left, number: int = number) -> None:
            document = json.loads(left.usual)
            envelope = document.get("dsseEnvelope", document)
            holder, key = ((envelope, "payload"), (envelope["signatures"][0], "sig"))[number % 2]
            holder[key] = base64.b64encode(flipped(base64.b64decode(holder[key]), chance)).decode()
            left.signed = json.dumps(document).encode()

        yield change


def proof_of_a_sigstore(chance: random.Random) -> Iterator[Change]:
    """Yield changes of the certificate, of the logs' promises, and of the proof that the entry is in the log."""
    material: list[tuple[Any, ...]] = [
        ("certificate", "rawBytes"),
        ("tlogEntries", 0, "inclusionPromise", "signedEntryTimestamp"),
        ("tlogEntries", 0, "inclusionProof", "rootHash"),
        ("tlogEntries", 0, "inclusionProof", "hashes", 0),
        ("tlogEntries", 0, "canonicalizedBody"),
    ]
    for number in range(50):

        def change(left: Left, number: int = number) -> None:
            document = json.loads(left.usual)
            inner: Any = document["verificationMaterial"]
            *way, key = material[number % len(material)]
            for step in way:
                inner = inner[step]
            inner[key] = base64.b64encode(flipped(base64.b64decode(inner[key]), chance)).decode()
            left.signed = json.dumps(document).encode()

        yield change
    for entry in ({"integratedTime": "1"}, {"logIndex": "1"}, {"inclusionPromise": None}, {"inclusionProof": None}):

        def lost(left: Left, entry: dict[str, Any] = entry) -> None:
            document = json.loads(left.usual)
            document["verificationMaterial"]["tlogEntries"][0].update(entry)
            left.signed = json.dumps(document).encode()

        yield lost


def identities_of_keys() -> Iterator[Change]:
    """Yield statements that others signed, or that are not signed."""

    def another_key(left: Left) -> None:
        left.pipeline = Pipeline()

    def no_signature(left: Left) -> None:
        left.signed = json.dumps({**json.loads(left.usual), "signatures": []}).encode()

    def another_payload_type(left: Left) -> None:
        left.signed = left.pipeline.envelope(left.statement, "application/json")

    def unsigned(left: Left) -> None:
        left.signed = json.dumps(left.statement).encode()

    def the_builder_of_another_signer(left: Left) -> None:
        left.statement["predicate"]["runDetails"]["builder"]["id"] = sigstore.BUILDER

    def a_sigstore_that_is_not_pinned(left: Left) -> None:
        left.signed = json.dumps(Sigstore().bundle(left.statement, commit=COMMIT)).encode()

    yield from (another_key, no_signature, another_payload_type, unsigned)
    yield from (the_builder_of_another_signer, a_sigstore_that_is_not_pinned)


def identities_of_a_sigstore() -> Iterator[Change]:
    """Yield bundles of another identity, another time, or another Sigstore."""
    elsewhere = "https://github.com/elsewhere/shop"
    wrong: list[dict[str, Any]] = [
        {"issuer": "https://accounts.example.com"},
        {"issuer": ""},
        {"subject": sigstore.SUBJECT.replace("release.yml", "test.yml")},
        {"subject": sigstore.SUBJECT.replace("spoke-wheel", "spoke-wheel-evil")},
        {"subject": sigstore.SUBJECT.replace("refs/tags/", "refs/heads/")},
        {"subject": sigstore.SUBJECT.replace("refs/tags/1.1.0", "refs/tags/1/../heads/main")},
        {"subject": f"{elsewhere}/{sigstore.WORKFLOW}@refs/tags/1.1.0"},
        {"source": elsewhere},
        {"commit": "6" * 40},
        {"workflow": sigstore.SUBJECT.replace("release.yml", "test.yml")},
        {"kind": "application/json"},
    ]
    for said in wrong:

        def change(left: Left, said: dict[str, Any] = said) -> None:
            left.certificate |= said

        yield change

    def another_sigstore(left: Left) -> None:
        left.store = Sigstore()

    def of_another_statement(left: Left) -> None:
        other = copy.deepcopy(left.statement)
        other["subject"][0]["digest"]["sha256"] = "f" * 64
        ours, theirs = json.loads(left.usual), left.store.bundle(other, commit=COMMIT)
        left.signed = json.dumps({**theirs, "dsseEnvelope": ours["dsseEnvelope"]}).encode()

    def signed_when_the_certificate_was_over(left: Left) -> None:
        late = left.store.bundle(left.statement, commit=COMMIT, at=AT + timedelta(days=1))
        document = json.loads(left.usual)
        document["verificationMaterial"]["tlogEntries"] = late["verificationMaterial"]["tlogEntries"]
        left.signed = json.dumps(document).encode()

    yield from (another_sigstore, of_another_statement, signed_when_the_certificate_was_over)


def test_what_good_pipelines_leave_is_accepted(world: World) -> None:
    assert world.stopped_by(world.left(by_identity=False)) == ""
    assert world.stopped_by(world.left(by_identity=True)) == ""


def test_no_mutation_of_bytes_statements_or_identity_is_accepted(world: World) -> None:
    chance = random.Random(SEED)
    tried: list[tuple[str, bool, Change]] = []
    for by_identity in (False, True):
        of_all = {
            "bytes": bytes_of_the_artifact(chance),
            "request": the_request(chance),
            "reports": reports(chance),
            "statement": said_by_the_pipeline_itself(
                world.left(by_identity=by_identity).statement, by_identity=by_identity
            ),
            "signed bytes": what_was_signed(chance),
            "identity": identities_of_a_sigstore() if by_identity else identities_of_keys(),
        }
        if by_identity:
            of_all["proof"] = proof_of_a_sigstore(chance)
        tried += [(kind, by_identity, change) for kind, changes in of_all.items() for change in changes]
    stopped: Counter[tuple[str, str]] = Counter()
    accepted: list[str] = []
    for number, (kind, by_identity, change) in enumerate(tried):
        left = world.left(by_identity=by_identity)
        change(left)
        by = world.stopped_by(left)
        if not by:
            accepted.append(f"{number}, of {kind} (by identity: {by_identity}): {left.statement} {left.certificate}")
        stopped[kind, by] += 1
    assert not accepted
    assert len(tried) >= 200
    assert {kind for kind, by in stopped if by == "the artifact's digest"} == {"bytes", "request"}
    assert {by for kind, by in stopped if kind in ("signed bytes", "proof")} == {"the claim provenance"}
    assert {by for kind, by in stopped if kind == "reports"} <= {
        "the claim tests",
        "the claim coverage",
        "the claim bom",
        "a report that cannot be read",
    }
    for (kind, by), count in sorted(stopped.items()):
        log.info("%d mutations of %s: stopped by %s", count, kind, by)
