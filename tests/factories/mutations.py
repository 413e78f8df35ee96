"""Hundreds of ways to change what a pipeline left of a release: the bytes, what is said of them, or who says it."""

from __future__ import annotations

import base64
import copy
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any

from interlock.domain.canonical import sha256_of

from . import pipelines, sigstore
from .pipelines import BUILDER, WORKFLOW, Pipeline
from .sigstore import AT, Sigstore

CLAIMS = ("bom", "builder", "commit", "coverage", "entry_point", "provenance", "source", "tests", "workflow")
ARTIFACT, STATEMENTS = "shop.tar.gz", "provenance.json"
REPORTS = ("bom.json", "coverage.xml", "unit.xml")
"""Names of the files that a pipeline leaves."""
Change = Callable[["Left"], None]


@dataclass
class Left:
    """What a pipeline left of a release; a mutation changes it.

    :param files: artifact and reports.
    :param certificate: what the certificate of a Sigstore says.
    :param signed: the file of the statement; none: the statement, signed as usual.
    """

    pipeline: Pipeline
    store: Sigstore
    by_identity: bool
    statement: dict[str, Any]
    files: dict[str, bytes]
    certificate: dict[str, Any]
    requested: str
    signed: bytes | None = None

    @cached_property
    def usual(self) -> bytes:
        """The statement as this pipeline signs it."""
        if not self.by_identity:
            return self.pipeline.envelope(self.statement)
        return json.dumps(self.store.bundle(self.statement, **self.certificate)).encode()

    @property
    def published(self) -> dict[str, bytes]:
        """Everything that is published, by the file's name."""
        return {**self.files, STATEMENTS: self.signed or self.usual}


@dataclass(frozen=True)
class Pipelines:
    """Two pipelines of one repository: one signs with a key, the other by an identity of a Sigstore.

    :param files: artifact and reports, as they should be.
    """

    files: dict[str, bytes]
    repository: str
    commit: str
    pipeline: Pipeline = field(default_factory=Pipeline)
    store: Sigstore = field(default_factory=Sigstore)

    def left(self, *, by_identity: bool) -> Left:
        """Return a release that is accepted."""
        workflow: Any = WORKFLOW
        if by_identity:
            workflow = {"repository": self.repository, "path": sigstore.WORKFLOW, "ref": "refs/tags/1.1.0"}
        predicate = pipelines.provenance(
            builder=sigstore.BUILDER if by_identity else BUILDER,
            repository=self.repository,
            commit=self.commit,
            workflow=workflow,
            left=tuple(self.files[name] for name in REPORTS),
        )
        digest = sha256_of(self.files[ARTIFACT])
        return Left(
            self.pipeline,
            self.store,
            by_identity,
            pipelines.statement(digest, predicate),
            dict(self.files),
            {
                "commit": self.commit,
                "source": self.repository,
                "workflow": f"{self.repository}/{sigstore.WORKFLOW}@refs/tags/1.1.0",
            },
            digest,
        )


@dataclass(frozen=True)
class Mutation:
    """One change of a release of one of the pipelines."""

    kind: str
    by_identity: bool
    change: Change


def mutations(of: Pipelines, chance: random.Random) -> Iterator[Mutation]:
    """Yield every mutation."""
    for by_identity in (False, True):
        statement = of.left(by_identity=by_identity).statement
        of_all = {
            "bytes": bytes_of_the_artifact(chance),
            "request": the_request(chance),
            "reports": reports(),
            "statement": said_by_the_pipeline_itself(statement, by_identity=by_identity),
            "signed bytes": what_was_signed(chance),
            "identity": identities_of_a_sigstore() if by_identity else identities_of_keys(),
        }
        if by_identity:
            of_all["proof"] = proof_of_a_sigstore(chance)
        yield from (Mutation(kind, by_identity, change) for kind, changes in of_all.items() for change in changes)


def flipped(data: bytes, chance: random.Random) -> bytes:
    """Change one bit."""
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]


def bytes_of_the_artifact(chance: random.Random) -> Iterator[Change]:
    """Yield 40 changes of the archive: a bit, an end that is missing, one that was added."""
    for number in range(40):

        def change(left: Left, number: int = number) -> None:
            data = left.files[ARTIFACT]
            left.files[ARTIFACT] = (flipped(data, chance), data[: -1 - number], data + bytes([number]))[number % 3]

        yield change


def the_request(chance: random.Random) -> Iterator[Change]:
    """Yield 10 requests of another digest than that of the archive."""
    for _ in range(10):

        def change(left: Left) -> None:
            left.requested = flipped(bytes.fromhex(left.requested), chance).hex()

        yield change


def reports() -> Iterator[Change]:
    """Yield 24 changes of the reports: tests that say otherwise, coverage that is higher, components that vanished."""
    for number in range(24):

        def change(left: Left, number: int = number) -> None:
            name, times = REPORTS[number % 3], 1 + number // 3
            left.files[name] = left.files[name].replace(b"1", b"2", times) + b"\n" * times

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
        left.signed = json.dumps(Sigstore().bundle(left.statement, **left.certificate)).encode()

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
        ours, theirs = json.loads(left.usual), left.store.bundle(other, **left.certificate)
        left.signed = json.dumps({**theirs, "dsseEnvelope": ours["dsseEnvelope"]}).encode()

    def signed_when_the_certificate_was_over(left: Left) -> None:
        late = left.store.bundle(left.statement, **left.certificate, at=AT + timedelta(days=1))
        document = json.loads(left.usual)
        document["verificationMaterial"]["tlogEntries"] = late["verificationMaterial"]["tlogEntries"]
        left.signed = json.dumps(document).encode()

    yield from (another_sigstore, of_another_statement, signed_when_the_certificate_was_over)
