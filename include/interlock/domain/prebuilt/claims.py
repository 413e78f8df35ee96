"""Which claims of a pipeline hold: who built which commit of which repository, by which workflow.

Statements come here with their signatures verified (``adapters/prebuilt``). A claim that the policy demands and that is
missing does not hold; nor does one that is stated and wrong, whether it is demanded or not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from interlock.domain.catalogue import Claim, Policy, Prebuilt, Service
from interlock.domain.quality.rows import TestRow
from interlock.domain.records import VerifiedClaim

from .repositories import place_of

PROVENANCE = "https://slsa.dev/provenance/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
BOM = "https://cyclonedx.org/bom"
STATEMENT = "https://in-toto.io/Statement/v1"
NOTHING = "nothing"
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Signed:
    """An in-toto statement whose signature is that of a pinned key or identity.

    :param signer: the name of the key or identity in the policy.
    :param builders: for which it may sign.
    :param source: repository, by the certificate; empty: there is none, or it does not say. So are the next two.
    """

    statement: Mapping[str, Any]
    signer: str
    builders: tuple[str, ...]
    source: str = ""
    commit: str = ""
    workflow: str = ""

    @property
    def digests(self) -> frozenset[str]:
        """SHA-256 of its subjects."""
        subjects = self.statement.get("subject")
        found = (
            _text(_mapping(_mapping(subject).get("digest")).get("sha256"))
            for subject in (subjects if isinstance(subjects, list) else ())
        )
        return frozenset(digest for digest in found if re.fullmatch(r"[0-9a-f]{64}", digest))

    def is_about(self, digests: Iterable[str]) -> bool:
        """Tell whether a digest is among those of its subjects."""
        return bool(self.digests & set(digests))

    @property
    def kind(self) -> str:
        """Its predicate type."""
        return str(self.statement.get("predicateType", ""))

    @property
    def predicate(self) -> Mapping[str, Any]:
        """What it says."""
        return _mapping(self.statement.get("predicate"))


@dataclass(frozen=True, slots=True)
class Expected:
    """What a pipeline has to say.

    :param digests: those by which the artifact is known; the first is the requested one. None: it is not known yet.
    :param repository: the address of the service's repository.
    :param commit: the pinned one of the plan.
    :param signers: names of the pinned keys and identities.
    :param file: the service's file, for messages.
    """

    digests: tuple[str, ...]
    repository: str
    commit: str
    signers: tuple[str, ...]
    demanded: tuple[Claim, ...]
    workflow: str | None = None
    entry_point: str | None = None
    file: str = ""

    @classmethod
    def of(
        cls,
        service: Service,
        spec: Prebuilt,
        policy: Policy,
        demanded: tuple[Claim, ...],
        *,
        repository: str,
        commit: str,
        digests: tuple[str, ...] = (),
    ) -> Self:
        """Return what the pipeline of a service has to say of an artifact.

        :param demanded: the claims that the policy in force demands.
        """
        return cls(
            digests=digests,
            repository=repository,
            commit=commit,
            signers=policy.prebuilt.signers,
            demanded=demanded,
            workflow=spec.workflow,
            entry_point=spec.entry_point,
            file=f"services/{service.name}.yaml",
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of it.

    :param provenance: the statement that was judged; none: there is none.
    :param bound: SHA-256 of the files that it names as left by the build.
    """

    claims: tuple[VerifiedClaim, ...]
    provenance: Signed | None = None
    bound: frozenset[str] = field(default_factory=frozenset)


def judge(statements: Sequence[Signed], expected: Expected, faults: Sequence[str] = ()) -> Judged:
    """Judge the provenance of an artifact; of several, the one of which most holds.

    :param statements: whose signatures were verified.
    :param faults: why others do not count, for people.
    """
    known = [one for one in statements if one.kind == PROVENANCE]
    about = [one for one in known if one.is_about(expected.digests)]
    if not about:
        others = [f"the provenance that {one.signer} signed is about another artifact" for one in known]
        return Judged((*_missing(expected, [*faults, *others]),))
    judged = [tuple(_claims(one, expected)) for one in about]
    best = min(range(len(about)), key=lambda index: sum(not claim.holds for claim in judged[index]))
    return Judged(judged[best], about[best], frozenset(_byproducts(about[best].predicate)))


