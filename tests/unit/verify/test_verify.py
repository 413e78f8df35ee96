from __future__ import annotations

import ast
import base64
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from interlock.adapters.evidence import attestation
from interlock.domain.canonical import canonical_bytes, sha256_of
from interlock.domain.ledger.chain import next_entry
from interlock.domain.records import CanaryPlan, Strategy, Waiver
from interlock.verify import __main__ as verifier
from tests.examples import examples
from tests.factories import evidence as make
from tests.factories import releases

ROOT = Path(__file__).parents[3]
FILE = ROOT / "include" / "interlock" / "verify" / "__main__.py"
OVERTAKEN = ("release.overtaken", releases.OVERTAKING.model_dump(mode="json"))
FEW = examples(40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@cache
def good() -> bytes:
    """A pack that proves a release."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return make.packed(Path(folder) / "pack.zip")


KEY = verifier.read_pem(make.signer().public_key, "key")


def found(data: bytes, *keys: bytes, fingerprints: Sequence[str] = ()) -> tuple[bool, str]:
    """Verify a pack: whether nothing speaks against it, and what was said."""
    said: list[str] = []
    return verifier.verify(data, list(keys), said.append, fingerprints), "\n".join(said)


def changed(tmp_path: Path, change: make.Change, **more: Any) -> tuple[bool, str]:
    """Verify the pack of a release that an installation recorded, sealed and signed otherwise."""
    return found(make.packed(tmp_path / "pack.zip", make.evidence(change, **more)))


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(files: Sequence[tuple[str, bytes]]) -> bytes:
    """Write an archive just as Interlock writes it, with other files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path, content in files:
            info = zipfile.ZipInfo(path)
            info.create_system, info.external_attr = 3, 0o100644 << 16
            archive.writestr(info, content)
    return file.getvalue()


def payload_of(many: list[make.Step], kind: str) -> dict[str, Any]:
    return next(payload for found_kind, payload in many if found_kind == kind)


def with_payload(kind: str, **fields: Any) -> make.Change:
    """Change fields of the first entry of a kind."""

    def change(many: list[make.Step]) -> list[make.Step]:
        payload_of(many, kind).update(fields)
        return many

    return change


def without(*kinds: str) -> make.Change:
    return lambda many: [(kind, payload) for kind, payload in many if kind not in kinds]


def again(step: make.Step) -> list[make.Step]:
    """Return another permit for the same."""
    return make.issued_and_used({**step[1]["permit"], "id": "a" * 32}, make.signer())


def with_votes(*votes: dict[str, Any]) -> make.Change:
    return with_payload("board.decided", votes=list(votes))


# --- what is good ----------------------------------------------------------------------------------------------------


def test_a_pack_is_proven_and_every_check_says_what_it_found() -> None:
    proven, said = found(good(), KEY)
    assert proven, said
    assert said.endswith("\nPROVEN.")
    assert "WARNING" not in said
    assert "Change Advisory Board, 2 of 2 approvals (ben Approve, dan Approve): approved" in said
    assert "2 issued, 2 used" in said
    assert "closed as deployed; 3 hosts" in said


def test_without_a_key_nothing_is_proven_and_the_fingerprint_to_compare_is_shown() -> None:
    holds, said = found(good())
    assert holds
    last = said.splitlines()[-1]
    assert last.startswith(f"CONSISTENT, and signed by a key that nobody vouches for: SHA-256 {verifier.sha256(KEY)}.")
    assert "PROVEN" not in said
    assert "WARNING: no --key and no --fingerprint was given" in said


def test_a_fingerprint_vouches_for_the_key_that_the_pack_brings() -> None:
    holds, said = found(good(), fingerprints=[verifier.sha256(KEY)])
    assert holds
    assert said.endswith("\nPROVEN.")
    assert f"given: SHA-256 {verifier.sha256(KEY)}" in said


def test_another_fingerprint_than_the_pack_s_proves_nothing() -> None:
    holds, said = found(good(), fingerprints=["9" * 64])
    assert not holds
    assert "keys/: expected a key with a fingerprint that was given, found none" in said
    assert "which is not trusted" in said


def test_a_pack_signed_by_another_installation_is_refused() -> None:
    proven, said = found(good(), verifier.read_pem(make.signer(8).public_key, "key"))
    assert not proven
    assert "which is not trusted" in said


def test_a_forger_with_a_key_of_their_own_passes_only_without_a_known_key(tmp_path: Path) -> None:
    forger = make.signer(9)
    data = make.packed(tmp_path / "forged.zip", make.evidence(by=forger), by=forger)
    assert found(data)[0]
    assert "PROVEN" not in found(data)[1]
    assert not found(data, KEY)[0]
    assert not found(data, fingerprints=[verifier.sha256(KEY)])[0]


def test_a_rejected_release_is_proven_too(tmp_path: Path) -> None:
    def rejected(many: list[make.Step]) -> list[make.Step]:
        payload_of(many, "board.decided").update(approved=False, votes=[make.vote("ben"), make.vote("cora", "Reject")])
        payload_of(many, "release.closed").update(outcome="rejected")
        return without("permit.issued", "permit.used", "wave.deployed", "verification.judged")(many)

    proven, said = changed(tmp_path, rejected)
    assert proven, said
    assert "veto of cora (ben Approve, cora Reject): not approved" in said


def test_an_overtaken_release_is_proven_too(tmp_path: Path) -> None:
    def change(many: list[make.Step]) -> list[make.Step]:
        payload_of(many, "release.closed").update(outcome="overtaken")
        left = without("permit.issued", "permit.used", "wave.deployed", "verification.judged")(many)
        return [*left[:-1], OVERTAKEN, left[-1]]

    proven, report = changed(tmp_path, change)
    assert proven, report
    assert "closed as overtaken" in report


def test_findings_and_waivers_are_told(tmp_path: Path) -> None:
    def waived(many: list[make.Step]) -> list[make.Step]:
        return [*many[:8], ("finding", {"what": "host 1 ran something else"}), *many[8:]]

    proven, said = changed(tmp_path, waived)
    assert proven, said
    assert "entry 9 (finding): host 1 ran something else" in said


# --- any change at all -----------------------------------------------------------------------------------------------


@FEW
@given(st.data())
def test_a_flipped_byte_of_any_file_is_refused_and_the_file_named(data: st.DataObject) -> None:
    files = members(good())
    path = data.draw(st.sampled_from(sorted(files)))
    place = data.draw(st.integers(0, len(files[path]) - 1))
    content = bytearray(files[path])
    content[place] ^= data.draw(st.integers(1, 255))
    proven, said = found(zipped([*{**files, path: bytes(content)}.items()]))
    assert not proven
    assert path in said


@FEW
@given(place=st.integers(0, len(good()) - 1), by=st.integers(1, 255))
def test_a_flipped_byte_anywhere_in_the_archive_is_refused(place: int, by: int) -> None:
    data = bytearray(good())
    data[place] ^= by
    assert not found(bytes(data))[0]


def test_the_same_signature_written_otherwise_is_refused() -> None:
    """Base64 has spare bits before its padding, and only the seal is covered by nothing else."""
    files = members(good())
    seal = json.loads(files["manifest.dsse.json"])
    text = seal["signatures"][0]["sig"]
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = text[:-3] + digits[digits.index(text[-3]) ^ 1] + "=="
    assert base64.b64decode(other) == base64.b64decode(text)
    seal["signatures"][0]["sig"] = other
    proven, said = found(zipped([*{**files, "manifest.dsse.json": canonical_bytes(seal)}.items()]))
    assert not proven
    assert "manifest.dsse.json: expected base64 in its one form" in said


def test_a_key_that_is_no_point_of_the_curve_is_named() -> None:
    files = members(good())
    path = next(path for path in files if path.startswith("keys/"))
    der = bytes.fromhex("302a300506032b6570032100") + (2).to_bytes(32, "little")
    lines = [b"-----BEGIN PUBLIC KEY-----", base64.b64encode(der), b"-----END PUBLIC KEY-----", b""]
    assert f"{path}: is no point of the curve" in found(zipped([*{**files, path: b"\n".join(lines)}.items()]))[1]


def test_no_byte_of_the_archive_s_own_can_be_flipped() -> None:
    """Headers and directory, byte for byte: no file's digest covers them."""
    data = good()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        heads = [range(info.header_offset, info.header_offset + 30) for info in archive.infolist()]
        directory = range(archive.start_dir, len(data))
    small = verifier.Pack()
    verifier.check_archive(small, data)
    assert not small.findings
    for place in (place for span in (*heads, directory) for place in span):
        flipped = bytearray(data)
        flipped[place] ^= 1
        pack = verifier.Pack()
        try:
            verifier.check_archive(pack, bytes(flipped))
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error):
            continue
        assert pack.findings, f"byte {place}"


