from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from interlock.adapters.evidence import pack as packs
from interlock.adapters.evidence.pack import Evidence, build_pack, fingerprint
from interlock.domain.canonical import sha256_of
from interlock.domain.errors import ReleaseError
from interlock.domain.testing.matrix import MatrixRow
from interlock.verify.__main__ import read_pem, sha256, verify
from tests.factories import evidence as make
from tests.factories import releases

HOSTILE = "<script>alert(1)</script><img src=//evil.example/x>\"'&\u202e{{ 7*7 }}"


def files_of(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def page(tmp_path: Path, what: Evidence) -> str:
    return files_of(make.packed(tmp_path / "pack.zip", what))["index.html"].decode()


class Reader(HTMLParser):
    """Reads a page: its elements, what they point to, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.targets: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.text += " "
        self.attributes |= {name for name, _ in attrs}
        self.targets += [value or "" for name, value in attrs if name in ("href", "src", "action", "data")]

    def handle_data(self, data: str) -> None:
        self.text += data


# --- the archive -----------------------------------------------------------------------------------------------------


def test_what_is_packed_is_proven(tmp_path: Path) -> None:
    by = make.signer()
    sealed = build_pack(tmp_path / "pack.zip", make.evidence(), by, created=make.AT)
    data = (tmp_path / "pack.zip").read_bytes()
    said: list[str] = []
    assert verify(data, [read_pem(by.public_key, "key")], said.append), "\n".join(said)
    assert (sealed.sha256, sealed.size, sealed.files) == (sha256_of(data), len(data), len(files_of(data)))
    assert (sealed.chain, sealed.key) == (make.CHAIN, by.key_id)


def test_a_pack_has_the_files_that_the_documentation_names(tmp_path: Path) -> None:
    files = files_of(make.packed(tmp_path / "pack.zip"))
    assert list(files)[:2] == ["manifest.json", "manifest.dsse.json"]
    assert list(files)[2:] == sorted(list(files)[2:])
    assert set(files) == {
        "manifest.json",
        "manifest.dsse.json",
        "chain.jsonl",
        "heads.jsonl",
        "plan.json",
        "ballots.json",
        "run.json",
        "hosts.json",
        "index.html",
        "attestations/bom.dsse.json",
        "attestations/provenance.dsse.json",
        "attestations/test-result.dsse.json",
        "attestations/release.dsse.json",
        "logs/build.build_artifact/1.log",
        f"keys/{make.signer().key_id}.pem",
    }
    manifest = json.loads(files["manifest.json"])
    assert manifest["format"] == "interlock-evidence/1"
    assert manifest["chain"] == make.CHAIN
    assert [row["path"] for row in manifest["files"]] == list(files)[2:]
    assert sha256_of(files["plan.json"]) == make.evidence().plan.digest  # type: ignore[union-attr]


def test_the_same_evidence_is_the_same_bytes_whatever_its_order(tmp_path: Path) -> None:
    what = make.evidence()
    turned = replace(
        what,
        attestations=dict(reversed(what.attestations.items())),
        run=dict(reversed(what.run.items())),
    )
    assert make.packed(tmp_path / "a.zip", what) == make.packed(tmp_path / "b.zip", turned)


def test_a_pack_can_be_unpacked_by_any_tool(tmp_path: Path) -> None:
    make.packed(tmp_path / "pack.zip")
    with zipfile.ZipFile(tmp_path / "pack.zip") as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "out")
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert (tmp_path / "out" / "logs" / "build.build_artifact" / "1.log").read_bytes() == b"making the shop\n"


def test_data_docs_and_further_keys_come_along(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    (docs / "static").mkdir(parents=True)
    (docs / "index.html").write_text("<p>fine</p>")
    (docs / "static" / "style.css").write_text("p {}")
    older = make.signer(8)
    what = replace(make.evidence(), quality=docs, keys={older.key_id: older.public_key})
    files = files_of(make.packed(tmp_path / "pack.zip", what))
    assert files["quality/index.html"] == b"<p>fine</p>"
    assert files["quality/static/style.css"] == b"p {}"
    assert files[f"keys/{older.key_id}.pem"] == older.public_key


def test_heads_by_an_older_key_are_proven_when_that_key_is_known(tmp_path: Path) -> None:
    older, what = make.signer(8), make.evidence()
    heads = [make.head(what.entries[3], older), *what.heads]
    data = make.packed(tmp_path / "pack.zip", replace(what, heads=heads, keys={older.key_id: older.public_key}))
    keys = [read_pem(by.public_key, "key") for by in (make.signer(), older)]
    assert verify(data, keys, lambda line: None)
    assert not verify(data, keys[:1], lambda line: None)


def test_a_release_that_did_not_get_far_is_packed_and_proven(tmp_path: Path) -> None:
    failed = {"outcome": "failed", "stage": "build", "reason": "It does not build.", "service": "bike-shop"}
    what = make.evidence(lambda many: [*many[:2], ("release.closed", failed)])
    early = replace(what, plan=None, attestations={}, ballots=[], hosts={}, run={})
    data = make.packed(tmp_path / "pack.zip", early)
    said: list[str] = []
    assert verify(data, [], said.append), "\n".join(said)
    assert "plan.json" not in files_of(data)
    assert "It does not build." in files_of(data)["index.html"].decode()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda what, tmp: replace(what, logs={"../outside": b""}), id="climbing log"),
        pytest.param(lambda what, tmp: replace(what, logs={"a/./b": b""}), id="dot"),
        pytest.param(lambda what, tmp: replace(what, logs={"/etc/x": b""}), id="absolute"),
        pytest.param(lambda what, tmp: replace(what, logs={"a\nb": b""}), id="line break"),
        pytest.param(lambda what, tmp: replace(what, logs={"ü": b""}), id="not ascii"),
        pytest.param(lambda what, tmp: replace(what, logs={"a": b"", "A": b""}), id="case"),
        pytest.param(lambda what, tmp: replace(what, attestations={"a\\b": b"{}"}), id="backslash"),
        pytest.param(lambda what, tmp: replace(what, quality=linked(tmp)), id="link in the data docs"),
    ],
)
def test_what_cannot_go_into_a_pack_is_refused_and_the_old_pack_stays(
    tmp_path: Path, change: Callable[[Evidence, Path], Evidence]
) -> None:
    place = tmp_path / "packs" / "pack.zip"
    before = make.packed(place)
    with pytest.raises(ReleaseError, match="cannot go into an evidence pack"):
        make.packed(place, change(make.evidence(), tmp_path))
    assert place.read_bytes() == before
    assert [path.name for path in place.parent.iterdir()] == ["pack.zip"]


def linked(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "secret.html").symlink_to("/etc/passwd")
    return folder


def test_a_full_disk_leaves_the_old_pack_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = make.packed(tmp_path / "pack.zip")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packs.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        make.packed(tmp_path / "pack.zip", replace(make.evidence(), run={}))
    assert (tmp_path / "pack.zip").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["pack.zip"]


def test_the_fingerprint_is_the_one_that_the_verifier_shows() -> None:
    pem = make.signer().public_key
    assert fingerprint(pem) == sha256(read_pem(pem, "key"))


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_page_tells_the_release(tmp_path: Path) -> None:
    text = " ".join(Reader(page(tmp_path, make.evidence())).text.split())
    for expected in (
        "bike-shop 1.1.0",
        "deployed",
        "Every host of production answers with 1.1.0.",
        "rita, 2026-11-23 09:00:00 UTC",
        "Change Advisory Board: approved",
        "I am ben",
        "I am dan",
        "a rejection by cora is a veto",
        "Wave 1 of 2: 1.1.0-aaaaaaaaaaaa",
        "000000000000 deploy 1 127.20.0.11 2026-11-23 09:09:00 UTC 2026-11-23 09:24:00 UTC 2026-11-23 09:10:00 UTC",
        "No findings are recorded.",
        "No expectation was waived.",
        "board.decided",
        "release.closed",
        fingerprint(make.signer().public_key),
        make.evidence().plan.digest,  # type: ignore[union-attr]
    ):
        assert expected in text, expected


def test_the_page_tells_findings_and_waivers(tmp_path: Path) -> None:
    waiver = {
        "suite": "performance",
        "expectation": "p95_ms is at most 800",
        "by": "cora",
        "reason": "The test host is slow",
        "at": "2026-11-23T09:00:00Z",
        "until": "2026-12-01T00:00:00Z",
    }
    more: list[make.Step] = [("quality.waived", waiver), ("finding", {"what": "Somebody marked a task by hand"})]
    text = Reader(page(tmp_path, make.evidence(lambda many: [*many[:5], *more, *many[5:]]))).text
    assert "Somebody marked a task by hand" in text
    assert "The test host is slow" in text
    assert "2026-12-01 00:00:00 UTC" in text
    assert "No expectation was waived." not in text


def test_the_test_matrix_is_a_file_of_the_pack_and_a_table_on_the_page(tmp_path: Path) -> None:
    row = MatrixRow(ticket="SHOP-41", case="basket", title=HOSTILE, environment="test", state="failed", by="tess")
    what = replace(make.evidence(), matrix=[row.model_dump(mode="json")])
    files = files_of(make.packed(tmp_path / "pack.zip", what))
    assert json.loads(files["matrix.json"])["rows"][0]["state"] == "failed"
    text = files["index.html"].decode()
    assert "SHOP-41" in Reader(text).text
    assert "script" not in Reader(text).tags
    assert "matrix.json" not in files_of(make.packed(tmp_path / "other.zip", make.evidence()))


def everywhere(payload: Any) -> Any:
    """Put hostile text into every text of a payload that is for people."""
    people = ("summary", "reason", "comment", "what", "error", "title", "because", "expected", "name")
    if isinstance(payload, dict):
        return {
            key: HOSTILE if key in people and isinstance(value, str) else everywhere(value)
            for key, value in payload.items()
        }
    return [everywhere(item) for item in payload] if isinstance(payload, list | tuple) else payload


def test_nothing_that_people_wrote_means_anything_on_the_page(tmp_path: Path) -> None:
    def hostile(many: list[make.Step]) -> list[make.Step]:
        written: list[make.Step] = [(kind, everywhere(payload)) for kind, payload in many]
        return [*written, ("finding", {"what": HOSTILE}), ("back_out.done", everywhere(releases.back_out().to_xcom()))]

    what = make.evidence(hostile, summary=HOSTILE)
    text = page(tmp_path, replace(what, run={"triggered_by": HOSTILE, "run_id": HOSTILE}, logs={"a": b""}))
    reader = Reader(text)
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 8
    assert not {"script", "img", "iframe", "object", "embed", "form", "link", "base"} & set(reader.tags)
    assert not any(name.startswith("on") for name in reader.attributes)
    assert "\u202e" not in text
    assert "{{ 7*7 }}" in text


def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing(tmp_path: Path) -> None:
    files = files_of(make.packed(tmp_path / "pack.zip"))
    text = files["index.html"].decode()
    reader = Reader(text)
    assert "default-src 'none'" in text
    assert reader.targets
    assert set(reader.targets) <= set(files)
    assert not any(word in text for word in ("url(", "@import", "http://", "https://", "javascript:"))
    assert "@media print" in text


def test_a_rejection_and_a_veto_are_told_apart_from_an_approval_by_words(tmp_path: Path) -> None:
    def vetoed(many: list[make.Step]) -> list[make.Step]:
        votes = [make.vote("ben"), make.vote("dan", "Reject"), make.vote("cora", "Reject")]
        changes = {"votes": votes, "approved": False, "vetoed_by": ["cora"]}
        return [(kind, {**said, **changes} if kind == "board.decided" else said) for kind, said in many]

    text = page(tmp_path, make.evidence(vetoed))
    assert '<td class="good">Approve</td>' in text
    assert '<td class="bad">Reject</td>' in text
    assert '<td class="bad">Reject <strong>(veto)</strong></td>' in text
    assert "Change Advisory Board: vetoed" in " ".join(Reader(text).text.split())


def test_the_page_has_the_time_of_the_request_and_not_that_of_the_first_task(tmp_path: Path) -> None:
    said = Reader(page(tmp_path, make.evidence())).text
    assert "Requested by rita, 2026-11-23 09:00:00 UTC" in said

    def before_requests_were_recorded(many: list[make.Step]) -> list[make.Step]:
        return [one for one in many if one[0] != "run.asked"]

    said = Reader(page(tmp_path, make.evidence(before_requests_were_recorded))).text
    assert "Requested by rita; the request was first recorded by a task, 2026-11-23 09:00:00 UTC" in said


def test_a_field_that_a_record_lacks_does_not_keep_the_page_from_being_made(tmp_path: Path) -> None:
    text = page(tmp_path, make.evidence(lambda many: [(kind, {}) for kind, _ in many if kind != "board.decided"]))
    assert "—" in text