def named_artifacts(
    statements: Sequence[Signed], expected: Expected, faults: Sequence[str] = ()
) -> tuple[frozenset[str], tuple[VerifiedClaim, ...]]:
    """Return the digests of the artifacts that provenance names of which everything holds.

    :param expected: without digests.
    :return: and of what holds nothing, the claims that do not hold.
    """
    named: set[str] = set()
    wrong: list[VerifiedClaim] = []
    for one in statements:
        for digest in one.digests if one.kind == PROVENANCE else ():
            judged = judge([one], replace(expected, digests=(digest,)))
            faulty = [claim for claim in judged.claims if not claim.holds]
            wrong += faulty
            named |= set() if faulty else {digest}
    if not named and not wrong:
        wrong.append(
            VerifiedClaim(
                claim="provenance",
                expected=f"SLSA provenance v1 about one artifact, signed by {_one_of(expected.signers)}",
                found="; ".join(faults[:_MOST_NAMED]) or NOTHING,
                holds=False,
            )
        )
    return frozenset(named), tuple(wrong)


def file_claim(claim: Claim, name: str, sha256: str | None, judged: Judged) -> VerifiedClaim:
    """Judge whether a file that the pipeline left belongs to the artifact.

    :param name: what people call it.
    :param sha256: of its bytes; none: there is no such file.
    """
    found = f"no file at {name}" if sha256 is None else f"{name}, sha256:{sha256}"
    holds = sha256 is not None and sha256 in judged.bound
    return VerifiedClaim(
        claim=claim,
        expected=f"{name} as a byproduct in the verified provenance, by its SHA-256",
        found=found if holds or sha256 is None else f"{found}, which the provenance does not name",
        holds=holds,
    )


def test_rows(statements: Sequence[Signed], digests: Iterable[str], kind: str) -> tuple[TestRow, ...]:
    """Return the tests that signed test results name: in-toto's predicate, version 0.1."""
    rows: list[TestRow] = []
    for one in statements:
        if one.kind == TEST_RESULT and one.is_about(digests):
            rows.extend(_rows_of(one.predicate, f"test result of {one.signer}", kind))
    return tuple(rows)


def _rows_of(predicate: Mapping[str, Any], suite: str, kind: str) -> Iterator[TestRow]:
    passed, failed = _texts(predicate.get("passedTests")), _texts(predicate.get("failedTests"))
    for name in (*passed, *_texts(predicate.get("warnedTests"))):
        yield TestRow(suite=suite, classname="", name=name, status="passed", seconds=0, kind=kind)
    for name in failed:
        yield TestRow(suite=suite, classname="", name=name, status="failed", seconds=0, message="failed", kind=kind)
    if predicate.get("result") not in ("PASSED", "WARNED") and not failed:
        said = str(predicate.get("result", NOTHING))[:50]
        yield TestRow(suite=suite, classname="", name="result", status="failed", seconds=0, message=said, kind=kind)


def _missing(expected: Expected, faults: Sequence[str]) -> Iterator[VerifiedClaim]:
    wanted = f"SLSA provenance v1 about sha256:{expected.digests[0]}, signed by {_one_of(expected.signers)}"
    demanded = [claim for claim in expected.demanded if claim not in ("tests", "coverage", "bom")]
    if demanded or faults:
        more = f"; and so no proof of {', '.join(sorted(set(demanded) - {'provenance'}))}" if len(demanded) > 1 else ""
        found = "; ".join(faults[:_MOST_NAMED]) or NOTHING
        yield VerifiedClaim(claim="provenance", expected=wanted, found=found + more, holds=False)


def _claims(one: Signed, expected: Expected) -> Iterator[VerifiedClaim]:
    definition, details = (_mapping(one.predicate.get(key)) for key in ("buildDefinition", "runDetails"))
    parameters = _mapping(definition.get("externalParameters"))
    subject = f"SLSA provenance v1 about sha256:{expected.digests[0]}"
    yield VerifiedClaim(
        claim="provenance",
        expected=f"{subject}, signed by {_one_of(expected.signers)}",
        found=f"signed by {one.signer}",
        holds=True,
    )
    builder = _text(_mapping(details.get("builder")).get("id"))
    yield _claim("builder", _one_of(one.builders), [builder], expected, holds=builder in one.builders)
    yield from _source_and_commit(one, parameters, definition, expected)
    workflow = parameters.get("workflow")
    path = _text(workflow.get("path")) if isinstance(workflow, Mapping) else _text(workflow)
    named = [path, *([certified] if (certified := _workflow_in(one)) else [])]
    yield from _named("workflow", expected.workflow, named, expected)
    entry = _text(parameters.get("entryPoint")) or _text(parameters.get("entry_point"))
    yield from _named("entry_point", expected.entry_point, [entry] if entry else [], expected)