@pytest.mark.parametrize("path", sorted(members(good())))
def test_a_missing_file_is_named(path: str) -> None:
    proven, said = found(zipped([(name, content) for name, content in members(good()).items() if name != path]))
    assert not proven
    assert f"{path}: is missing" in said


@pytest.mark.parametrize("path", ["zzz.txt", "logs/build.build_artifact/2.log", "attestations/more.dsse.json"])
def test_an_added_file_is_named(path: str) -> None:
    proven, said = found(zipped([*members(good()).items(), (path, b"{}")]))
    assert not proven
    assert f"{path}: was added" in said


@pytest.mark.parametrize(
    "path", ["../outside", "/etc/passwd", "a/../../b", "a\\b", "C:evil", "logs/./x", "ü.txt", "a//b"]
)
def test_a_path_out_of_the_pack_is_named(path: str) -> None:
    proven, said = found(zipped([*members(good()).items(), (path, b"{}")]))
    assert not proven
    assert "is no path inside the pack" in said


def test_a_file_that_stands_twice_is_named() -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        data = zipped([*members(good()).items(), ("plan.json", b"{}")])
    proven, said = found(data)
    assert not proven
    assert "plan.json: stands in the archive twice" in said


@FEW
@given(st.data())
def test_swapped_files_are_named(data: st.DataObject) -> None:
    files = list(members(good()).items())
    one, other = data.draw(st.lists(st.integers(0, len(files) - 1), min_size=2, max_size=2, unique=True))
    files[one], files[other] = files[other], files[one]
    proven, said = found(zipped(files))
    assert not proven
    assert f"{files[one][0]}: is out of order" in said
    assert f"{files[other][0]}: is out of order" in said


@pytest.mark.parametrize("more", [b"x", b"PK\5\6" + bytes(18)])
def test_what_stands_before_or_behind_the_archive_is_refused(more: bytes) -> None:
    assert not found(good() + more)[0]
    assert not found(more + good())[0]


def test_a_pack_that_another_tool_compressed_is_refused() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in members(good()).items():
            archive.writestr(path, content)
    assert not found(file.getvalue())[0]


@pytest.mark.parametrize("data", [b"", b"PK", b"no zip at all", zipped([])])
def test_what_is_no_pack_is_refused(data: bytes) -> None:
    assert not found(data)[0]


# --- the chain -------------------------------------------------------------------------------------------------------


def resealed(files: dict[str, bytes], **replaced: bytes) -> bytes:
    """Sign the manifest of other files anew, as somebody with the key could."""
    by = make.signer()
    rest = {path: content for path, content in files.items() if not path.startswith("manifest.")}
    rest |= {name.replace("_", "."): content for name, content in replaced.items()}
    listed = [{"path": path, "sha256": sha256_of(text), "size": len(text)} for path, text in sorted(rest.items())]
    manifest = canonical_bytes({**json.loads(files["manifest.json"]), "files": listed})
    seal = canonical_bytes(by.sign(manifest, "application/vnd.interlock.manifest+json"))
    return zipped([("manifest.json", manifest), ("manifest.dsse.json", seal), *sorted(rest.items())])


def test_the_files_of_a_pack_can_be_sealed_anew() -> None:
    assert resealed(members(good())) == good(), "else the tests below prove nothing"


@FEW
@given(st.data())
def test_swapped_lines_of_the_chain_are_named_even_if_the_manifest_is_signed_anew(data: st.DataObject) -> None:
    files = members(good())
    lines = files["chain.jsonl"].splitlines(keepends=True)
    one, other = sorted(data.draw(st.lists(st.integers(0, len(lines) - 1), min_size=2, max_size=2, unique=True)))
    lines[one], lines[other] = lines[other], lines[one]
    proven, said = found(resealed(files, chain_jsonl=b"".join(lines)))
    assert not proven
    assert f"chain.jsonl, line {one + 1} (entry {other + 1}, " in said
    assert f"expected sequence {one + 1}, found {other + 1}" in said


@FEW
@given(st.data())
def test_a_dropped_entry_is_named_even_if_the_manifest_is_signed_anew(data: st.DataObject) -> None:
    files = members(good())
    lines = files["chain.jsonl"].splitlines(keepends=True)
    gone = data.draw(st.integers(0, len(lines) - 1))
    proven, said = found(resealed(files, chain_jsonl=b"".join(lines[:gone] + lines[gone + 1 :])))
    assert not proven
    where = f"chain.jsonl, line {gone + 1} " if gone < len(lines) - 1 else f"seals entry {gone + 1}"
    assert where in said


def test_a_changed_entry_is_named_even_if_its_hash_is_made_anew() -> None:
    files = members(good())
    entries = [json.loads(line) for line in files["chain.jsonl"].splitlines()]
    entries[8]["payload"]["votes"][0]["user"] = "dora"
    entries[8]["hash"] = sha256_of({key: value for key, value in entries[8].items() if key != "hash"})
    text = b"".join(canonical_bytes(entry) + b"\n" for entry in entries)
    proven, said = found(resealed(files, chain_jsonl=text))
    assert not proven
    assert "line 10 (entry 10, permit.issued): expected previous" in said
    assert "heads.jsonl, line 1, which seals entry 9: expected hash" in said


def test_a_whole_chain_made_anew_fails_at_the_signed_heads() -> None:
    files = members(good())
    other = make.chained(
        [*((e["kind"], e["payload"]) for e in map(json.loads, files["chain.jsonl"].splitlines()))][:-1]
    )
    text = b"".join(canonical_bytes(entry) + b"\n" for entry in other)
    assert "which seals entry 17: expected chain" in found(resealed(files, chain_jsonl=text))[1]


def test_entries_that_are_not_sealed_are_named(tmp_path: Path) -> None:
    what = make.evidence()
    proven, said = found(make.packed(tmp_path / "pack.zip", make.sealed_anew(what, heads=what.heads[:1])))
    assert not proven
    assert "entry 10 (permit.issued): is not sealed yet" in said
    assert "entry 17 (release.closed): is not sealed yet: expected a signed head, the last is of entry 9" in said


def test_a_signature_over_something_else_is_no_head(tmp_path: Path) -> None:
    what = make.evidence()
    last = what.heads[-1]
    other = make.signer().sign(base64.b64decode(last.envelope["payload"]), "application/vnd.interlock.permit+json")
    more = make.sealed_anew(what, heads=[last.model_copy(update={"envelope": other})])
    said = found(make.packed(tmp_path / "pack.zip", more))[1]
    assert "heads.jsonl, line 1: expected payloadType application/vnd.interlock.chain-head+json" in said


def test_an_entry_with_a_field_more_is_no_entry() -> None:
    files = members(good())
    entries = [json.loads(line) for line in files["chain.jsonl"].splitlines()]
    text = b"".join(canonical_bytes({**entry, "note": "x"}) + b"\n" for entry in entries)
    assert "chain.jsonl, line 1: is no entry: expected the fields" in found(resealed(files, chain_jsonl=text))[1]


def test_what_is_recorded_a_second_time_is_named(tmp_path: Path) -> None:
    what = make.evidence()
    last = what.entries[-1]
    fields: dict[str, Any] = {"chain": make.CHAIN, "at": last.at, "actor": "ada", "kind": "finding", "payload": {}}
    again = next_entry(last, key=what.entries[4].key, **fields)
    more = make.sealed_anew(what, entries=[*what.entries, again], heads=[make.head(again, make.signer())])
    proven, said = found(make.packed(tmp_path / "pack.zip", more))
    assert not proven
    assert "line 18 (entry 18, finding): records artifact.built/4 a second time" in said


