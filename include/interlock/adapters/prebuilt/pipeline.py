"""What a pipeline left of one artifact: the bytes, what it signed, and its reports, held against what is expected."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from interlock.adapters.quality.reports import junit_rows
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import Claim, Prebuilt, PrebuiltRules
from interlock.domain.errors import AssetMissing
from interlock.domain.prebuilt import claims
from interlock.domain.prebuilt.claims import Expected, Judged, Signed
from interlock.domain.quality.rows import UNIT, TestRow
from interlock.domain.records import VerifiedClaim

from . import archives
from ._sigstore import pinned_root
from .places import MAX_FILE_BYTES, Fetched, Place, Wanted
from .statements import read_statements

_INSTEAD: Mapping[Claim, str] = {
    "tests": "JUnit reports (build.junit), or a signed test result of in-toto about the artifact",
    "coverage": "a coverage report (build.coverage)",
    "bom": "a CycloneDX file (build.bom), or a signed one about the artifact",
}


@dataclass(frozen=True, slots=True)
class Taken:
    """An artifact with what its pipeline says.

    :param contents: folder of what the bundle is packed from.
    :param statements: the files with what the pipeline signed, as they came.
    :param faults: why statements do not count.
    :param coverage: the report; none: there is none. So is ``bom``.
    """

    fetched: Fetched
    contents: Path
    statements: tuple[bytes, ...]
    signed: tuple[Signed, ...]
    faults: tuple[str, ...]
    claims: tuple[VerifiedClaim, ...]
    tests: tuple[TestRow, ...]
    coverage: Path | None
    bom: Path | None


def take(
    spec: Prebuilt,
    place: Place,
    wanted: Wanted,
    expected: Expected,
    rules: PrebuiltRules,
    *,
    catalogue: Path,
    folder: Path,
) -> Taken:
    """Fetch an artifact by its digest, lay it out, and verify what its pipeline says of it.

    What does not hold comes back as a claim, for quality review to judge. Bytes with another digest, and archives that
    cannot be unpacked safely, are refused at once.

    :param expected: what the pipeline has to say; its digests are those by which the artifact turns out to be known.
    :param catalogue: its folder, with the pinned root of Sigstore.
    :param folder: an existing one for everything that is written.
    """
    fetched = place.fetch(spec.artifact, wanted, folder)
    archives.lay_out(fetched, spec, folder / "contents")
    statements, signed, faults = _read_all(map(wanted.filled, spec.statements), place, rules, catalogue)
    judged = claims.judge(signed, replace(expected, digests=fetched.digests), faults)
    files = _Files(place, wanted, judged, folder / "files")
    tests = junit_rows(files.all("tests", spec.junit), UNIT) if spec.junit else ()
    told = claims.test_rows(signed, fetched.digests, UNIT)
    coverage = files.one("coverage", spec.coverage)
    bill = _signed_bom(signed, fetched, folder) or files.one("bom", spec.bom)
    there = {"tests": bool(spec.junit or told), "coverage": bool(spec.coverage), "bom": bool(spec.bom or bill)}
    return Taken(
        fetched=fetched,
        contents=folder / "contents",
        statements=statements,
        signed=signed,
        faults=faults,
        claims=(*judged.claims, *files.claims, *_lacking(expected, there)),
        tests=(*tests, *told),
        coverage=coverage,
        bom=bill,
    )


def announced(
    spec: Prebuilt, place: Place, expected: Expected, version: str, rules: PrebuiltRules, *, catalogue: Path
) -> str:
    """Return the digest of a version's artifact, by what its pipeline signed: nobody has requested it yet.

    :param expected: what the pipeline has to say, of an artifact whose digests are not known.
    :param catalogue: its folder, with the pinned root of Sigstore.
    :raises AssetMissing: no provenance holds, or it is about several artifacts.
    """
    wanted = Wanted(version, expected.commit, "", 0)
    names = [wanted.filled(one) for one in spec.statements if "{artifact}" not in one]
    _, signed, faults = _read_all(names, place, rules, catalogue)
    digests, wrong = claims.named_artifacts(signed, expected, faults)
    if len(digests) == 1:
        return next(iter(digests))
    said = "; ".join(f"{one.claim}: expected {one.expected}; found {one.found}" for one in wrong)
    raise AssetMissing(
        f"Which artifact is version {version}, no signed provenance says: {said}."
        if not digests
        else f"Signed provenance names several artifacts of version {version}: {', '.join(sorted(digests))}.",
        rule=f"without a request that names the digest, the provenance in statements of {expected.file} names it",
        who="the service's team",
        next_step="publish signed provenance about one artifact at a path without {artifact}",
    )


def _read_all(
    names: Iterable[str], place: Place, rules: PrebuiltRules, catalogue: Path
) -> tuple[tuple[bytes, ...], tuple[Signed, ...], tuple[str, ...]]:
    """Return files of statements as they came, what pinned signers signed, and why the rest does not count."""
    root = pinned_root(rules, catalogue)
    raw = {name: place.read(name, MAX_FILE_BYTES) for name in names}
    found = {name: data for name, data in raw.items() if data is not None}
    read = [read_statements(data, name, rules, root) for name, data in found.items()]
    lost = (f"no statement at {name}" for name in raw if name not in found)
    faults = (*lost, *(fault for each in read for fault in each.faults))
    return tuple(found.values()), tuple(one for each in read for one in each.signed), faults


class _Files:
    """The reports beside the artifact: read into a folder, each with a claim that it belongs to the artifact."""

    def __init__(self, place: Place, wanted: Wanted, judged: Judged, folder: Path) -> None:
        self._place, self._wanted, self._judged, self._folder = place, wanted, judged, folder
        self.claims: list[VerifiedClaim] = []
        folder.mkdir()

    def all(self, claim: Claim, templates: tuple[str, ...]) -> list[Path]:
        """Read files; return those that there are."""
        return [path for one in templates if (path := self.one(claim, one)) is not None]

    def one(self, claim: Claim, template: str | None) -> Path | None:
        """Read a file; None: none is named, or there is none."""
        if template is None:
            return None
        name = self._wanted.filled(template)
        data = self._place.read(name, MAX_FILE_BYTES)
        self.claims.append(claims.file_claim(claim, name, None if data is None else sha256_of(data), self._judged))
        if data is None:
            return None
        path = self._folder / f"{len(self.claims)}-{name.rpartition('/')[2]}"
        path.write_bytes(data)
        return path


def _signed_bom(signed: tuple[Signed, ...], fetched: Fetched, folder: Path) -> Path | None:
    """Write the bill of materials that a signed statement about the artifact is."""
    found = [one for one in signed if one.kind.startswith(claims.BOM) and one.is_about(fetched.digests)]
    if not found:
        return None
    path = folder / "signed-bom.json"
    path.write_text(json.dumps(found[0].predicate), encoding="utf-8")
    return path


def _lacking(expected: Expected, there: Mapping[str, bool]) -> Iterator[VerifiedClaim]:
    """Yield demanded claims of which the service's file names nothing."""
    for claim, instead in _INSTEAD.items():
        if claim in expected.demanded and not there[claim]:
            yield VerifiedClaim(claim=claim, expected=instead, found=claims.NOTHING, holds=False)