def _source_and_commit(
    one: Signed, parameters: Mapping[str, Any], definition: Mapping[str, Any], expected: Expected
) -> Iterator[VerifiedClaim]:
    """Judge which commit of which repository was built: as asked for, as fetched, and as a certificate says."""
    place = place_of(expected.repository)
    fetched = [*_git_dependencies(definition)]
    asked = [text for text in (*_sources_in(parameters), one.source) if text]
    sources = [*asked, *(uri for uri, _ in fetched if not asked or place_of(uri) == place)]
    same = bool(sources) and all(place_of(uri) == place for uri in sources)
    yield _claim("source", expected.repository, sources, expected, holds=same)
    commits = [commit for uri, commit in fetched if place_of(uri) == place]
    said = [*commits, *([one.commit] if one.commit else [])]
    right = bool(commits) and all(commit == expected.commit for commit in said)
    yield _claim("commit", expected.commit, said, expected, holds=right)


def _claim(claim: Claim, wanted: str, found: Sequence[str], expected: Expected, *, holds: bool) -> VerifiedClaim:
    stated = [text for text in dict.fromkeys(found) if text]
    if not stated and claim not in expected.demanded:
        holds, wanted = True, f"{wanted}, or nothing, because the policy does not demand it"
    return VerifiedClaim(
        claim=claim, expected=wanted, found=", ".join(stated[:_MOST_NAMED])[:1000] or NOTHING, holds=holds
    )


def _named(claim: Claim, wanted: str | None, found: Sequence[str], expected: Expected) -> Iterator[VerifiedClaim]:
    """Judge what the service's own file has to name."""
    if wanted is not None:
        holds = bool(found) and all(text == wanted for text in found)
        said = ", ".join(text or NOTHING for text in found)[:1000]
        yield VerifiedClaim(claim=claim, expected=wanted, found=said or NOTHING, holds=holds)
    elif claim in expected.demanded:
        said = f"build.{claim} in {expected.file}, because the policy demands this claim"
        yield VerifiedClaim(claim=claim, expected=said, found=NOTHING, holds=False)


def _workflow_in(one: Signed) -> str:
    """Return the workflow's path that a certificate names: ``https://host/owner/name/<path>@<ref>``."""
    if not one.workflow:
        return ""
    before = f"{one.source.rstrip('/')}/"
    text = one.workflow.rpartition("@")[0] or one.workflow
    return text.removeprefix(before) if one.source and text.startswith(before) else text


def _sources_in(parameters: Mapping[str, Any]) -> Iterator[str]:
    """Yield the repository that a build was asked to build, as often as its parameters name it."""
    source = parameters.get("source")
    if isinstance(source, Mapping):
        yield _text(source.get("repository"))
        yield _text(source.get("uri"))
    else:
        yield _text(source)
    yield _text(_mapping(parameters.get("workflow")).get("repository"))


def _git_dependencies(definition: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the repositories that a build fetched, with the commits."""
    resolved = definition.get("resolvedDependencies")
    for one in resolved if isinstance(resolved, list) else ():
        digest, uri = _mapping(_mapping(one).get("digest")), _text(_mapping(one).get("uri"))
        commit = _text(digest.get("gitCommit")) or (_text(digest.get("sha1")) if uri.startswith("git") else "")
        if commit:
            yield uri, commit


def _byproducts(predicate: Mapping[str, Any]) -> Iterator[str]:
    left = _mapping(predicate.get("runDetails")).get("byproducts")
    for one in left if isinstance(left, list) else ():
        if digest := _text(_mapping(_mapping(one).get("digest")).get("sha256")):
            yield digest


def _one_of(names: Sequence[str]) -> str:
    return " or ".join(names) or "a key or identity that prebuilt of policy.yaml names, and it names none"


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    """Return a text; of what is something else, a text that nothing equals, because it was stated and means nothing."""
    return value if isinstance(value, str) else "" if value is None else f"no text: {value!r}"[:200]


def _texts(value: object) -> tuple[str, ...]:
    return tuple(_text(one)[:300] or NOTHING for one in value) if isinstance(value, list) else ()