def test_a_head_by_another_key_is_refused(tmp_path: Path) -> None:
    what = make.evidence()
    forged = [*what.heads, make.head(what.entries[-1], make.signer(9))]
    proven, said = found(make.packed(tmp_path / "pack.zip", make.sealed_anew(what, heads=forged)))
    assert not proven
    assert "heads.jsonl, line 3: is signed with a key that is not in keys/" in said


@pytest.mark.parametrize(
    ("kind", "proven"), [("finding", False), ("clock.corrected", True)], ids=["backwards", "corrected"]
)
def test_time_goes_backwards_only_when_the_clock_is_corrected(tmp_path: Path, kind: str, proven: bool) -> None:
    what = make.evidence()
    last = what.entries[-1]
    fields: dict[str, Any] = {"chain": make.CHAIN, "actor": "ada", "key": "late", "payload": {"reason": "clock"}}
    early = next_entry(last, at=make.AT, kind="clock.corrected", **fields)
    early = early.model_copy(update={"kind": kind})
    early = early.model_copy(update={"hash": sha256_of(early.model_dump(mode="json", exclude={"hash"}))})
    more = make.sealed_anew(what, entries=[*what.entries, early], heads=[make.head(early, make.signer())])
    found_proven, said = found(make.packed(tmp_path / "pack.zip", more))
    assert found_proven is proven, said
    assert proven or "line 18 (entry 18, finding): expected a time not before" in said


# --- what the release claims: signed by the installation itself, and yet not so --------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(with_votes(make.vote("ben")), "1 of 2 approvals", id="too few"),
        pytest.param(with_votes(make.vote("ben"), make.vote("ben", minutes=6)), "1 of 2 approvals", id="twice"),
        pytest.param(with_votes(make.vote("ben"), make.vote("rita")), "1 of 2 approvals", id="requester"),
        pytest.param(with_votes(make.vote("ben"), make.vote("eve")), "1 of 2 approvals", id="stranger"),
        pytest.param(with_votes(make.vote("dan"), make.vote("ben", assigned="cora")), "1 of 2", id="another's ballot"),
        pytest.param(with_votes(make.vote("ben"), make.vote("dan", minutes=9999)), "1 of 2", id="too late"),
        pytest.param(
            with_votes(make.vote("ben"), make.vote("dan"), make.vote("cora", "Reject")), "veto of cora", id="veto"
        ),
        pytest.param(
            with_votes(make.vote("ben"), make.vote("dan"), make.vote("dan", "Reject", minutes=5.1)),
            "1 of 2 approvals",
            id="the most careful answer",
        ),
        pytest.param(with_payload("board.decided", approved=False), "records approved=False", id="made a rejection"),
        pytest.param(with_payload("board.decided", digest="9" * 64), "expected digest", id="another plan"),
        pytest.param(
            with_payload(
                "board.decided",
                votes=[make.vote("eve")],
                board={**make.BOARD, "demands": [{**make.BOARD["demands"][0], "approvals": 0}]},
            ),
            "0 of 0 approvals (nobody voted): not approved",
            id="a rule that asks for nothing",
        ),
        pytest.param(
            lambda many: [*many[:15], many[14], *many[15:]],
            "entry 16 (wave.deployed), host 127.20.0.12: expected a permit to deploy used before",
            id="once more under a permit that was used",
        ),
        pytest.param(with_payload("board.decided", required=False), "which the policy asks", id="nobody asked"),
        pytest.param(without("board.decided"), "expected plan no plan", id="no decision"),
        pytest.param(
            with_payload("acceptance.decided", votes=[make.vote("rita")]), "somebody else than rita", id="own release"
        ),
        pytest.param(without("permit.issued"), "expected a permit issued before", id="permit never issued"),
        pytest.param(without("permit.used"), "expected a permit to deploy used before", id="permit not used"),
        pytest.param(lambda many: [*many, many[10]], "was used before", id="permit used twice"),
        pytest.param(lambda many: [*many[:11], many[9], *many[11:]], "expected a new permit", id="permit issued twice"),
        pytest.param(
            lambda many: [*many[:10], many[11], many[10], *many[12:]],
            "a permit to deploy used before",
            id="used afterwards",
        ),
        pytest.param(
            lambda many: [*many, *[("note", {})] * 12, many[13]], "expected its use until", id="permit run out"
        ),
        pytest.param(with_payload("wave.deployed", number=2), "a permit to deploy", id="another wave's permit"),
        pytest.param(with_payload("wave.deployed", digest="9" * 64), "expected digest aaaa", id="another artifact"),
        pytest.param(
            with_payload("wave.deployed", release="1.1.0-999999999999"), "expected release", id="other release"
        ),
        pytest.param(
            with_payload("wave.deployed", results=[releases.host_result(1, after="1.0.0-0123456789ab").model_dump()]),
            "expected after 1.1.0-aaaaaaaaaaaa, found 1.0.0",
            id="host runs another",
        ),
        pytest.param(
            with_payload("wave.deployed", results=[releases.host_result(3).model_dump()]),
            "127.20.0.13: expected a permit to deploy",
            id="host not permitted",
        ),
        pytest.param(with_payload("rollout.frozen", summary="Another"), "is another plan than plan.json", id="plan"),
        pytest.param(with_payload("rollout.frozen", digest="9" * 64), "plan.json: expected SHA-256 9999", id="digest"),
        pytest.param(with_payload("policy.resolved", digest="9" * 64), "expected the policy_digest", id="policy"),
        pytest.param(with_payload("quality.judged", success=False), "expected the quality_digest", id="quality report"),
        pytest.param(
            with_payload("artifact.built", bundle=releases.blob(digit="9").model_dump()),
            "plan.json, bundle: expected sha256 9999",
            id="another bundle",
        ),
        pytest.param(
            with_payload("artifact.built", provenance=releases.blob(digit="9").model_dump()),
            "expected the provenance 9999",
            id="another provenance",
        ),
        pytest.param(
            with_payload("release.requested", requested_by="ben"), "expected requested_by ben", id="requester"
        ),
        pytest.param(with_payload("run.asked", user="ben"), "expected user rita, found ben", id="who asked"),
        pytest.param(lambda many: many[1:], "expected user rita, found nothing", id="nobody asked"),
        pytest.param(
            lambda many: [*many[:5], *many[6:8], many[5], *many[8:]],
            "expected the quality_digest",
            id="judged afterwards",
        ),
        pytest.param(with_payload("release.closed", outcome="rehearsed"), "expected outcome deployed", id="rehearsed"),
        pytest.param(without("wave.deployed"), "expected a wave that brought", id="nothing deployed"),
        pytest.param(
            without("verification.judged"),
            "verification.judged: expected success True, found nothing",
            id="not verified",
        ),
        pytest.param(with_payload("verification.judged", success=False), "expected success True", id="failed"),
        pytest.param(
            with_payload("acceptance.decided", approved=False),
            "entry 7 (acceptance.decided): expected approved True",
            id="not accepted",
        ),
        pytest.param(
            lambda many: [*many[:15], *again(many[12]), failing(many[14]), *many[15:]],
            "expected a wave that brought bike-shop-production-3",
            id="failed in the end",
        ),
        pytest.param(
            with_payload("release.closed", outcome="rejected"),
            "release.closed: expected no change by a release that was rejected, found chain.jsonl, entry 12",
            id="rejected, and deployed",
        ),
        pytest.param(
            with_payload("release.closed", outcome="expired"),
            "by a release that was expired, found chain.jsonl, entry 15 (wave.deployed)",
            id="expired, and deployed",
        ),
        pytest.param(
            with_payload("release.closed", outcome="withdrawn"),
            "release.closed: expected a withdrawal before it, found none",
            id="not withdrawn",
        ),
        pytest.param(
            with_payload("release.closed", outcome="withdrawn"),
            "release.closed: expected no change by a release that was withdrawn, found chain.jsonl, entry 12",
            id="withdrawn, and deployed",
        ),
        pytest.param(
            with_payload("release.closed", outcome="overtaken"),
            "release.closed: expected an overtaking before it, found none",
            id="not overtaken",
        ),
        pytest.param(
            with_payload("release.closed", outcome="overtaken"),
            "release.closed: expected no change by a release that was overtaken, found chain.jsonl, entry 12",
            id="overtaken, and deployed",
        ),
        pytest.param(
            lambda many: [*many[:-1], OVERTAKEN, many[-1]],
            "(release.overtaken): expected no permit to change anything before it, found",
            id="overtaken in the middle of its rollout",
        ),
        pytest.param(
            lambda many: [many[0], OVERTAKEN, *many[1:]],
            "(permit.issued): expected no permit of a release that was overtaken",
            id="overtaken, and given a permit",
        ),
        pytest.param(
            with_payload("release.closed", outcome="backed_out"),
            "back_out.done: expected verified True, found nothing",
            id="not backed out",
        ),
    ],
)
def test_a_claim_that_its_own_record_does_not_bear_out_is_named(
    tmp_path: Path, change: make.Change, expected: str
) -> None:
    proven, said = changed(tmp_path, change)
    assert not proven
    assert expected in said


def test_a_permit_that_is_not_the_signed_one_is_named(tmp_path: Path) -> None:
    def longer(many: list[make.Step]) -> list[make.Step]:
        payload = payload_of(many, "permit.issued")
        payload["permit"] = {**payload["permit"], "expires_at": "2027-01-01T00:00:00.000000Z"}
        return many

    proven, said = changed(tmp_path, longer)
    assert not proven
    assert "entry 10 (permit.issued): expected the permit that was signed" in said


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("plan", "9" * 64),
        ("bundle", "9" * 64),
        ("chain", "release/release_bike_shop/another"),
        ("hosts", ["127.20.0.11", "127.20.0.12"]),
        ("wave", 2),
        ("environment", "staging"),
        ("catalogue", "9" * 64),
    ],
)
def test_a_permit_for_something_else_is_named(tmp_path: Path, field: str, value: Any) -> None:
    def other(many: list[make.Step]) -> list[make.Step]:
        granted = {**payload_of(many, "permit.issued")["permit"], field: value}
        return [*many[:9], *make.issued_and_used(granted, make.signer()), *many[11:]]

    proven, said = changed(tmp_path, other)
    assert not proven
    assert f"entry 10 (permit.issued): expected {'hosts' if field == 'wave' else field} " in said


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"expires_at": "2026-11-23T09:24:00.000001Z"}, "expected a permit for 0:15:00 at most, found 0:15:00.000001"),
        ({"expires_at": "2026-12-23T09:09:00Z"}, "expected a permit for 0:15:00 at most, found 30 days, 0:00:00"),
        (
            {"issued_at": "2026-11-23T09:20:00Z", "expires_at": "2026-11-23T09:30:00Z"},
            "expected a permit of before 2026-11-23T09:09:00.000000Z, found one of 2026-11-23T09:20:00Z",
        ),
    ],
    ids=["a moment longer", "a month longer", "for later"],
)
@pytest.mark.parametrize("purpose", ["deploy", "inspect"])
def test_a_permit_that_holds_too_long_is_named(
    tmp_path: Path, fields: dict[str, str], expected: str, purpose: str
) -> None:
    def longer(many: list[make.Step]) -> list[make.Step]:
        granted = {**payload_of(many, "permit.issued")["permit"], **fields}
        more = {**granted, "purpose": "inspect", "plan": None, "bundle": None, "id": "d" * 32}
        first = granted if purpose == "deploy" else payload_of(many, "permit.issued")["permit"]
        after = make.issued_and_used(more, make.signer())[:1] if purpose == "inspect" else []
        return [*many[:9], *after, *make.issued_and_used(first, make.signer()), *many[11:]]

    proven, said = changed(tmp_path, longer)
    assert not proven
    assert f"entry 10 (permit.issued): {expected}" in said


def with_tokens(*tokens: int | None) -> make.Change:
    """Have the waves' permits carry tokens, and their reports those of their permits."""

    def change(many: list[make.Step]) -> list[make.Step]:
        found: list[make.Step] = []
        given = iter(tokens)
        for kind, payload in many:
            if kind == "permit.issued":
                token = next(given)
                entered = {"entered": {"place": "booking/production/bike-shop", "token": token}} if token else {}
                found += make.issued_and_used({**payload["permit"], **entered}, make.signer())
            elif kind == "wave.deployed":
                found.append((kind, {**payload, **entered}))
            elif kind != "permit.used":
                found.append((kind, payload))
        return found

    return change


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ((3, 7), ""),
        ((7, 7), ""),
        ((None, 7), ""),
        ((None, None), ""),
        ((7, 3), "(permit.used): expected a token of 7 or higher, found 3"),
        ((7, None), "(permit.used): expected a token, as permits before it have, found none"),
    ],
    ids=["growing", "shared", "of an update in between", "of before there were any", "shrinking", "gone"],
)
def test_tokens_only_grow(tmp_path: Path, tokens: tuple[int | None, ...], expected: str) -> None:
    proven, said = changed(tmp_path, with_tokens(*tokens))
    assert proven is not bool(expected), said
    assert expected in said


def test_a_report_with_anothers_token_is_named(tmp_path: Path) -> None:
    def other(many: list[make.Step]) -> list[make.Step]:
        found = with_tokens(3, 7)(many)
        place = next(number for number, (kind, _) in enumerate(found) if kind == "wave.deployed")
        found[place] = (found[place][0], {**found[place][1], "entered": {"place": "booking/x", "token": 9}})
        return found

    proven, said = changed(tmp_path, other)
    assert not proven
    assert "(wave.deployed): expected the token of a permit used before, found" in said


def failing(step: make.Step, **fields: Any) -> make.Step:
    """Make the last host of a report one that failed."""
    results = [dict(one) for one in step[1]["results"]]
    results[-1].update(outcome="failed", after=results[-1]["before"], **fields)
    return step[0], {**step[1], "results": results}


def granted(purpose: str, *addresses: str, plan: str, number: int = 0, **fields: Any) -> list[make.Step]:
    """Return the entries of a permit that is for no wave."""
    of_plan = {"wave": None, "hosts": list(addresses or releases.ADDRESSES), "plan": plan}
    name = {"purpose": purpose, "id": f"{number:x}".rjust(32, "e")}
    permit = {**make.permit(releases.rollout(policy_digest=releases.policy().digest), 1, 14), **of_plan, **name}
    return make.issued_and_used({**permit, **fields}, make.signer())


def backed_out(
    after: str = "1.0.0-0123456789ab", *, permitted: bool = True, closed: str = "backed_out", **report: Any
) -> make.Change:
    """Make a release one that was taken back."""

    def change(many: list[make.Step]) -> list[make.Step]:
        done = {**releases.back_out().model_dump(mode="json"), **report}
        done["results"][0]["after"] = after
        payload_of(many, "release.closed").update(outcome=closed)
        steps = granted("back_out", plan=payload_of(many, "board.decided")["digest"]) if permitted else []
        return [*many[: 16 if closed == "deployed" else 15], *steps, ("back_out.done", done), many[-1]]

    return change


BASELINE = releases.host(3)
CANARY = CanaryPlan(
    baseline=(BASELINE,),
    bake_seconds=600,
    requests=200,
    question={},
    marginal="ask",
    answer_within=timedelta(hours=1),
)


def permitted(purpose: str, *addresses: str) -> make.Change:
    """Add a permit to a release."""

    def change(many: list[make.Step]) -> list[make.Step]:
        plan = payload_of(many, "board.decided")["digest"]
        return [*many[:-2], *granted(purpose, *addresses, plan=plan), *many[-2:]]

    return change


@pytest.mark.parametrize(
    ("purpose", "hosts", "proven"),
    [
        ("restart", (BASELINE.address,), True),
        ("restart", (releases.host(2).address,), False),
        ("traffic", releases.ADDRESSES, True),
        ("traffic", (BASELINE.address,), False),
        ("return", (BASELINE.address,), True),
        ("return", ("127.20.0.99",), False),
    ],
)
def test_a_permit_names_hosts_of_the_plan_by_what_it_is_for(
    tmp_path: Path, purpose: str, hosts: tuple[str, ...], proven: bool
) -> None:
    holds, said = changed(tmp_path, permitted(purpose, *hosts), canary=CANARY)
    assert holds is proven, said
    assert proven or "expected hosts " in said


def test_a_release_that_was_backed_out_is_proven(tmp_path: Path) -> None:
    proven, said = changed(tmp_path, backed_out())
    assert proven, said
    assert "closed as backed_out" in said


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (backed_out("0.9.0-0123456789ab"), "host 127.20.0.11: expected after 1.0.0-0123456789ab, found 0.9.0"),
        (backed_out(permitted=False), "host 127.20.0.11: expected a permit to back_out used before, found none"),
        (backed_out(verified=False), "back_out.done: expected verified True, found False"),
        (
            backed_out(results=releases.back_out().model_dump(mode="json")["results"][:2]),
            "release.closed: expected a back-out that took bike-shop-production-3 back; found none",
        ),
        (
            backed_out(closed="deployed"),
            "expected no back-out of a release that was deployed, found chain.jsonl, entry",
        ),
    ],
    ids=["to another release", "without a permit", "not verified", "not all hosts", "and yet deployed"],
)
def test_a_back_out_goes_where_the_plan_says_under_a_permit(tmp_path: Path, change: make.Change, expected: str) -> None:
    proven, said = changed(tmp_path, change)
    assert not proven
    assert expected in said


@pytest.mark.parametrize(
    ("wave", "failure", "canary", "proven"),
    [
        pytest.param(14, {"error": "it does not start"}, None, True, id="one that failed"),
        pytest.param(14, {"error": "stopped", "held_back": True}, None, False, id="one that was held back"),
        pytest.param(14, {"error": "No permit: Emergency stop: stop"}, None, False, id="an older one without a permit"),
        pytest.param(14, {"error": "h: The wave is halted: stop"}, None, False, id="an older one that was held back"),
        pytest.param(14, {"error": "it does not start"}, CANARY, True, id="one beside a canary"),
        pytest.param(11, {"error": "it does not start"}, CANARY, False, id="the canary itself"),
    ],
)
def test_an_error_budget_bears_neither_what_was_held_back_nor_a_canary(
    tmp_path: Path, wave: int, failure: dict[str, Any], canary: CanaryPlan | None, proven: bool
) -> None:
    strategy = Strategy(window=1, max_failed=1, min_healthy=0, by_zone=False)
    holds, said = changed(
        tmp_path,
        lambda many: [*many[:wave], failing(many[wave], **failure), *many[wave + 1 :]],
        strategy=strategy,
        canary=canary,
    )
    assert holds is proven, said
    assert ("which the plan's error budget bears" in said) is proven


def test_a_back_out_after_a_release_was_closed_as_deployed_is_named(tmp_path: Path) -> None:
    def later(many: list[make.Step]) -> list[make.Step]:
        steps = granted("back_out", plan=payload_of(many, "board.decided")["digest"])
        return [*many, *steps, ("back_out.done", releases.back_out().model_dump(mode="json"))]

    proven, said = changed(tmp_path, later)
    assert not proven
    assert "expected no back-out of a release that was deployed, found chain.jsonl, entry 20 (back_out.done)" in said


# --- everything that a permit is for ---------------------------------------------------------------------------------

HOME, OTHER = {"home": 100}, {"home": 80, "canary": 10, "baseline": 10}


def moved(kind: str, weights: dict[str, int]) -> make.Step:
    return kind, {"schema_version": 1, "weights": weights, "changed": True}


def restarted(**fields: Any) -> make.Step:
    result = releases.host_result(3, outcome="unchanged", after="1.0.0-0123456789ab").model_dump(mode="json")
    return "baseline.restarted", {"schema_version": 1, "results": [{**result, **fields}]}


def returned(release: str = f"1.1.0-{'a' * 12}", digest: str = "a" * 64, **fields: Any) -> make.Step:
    result = releases.host_result(3, after=release).model_dump(mode="json")
    report = releases.wave(2).model_dump(mode="json")
    return "host.returned", {**report, "release": release, "results": [{**result, **fields}], "digest": digest}


def taken_back(**fields: Any) -> make.Step:
    report = releases.back_out().model_dump(mode="json")
    return "back_out.done", {**report, "results": [{**one, **fields} for one in report["results"]]}


NOT_REACHED = {"outcome": "failed", "before": None, "after": None, "error": "No permit: Emergency stop"}
Doing = tuple[str, ...] | make.Step


def doing(*many: Doing, after_the_end: bool = False, **fields: Any) -> make.Change:
    """Have a release do something more: a purpose with hosts stands for a permit that was given and used."""

    def change(steps: list[make.Step]) -> list[make.Step]:
        plan, more = payload_of(steps, "board.decided")["digest"], []
        for number, one in enumerate(many):
            is_step = isinstance(one[-1], dict)
            more += [one] if is_step else granted(*one, plan=plan, number=number, **fields)  # type: ignore[arg-type]
        place = len(steps) if after_the_end else 15
        return [*steps[:place], *more, *steps[place:]]  # type: ignore[list-item]

    return change


@pytest.mark.parametrize(
    ("many", "expected"),
    [
        pytest.param([restarted()], "(baseline.restarted), host 127.20.0.13: expected a permit to restart", id="bare"),
        pytest.param([("restart", BASELINE.address), restarted()], "", id="restarted"),
        pytest.param(
            [restarted(), ("restart", BASELINE.address)],
            "expected a permit to restart used before",
            id="used afterwards",
        ),
        pytest.param(
            [("traffic",), restarted()], "expected a permit to restart used before, found none", id="for traffic only"
        ),
        pytest.param(
            [("restart", BASELINE.address), restarted(after="1.1.0-aaaaaaaaaaaa")],
            "expected after 1.0.0-0123456789ab, found 1.1.0-aaaaaaaaaaaa",
            id="a restart that changed the release",
        ),
        pytest.param([restarted(**NOT_REACHED)], "", id="no permit was given, and nothing was done"),
        pytest.param([taken_back(**NOT_REACHED)], "", id="no back-out was permitted, and nothing was done"),
        pytest.param(
            [restarted(outcome="failed", after=None)], "expected a permit to restart", id="reached, and it failed"
        ),
        pytest.param([moved("traffic.shared", OTHER)], "(traffic.shared): expected a permit to move", id="shared"),
        pytest.param([("traffic",), moved("traffic.shared", OTHER)], "", id="shared under a permit"),
        pytest.param([moved("traffic.shared", OTHER), ("traffic",)], "expected a permit to move", id="permit too late"),
        pytest.param(
            [("restart", BASELINE.address), moved("traffic.shared", OTHER)],
            "expected a permit to move",
            id="not for it",
        ),
        pytest.param([moved("traffic.switched", OTHER)], "(traffic.switched): expected a permit", id="switched"),
        pytest.param([("traffic",), moved("traffic.switched", OTHER)], "", id="switched under a permit"),
        pytest.param(
            [("traffic",), moved("traffic.switched", OTHER), moved("traffic.switched", OTHER)],
            "",
            id="recorded again by the task that was tried again",
        ),
        pytest.param([moved("traffic.switched", {})], "", id="nothing to switch"),
        pytest.param(
            [("traffic",), moved("traffic.shared", OTHER), moved("traffic.restored", HOME)],
            "(traffic.restored): expected a permit to move traffic used since it was moved last, found none",
            id="one permit for two moves",
        ),
        pytest.param(
            [("traffic",), moved("traffic.shared", OTHER), ("traffic",), moved("traffic.restored", HOME)],
            "",
            id="a permit for each move",
        ),
    ],
)
def test_what_a_release_does_to_hosts_and_traffic_needs_a_permit_for_just_that(
    tmp_path: Path, many: list[Doing], expected: str
) -> None:
    proven, said = changed(
        tmp_path, lambda steps: with_payload("release.closed", outcome="failed")(doing(*many)(steps)), canary=CANARY
    )
    assert proven is (not expected), said
    assert expected in said


@pytest.mark.parametrize(
    ("many", "expected"),
    [
        pytest.param([returned()], "(host.returned), host 127.20.0.13: expected a permit to return used", id="bare"),
        pytest.param([("return", BASELINE.address), returned()], "", id="returned"),
        pytest.param([("return", "127.20.0.12"), returned()], "expected a permit to return", id="another host's"),
        pytest.param(
            [("return", BASELINE.address), returned(digest="9" * 64)], "expected digest aaaa", id="another artifact"
        ),
        pytest.param(
            [("return", BASELINE.address), returned("1.2.0-aaaaaaaaaaaa")], "expected release 1.1.0-a", id="release"
        ),
        pytest.param(
            [("return", BASELINE.address), returned(after="1.0.0-0123456789ab")],
            "expected after 1.1.0-a",
            id="runs old",
        ),
        pytest.param([returned(**NOT_REACHED)], "", id="no permit was given, and nothing was done"),
    ],
)
def test_a_host_that_returned_was_changed_under_a_permit_to_return(
    tmp_path: Path, many: list[Doing], expected: str
) -> None:
    proven, said = changed(tmp_path, doing(*many, after_the_end=True))
    assert proven is (not expected), said
    assert expected in said


@pytest.mark.parametrize(
    ("many", "proven"),
    [
        pytest.param([("restart", BASELINE.address), restarted()], False, id="restart"),
        pytest.param([("traffic",), moved("traffic.shared", OTHER)], False, id="shared"),
        pytest.param([("traffic",), moved("traffic.switched", OTHER)], False, id="switched"),
        pytest.param([("traffic",), moved("traffic.restored", HOME)], True, id="restored"),
        pytest.param([("return", BASELINE.address), returned()], True, id="returned"),
        pytest.param([("back_out",)], True, id="back-out"),
        pytest.param([("inspect",)], True, id="inspect"),
    ],
)
def test_the_catalogue_may_have_changed_only_for_the_way_back_and_for_what_changes_nothing(
    tmp_path: Path, many: list[Doing], proven: bool
) -> None:
    holds, said = changed(tmp_path, doing(*many, catalogue="9" * 64), canary=CANARY)
    assert holds is proven, said
    assert proven or f"expected catalogue {'b' * 64}, found {'9' * 64}" in said


def test_a_rehearsal_moves_traffic_and_restarts_hosts_of_the_sandbox_without_permits(tmp_path: Path) -> None:
    def rehearsal(many: list[make.Step]) -> list[make.Step]:
        payload_of(many, "board.decided").update(required=False, votes=[])
        payload_of(many, "release.closed").update(outcome="rehearsed")
        bare = without("permit.issued", "permit.used")(many)
        return [*bare[:-2], restarted(), moved("traffic.shared", OTHER), moved("traffic.restored", HOME), *bare[-2:]]

    proven, said = changed(tmp_path, rehearsal, rehearsal=True, environment="test")
    assert proven, said


# --- who was asked ---------------------------------------------------------------------------------------------------


def nobody(kind: str) -> make.Change:
    """Have nobody asked where the policy asks no board."""

    def change(many: list[make.Step]) -> list[make.Step]:
        payload_of(many, "policy.resolved")["flow"].update(board=None)
        payload_of(many, kind).update(required=False, votes=[])
        return many

    return change


def planned(**fields: Any) -> make.Change:
    """Have another plan of the release, on which nobody of management decided."""
    decided = releases.decision("plan", digest="f" * 64, required=False, votes=()).model_dump(mode="json")

    def change(many: list[make.Step]) -> list[make.Step]:
        payload_of(many, "plan.made").update(fields)
        return [*many[:4], ("plan.decided", decided), *many[4:]]

    return change


RISKY = {"score": 101, "terms": [], "calculated": None, "declared": None}


@pytest.mark.parametrize(
    ("change", "plan", "expected"),
    [
        pytest.param(nobody("board.decided"), {"decide_by": None}, "", id="pre-authorised"),
        pytest.param(
            nobody("board.decided"),
            {},
            "(board.decided): expected votes until 2026-11-25T06:17:00Z, as the plan says; nobody was asked",
            id="a rule asked, by the plan",
        ),
        pytest.param(
            lambda many: many, {"decide_by": None}, "expected a plan that says until when", id="votes without an end"
        ),
        pytest.param(
            with_payload(
                "board.decided", board={**make.BOARD, "demands": [{**make.BOARD["demands"][0], "place": "x"}]}
            ),
            {},
            "expected a demand of board.yaml boards.cab, which the policy asks; found x",
            id="another board's rule",
        ),
        pytest.param(
            with_payload("policy.resolved", flow={"board": "cab", "further_boards": ["security"]}),
            {},
            "expected a demand of board.yaml boards.security",
            id="without a further board",
        ),
        pytest.param(
            with_payload("acceptance.decided", required=False, votes=[]),
            {},
            "acceptance.decided: expected required True, found False",
            id="nobody accepted it",
        ),
        pytest.param(planned(), {}, "", id="management need not be asked"),
        pytest.param(planned(bump="major"), {}, "plan.decided: expected required True, found False", id="major"),
        pytest.param(planned(risk=RISKY), {}, "plan.decided: expected required True, found False", id="risky"),
        pytest.param(
            with_payload("plan.made", bump="major"),
            {},
            "plan.decided: expected required True, found nothing",
            id="no word",
        ),
    ],
)
def test_whoever_is_to_be_asked_by_the_record_was_asked(
    tmp_path: Path, change: make.Change, plan: dict[str, Any], expected: str
) -> None:
    proven, said = changed(tmp_path, change, **plan)
    assert proven is (not expected), said
    assert expected in said


def test_a_delegate_of_two_members_one_after_the_other_approves_once(tmp_path: Path) -> None:
    away = [
        {"for": "ben", "to": "kim", "from": "2026-11-23", "until": "2026-11-23"},
        {"for": "dan", "to": "kim", "from": "2026-11-24", "until": "2026-11-24"},
    ]
    votes = [make.vote("kim", assigned="ben"), make.vote("kim", assigned="dan", minutes=1440)]
    proven, said = changed(
        tmp_path, with_payload("board.decided", board={**make.BOARD, "delegations": away}, votes=votes)
    )
    assert not proven
    assert "1 of 2 approvals (kim Approve, kim Approve)" in said


def test_who_stood_in_for_two_has_the_first_seat_s_role(tmp_path: Path) -> None:
    away = [
        {"for": "ben", "to": "kim", "from": "2026-11-23", "until": "2026-11-23"},
        {"for": "dan", "to": "kim", "from": "2026-11-24", "until": "2026-11-24"},
    ]
    demand = {**make.BOARD["demands"][0], "approvals": 1, "require": {"business": 1}}
    board = {**make.BOARD, "delegations": away, "demands": [demand]}
    votes = [make.vote("kim", assigned="ben"), make.vote("kim", assigned="dan", minutes=1440)]
    assert "0 of 1 of business" in changed(tmp_path, with_payload("board.decided", board=board, votes=votes))[1]


def test_a_vote_that_airflow_never_stored_is_named(tmp_path: Path) -> None:
    what = make.evidence()
    proven, said = found(make.packed(tmp_path / "pack.zip", make.sealed_anew(what, ballots=what.ballots[:1])))
    assert not proven
    assert "expected the vote of dan (Approve) in ballots.json, found none" in said


def test_a_rehearsal_asks_nobody_and_needs_no_permit(tmp_path: Path) -> None:
    def rehearsal(many: list[make.Step]) -> list[make.Step]:
        payload_of(many, "board.decided").update(required=False, votes=[])
        payload_of(many, "release.closed").update(outcome="rehearsed")
        return without("permit.issued", "permit.used")(many)

    proven, said = changed(tmp_path, rehearsal, rehearsal=True, environment="test")
    assert proven, said
    assert not changed(tmp_path, rehearsal, rehearsal=True, environment="production")[0]


def test_a_change_that_the_policy_asks_nobody_about_is_proven(tmp_path: Path) -> None:
    def standard(many: list[make.Step]) -> list[make.Step]:
        payload_of(many, "board.decided").update(required=False, votes=[])
        payload_of(many, "policy.resolved")["flow"].update(board=None)
        return many

    proven, said = changed(tmp_path, standard, decide_by=None)
    assert proven, said


def test_without_airflows_record_the_votes_of_the_chain_are_counted_and_that_is_told(tmp_path: Path) -> None:
    lost = make.sealed_anew(make.evidence(), ballots=[], run={"known": False, "why": "404"})
    proven, said = found(make.packed(tmp_path / "pack.zip", lost))
    assert proven, said
    assert "WARNING: by run.json Airflow had lost the run" in said
    few = make.sealed_anew(make.evidence(with_votes(make.vote("ben"))), ballots=[], run={"known": False})
    assert not found(make.packed(tmp_path / "pack.zip", few))[0]


def test_a_vote_on_another_digest_does_not_count(tmp_path: Path) -> None:
    what = make.evidence()
    other = [answer.model_copy(update={"body": "9" * 64}) for answer in what.ballots]
    assert not found(make.packed(tmp_path / "pack.zip", make.sealed_anew(what, ballots=other)))[0]


def test_an_author_of_the_change_does_not_decide(tmp_path: Path) -> None:
    proven, said = changed(tmp_path, lambda many: many, excluded=("ben",))
    assert not proven
    assert "1 of 2 approvals (dan Approve)" in said


def test_the_rejection_of_a_member_with_a_veto_counts_although_a_commit_names_them(tmp_path: Path) -> None:
    votes = with_votes(make.vote("ben"), make.vote("dan"), make.vote("cora", "Reject"))
    proven, said = changed(tmp_path, votes, excluded=("cora",))
    assert not proven
    assert "veto of cora" in said
    assert changed(tmp_path, lambda many: many, excluded=("cora",))[0]


@pytest.mark.parametrize(
    ("first", "last", "proven"),
    [("2026-11-23", "2026-11-23", True), ("2026-11-01", "2026-11-22", False), ("2026-11-24", "2026-11-30", False)],
)
def test_a_delegate_votes_in_the_seat_of_a_member_on_their_days(
    tmp_path: Path, first: str, last: str, proven: bool
) -> None:
    away = {"for": "dan", "to": "kim", "from": first, "until": last}
    board = {**make.BOARD, "delegations": [away]}
    votes = [make.vote("ben"), make.vote("kim", assigned="dan")]
    assert changed(tmp_path, with_payload("board.decided", board=board, votes=votes))[0] is proven


def test_a_compulsory_role_must_approve(tmp_path: Path) -> None:
    demand = {**make.BOARD["demands"][0], "require": {"security": 1}}
    proven, said = changed(tmp_path, with_payload("board.decided", board={**make.BOARD, "demands": [demand]}))
    assert not proven
    assert "0 of 1 of security" in said


@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_each_of_several_demands_must_be_met(tmp_path: Path, first: bool) -> None:
    cards = {**make.BOARD["demands"][0], "title": "Rule cards", "members": ["cora"], "approvals": 1, "veto": []}
    demands = [cards, *make.BOARD["demands"]] if first else [*make.BOARD["demands"], cards]
    proven, said = changed(tmp_path, with_payload("board.decided", board={**make.BOARD, "demands": demands}))
    assert not proven
    assert "Rule cards, 0 of 1 approvals" in said


GRANTED = Waiver(
    suite="performance",
    expectation=releases.failure().expected,
    reason="The host is slow",
    by="cora",
    at=make.AT + timedelta(seconds=30),
    until=make.AT + timedelta(days=8),
)


@pytest.mark.parametrize(
    ("recorded", "in_plan", "place", "proven"),
    [
        pytest.param({}, {}, 6, True, id="waived"),
        pytest.param({"until": make.AT + timedelta(minutes=1)}, None, 6, False, id="run out"),
        pytest.param({"at": make.AT + timedelta(hours=1)}, None, 6, False, id="later"),
        pytest.param({"suite": "load"}, None, 6, False, id="another suite"),
        pytest.param({"expectation": "something else"}, None, 6, False, id="another expectation"),
        pytest.param(None, {}, 6, False, id="not on record"),
        pytest.param({}, {}, 9, True, id="recorded before the first permit"),
        pytest.param({}, {}, 12, False, id="recorded when it was deployed"),
        pytest.param({}, {}, 17, False, id="recorded in the end"),
        pytest.param({}, {"by": "dan"}, 6, False, id="another than the board saw"),
        pytest.param({}, {"suite": "load"}, 6, False, id="not in the plan"),
    ],
)
def test_a_failed_expectation_needs_a_waiver_that_the_board_saw_and_that_holds(
    tmp_path: Path, recorded: dict[str, Any] | None, in_plan: dict[str, Any] | None, place: int, proven: bool
) -> None:
    """In the plan is what was recorded, if nothing else is said."""
    given = [] if recorded is None else [GRANTED.model_copy(update=recorded)]
    seen = GRANTED.model_copy(update=(recorded or {}) if in_plan is None else in_plan)
    steps: list[make.Step] = [("quality.waived", one.model_dump(mode="json")) for one in given]
    what = make.evidence(
        lambda many: [*many[:place], *steps, *many[place:]],
        report=releases.quality(releases.failure()),
        waivers=(seen,),
    )
    found_proven, said = found(make.packed(tmp_path / "pack.zip", what))
    assert found_proven is proven, said
    assert proven or "expected a waiver that holds of performance: p95_ms is at most 800" in said


def test_a_review_that_failed_as_a_whole_cannot_be_waived(tmp_path: Path) -> None:
    report = releases.quality().model_copy(update={"success": False})
    said = found(make.packed(tmp_path / "pack.zip", make.evidence(report=report)))[1]
    assert "expected a waiver that holds of the review: as a whole" in said


def test_an_attestation_about_something_else_is_named(tmp_path: Path) -> None:
    what = make.evidence()
    other = make.provenance(releases.blob(digit="9"), make.signer())
    more = make.sealed_anew(what, attestations={**what.attestations, "more": other})
    proven, said = found(make.packed(tmp_path / "pack.zip", more))
    assert not proven
    assert "attestations/more.dsse.json: expected a statement about the artifact" in said


def test_a_missing_provenance_is_named(tmp_path: Path) -> None:
    more = make.sealed_anew(make.evidence(), attestations={})
    proven, said = found(make.packed(tmp_path / "pack.zip", more))
    assert not proven
    assert "attestations/: expected the provenance" in said


def test_a_bill_of_materials_that_the_provenance_names_is_missed(tmp_path: Path) -> None:
    what = make.evidence()
    more = make.sealed_anew(what, attestations={"provenance": what.attestations["provenance"]})
    proven, said = found(make.packed(tmp_path / "pack.zip", more))
    assert not proven
    assert "attestations/: expected bom.dsse.json, which the provenance names, " in said


def test_another_bill_of_materials_than_the_one_that_was_built_is_named(tmp_path: Path) -> None:
    what, by = make.evidence(), make.signer()
    other = attestation.bom_statement(artifact=releases.blob(), name="x", bom=b'{"bomFormat":"CycloneDX"}')
    more = make.sealed_anew(what, attestations={**what.attestations, "other": by.envelope(other)})
    proven, said = found(make.packed(tmp_path / "pack.zip", more))
    assert not proven
    assert f"attestations/other.dsse.json: expected the bill of materials {sha256_of(make.BOM)}, as built" in said


def test_a_release_that_was_built_before_bills_were_signed_is_proven(tmp_path: Path) -> None:
    what, by = make.evidence(), make.signer()
    statement = json.loads(base64.b64decode(json.loads(what.attestations["provenance"])["payload"]))
    statement["predicate"]["runDetails"]["byproducts"] = [{"name": "build.log"}, {"name": "bom.cdx.json"}]
    older = by.envelope(statement)

    def then(many: list[make.Step]) -> list[make.Step]:
        payload_of(many, "artifact.built")["provenance"]["sha256"] = sha256_of(older)
        return many

    more = make.sealed_anew(make.evidence(then), attestations={"provenance": older})
    proven, said = found(make.packed(tmp_path / "pack.zip", more))
    assert proven, said


# --- Ed25519 ---------------------------------------------------------------------------------------------------------

VECTORS = [  # RFC 8032, section 7.1: key, message, signature
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24"
        "655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aee"
        "b00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28d"
        "c027beceea1ec40a",
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e"
        "2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17a"
        "d9bef1177331a704",
    ),
]


@pytest.mark.parametrize("vector", VECTORS)
def test_signatures_of_the_rfc_hold_and_no_other(vector: tuple[str, str, str]) -> None:
    key, message, signature = map(bytes.fromhex, vector)
    assert verifier.signature_holds(key, message, signature)
    assert not verifier.signature_holds(key, message + b"x", signature)
    for place in range(64):
        flipped = bytearray(signature)
        flipped[place] ^= 1
        assert not verifier.signature_holds(key, message, bytes(flipped))


def test_the_same_signature_in_other_numbers_does_not_hold() -> None:
    key, message, signature = map(bytes.fromhex, VECTORS[1])
    s = int.from_bytes(signature[32:], "little") + verifier.L
    assert not verifier.signature_holds(key, message, signature[:32] + s.to_bytes(32, "little"))
    assert not verifier.signature_holds(key, message, signature + b"\0")
    assert not verifier.signature_holds(key, message, signature[:-1])


@pytest.mark.parametrize(
    "encoded",
    [
        pytest.param((verifier.P + 1).to_bytes(32, "little"), id="y not below p"),
        pytest.param((1 | 1 << 255).to_bytes(32, "little"), id="x is 0 with a sign"),
        pytest.param((2).to_bytes(32, "little"), id="not on the curve"),
        pytest.param(b"\1" + bytes(30), id="too short"),
        pytest.param(b"\1" + bytes(32), id="too long"),
    ],
)
def test_a_key_that_is_no_point_is_refused(encoded: bytes) -> None:
    with pytest.raises(ValueError, match="no point"):
        verifier.signature_holds(encoded, b"", bytes(64))


@pytest.mark.parametrize("key", ["01" + "00" * 31, "ec" + "ff" * 30 + "7f", "00" * 32])
def test_a_key_for_which_anything_is_signed_is_refused(key: str) -> None:
    everything = bytes.fromhex("01" + "00" * 63)
    assert not verifier.signature_holds(bytes.fromhex(key), b"anything", everything)


@FEW
@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=200))
def test_signatures_of_cryptography_hold(seed: bytes, message: bytes) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.from_private_bytes(seed)
    public = private.public_key().public_bytes_raw()
    assert verifier.signature_holds(public, message, private.sign(message))
    assert not verifier.signature_holds(public, message + b"!", private.sign(message))


# --- ECDSA on P-256 --------------------------------------------------------------------------------------------------

# RFC 6979, A.2.5: P-256 with SHA-256; of each signature with the lower of the two numbers for s.
EC_KEY = bytes.fromhex(
    "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
    "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
)
EC_VECTORS = [
    (
        b"sample",
        0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716,
        0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8,
    ),
    (
        b"test",
        0xF1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367,
        0x019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083,
    ),
]


def ec_signature(r: int, s: int, *, low: bool = True) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    return encode_dss_signature(r, min(s, verifier.N - s) if low else max(s, verifier.N - s))


@pytest.mark.parametrize(("message", "r", "s"), EC_VECTORS)
def test_ecdsa_signatures_of_the_rfc_hold_in_one_form_and_no_other(message: bytes, r: int, s: int) -> None:
    signature = ec_signature(r, s)
    assert verifier.ecdsa_holds(EC_KEY, message, signature)
    assert not verifier.ecdsa_holds(EC_KEY, message + b"x", signature)
    for other in (ec_signature(r, s, low=False), signature + b"\0", signature[:-1], b"", b"\x30\x00"):
        assert not verifier.ecdsa_holds(EC_KEY, message, other)
    for place in range(len(signature)):
        flipped = bytearray(signature)
        flipped[place] ^= 1
        assert not verifier.ecdsa_holds(EC_KEY, message, bytes(flipped))


@pytest.mark.parametrize(("r", "s"), [(0, 1), (1, 0), (verifier.N, 1), (1, verifier.N), (0, 0)])
def test_ecdsa_numbers_out_of_range_do_not_hold(r: int, s: int) -> None:
    body = verifier.der_number(r) + verifier.der_number(s)
    assert not verifier.ecdsa_holds(EC_KEY, b"", bytes([0x30, len(body)]) + body)


@pytest.mark.parametrize(
    "encoded",
    [
        pytest.param(EC_KEY[:-1] + bytes([EC_KEY[-1] ^ 1]), id="not on the curve"),
        pytest.param(EC_KEY[:-1], id="too short"),
        pytest.param(EC_KEY + b"\0", id="too long"),
        pytest.param((verifier.Q + verifier.G[0]).to_bytes(33, "big")[-32:] + EC_KEY[32:], id="another x"),
        pytest.param(bytes(64), id="zero"),
        pytest.param(b"\xff" * 64, id="not below q"),
    ],
)
def test_an_ecdsa_key_that_is_no_point_is_refused(encoded: bytes) -> None:
    with pytest.raises(ValueError, match="no point"):
        verifier.point_of(encoded)


@FEW
@given(secret=st.integers(1, verifier.N - 1), message=st.binary(max_size=200))
def test_ecdsa_signatures_of_cryptography_hold(secret: int, message: bytes) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    private = ec.derive_private_key(secret, ec.SECP256R1())
    public = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
    signature = ec_signature(*decode_dss_signature(private.sign(message, ec.ECDSA(SHA256()))))
    assert verifier.ecdsa_holds(public, message, signature)
    assert not verifier.ecdsa_holds(public, message + b"!", signature)


@pytest.mark.parametrize("curve", ["SECP384R1", "SECP256K1"])
def test_a_key_of_another_curve_is_refused(curve: str) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    other = ec.generate_private_key(getattr(ec, curve)()).public_key()
    with pytest.raises(verifier.Refused, match="is not a public key in PEM, Ed25519 or ECDSA on P-256"):
        verifier.read_pem(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "key.pem")


# --- the program -----------------------------------------------------------------------------------------------------


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-S", *arguments], cwd=cwd, capture_output=True, text=True, env={}, timeout=60
    )


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """A folder with the verifier, copied, a pack and its key."""
    shutil.copy(FILE, tmp_path / "verify.py")
    (tmp_path / "pack.zip").write_bytes(good())
    (tmp_path / "key.pem").write_bytes(make.signer().public_key)
    return tmp_path


def test_the_file_alone_proves_a_pack_without_any_library(alone: Path) -> None:
    done = run("verify.py", "pack.zip", "--key", "key.pem", cwd=alone)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\nPROVEN.\n")


@pytest.mark.parametrize("fingerprint", [verifier.sha256(KEY), verifier.sha256(KEY).upper()])
def test_the_file_alone_proves_a_pack_by_the_fingerprint_of_its_key(alone: Path, fingerprint: str) -> None:
    done = run("verify.py", "pack.zip", "--fingerprint", fingerprint, cwd=alone)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\nPROVEN.\n")


def test_a_pack_whose_key_nobody_vouches_for_ends_with_3(alone: Path) -> None:
    done = run("verify.py", "pack.zip", cwd=alone)
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.splitlines()[-1].startswith("CONSISTENT, and signed by a key that nobody vouches for: SHA-256 ")
    assert "PROVEN" not in done.stdout


def test_the_file_alone_refuses_a_changed_pack(alone: Path) -> None:
    files = members(good())
    (alone / "pack.zip").write_bytes(zipped([*{**files, "run.json": b"{}"}.items()]))
    done = run("verify.py", "pack.zip", "--key", "key.pem", cwd=alone)
    assert done.returncode == 1
    assert "run.json: was changed: expected sha256" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("NOT PROVEN: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("none.zip",),
        ("pack.zip", "--key", "none.pem"),
        ("pack.zip", "--key", "pack.zip"),
        ("pack.zip", "--fingerprint", "c099d90f"),
        (),
    ],
)
def test_what_cannot_be_opened_ends_with_2(alone: Path, arguments: tuple[str, ...]) -> None:
    assert run("verify.py", *arguments, cwd=alone).returncode == 2


def test_it_runs_as_a_module_of_the_project(alone: Path) -> None:
    command = [sys.executable, "-m", "interlock.verify", str(alone / "pack.zip")]
    command += ["--key", str(alone / "key.pem")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, env={**os.environ})
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_that_a_pack_says_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    verifier.printed("a\x1b[31m\u202eb\rc")
    assert capsys.readouterr().out == "a\\x1b[31m\\u202eb\\rc\n"


def test_the_file_imports_nothing_but_the_standard_library_of_python_3_9() -> None:
    tree = ast.parse(FILE.read_text(encoding="utf-8"), feature_version=(3, 9))
    names = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert names <= sys.stdlib_module_names


def test_a_pack_with_a_test_matrix_is_proven(tmp_path: Path) -> None:
    what = replace(make.evidence(), matrix=[{"ticket": "SHOP-41", "state": "passed"}])
    proven, report = found(make.packed(tmp_path / "pack.zip", what))
    assert proven, report
