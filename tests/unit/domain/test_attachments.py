"""Files that testers attach to test cases: what they are, their names, and to which result they belong."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.domain.board.questions import ASK_TESTERS
from interlock.domain.errors import RequestRefused
from interlock.domain.ledger.kinds import ANSWER_GIVEN, CASE_ATTACHED
from interlock.domain.ledger.witness import GivenAnswer
from interlock.domain.testing import attachments
from interlock.domain.testing.attachments import ENDINGS, Attachment, answered_with, kind_of, refuse_more, refuse_name
from tests.factories import releases
from tests.memory_ledger import MemoryLedger

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
CHAIN = "release/release_bike_shop/r1"


def attached(name: str = "shot.png", **changes: Any) -> Attachment:
    usual = {"environment": "test", "case": "basket", "by": "tess", "kind": "png", "binds": "b" * 64}
    return Attachment(**{**usual, "name": name, "file": releases.blob(name, "1"), **changes})


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PNG, "png"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "jpg"),
        (b"GIF89a" + bytes(9), "gif"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "webp"),
        (b"%PDF-1.7\n%\xe2\xe3", "pdf"),
        (b"PK\x03\x04\x14\0", "zip"),
        (b"\0\0\0\x20ftypisom", "mp4"),
        (b"\x1a\x45\xdf\xa3\x9f", "webm"),
        ("2026-11-23 \x1b[31mFehler\x1b[0m: Räder\r\n\tfehlen".encode(), "txt"),
        (b"<script>alert(1)</script>", "txt"),
        (("ä" * 70_000).encode(), "txt"),
    ],
)
def test_a_file_is_what_its_bytes_say(data: bytes, kind: str) -> None:
    file = io.BytesIO(data)
    assert kind_of(file) == kind
    assert file.read() == data, "it is kept from its beginning on"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"MZ\x90\0\x03",
        b"\x7fELF\x02\x01",
        b"#!/bin/sh\n\0",
        b"RIFF\x10\0\0\0WAVEfmt ",
        b"xxxxxxxxWEBP\0",
        b"text, and later " + bytes(3) + b"\xff",
        "abgeschnitten ä".encode()[:-1],
        b"\xff\xfeU\0T\0F\0",
    ],
)
def test_what_is_of_no_such_kind_is_refused(data: bytes) -> None:
    with pytest.raises(RequestRefused, match="is empty" if not data else "whatever its name says"):
        kind_of(io.BytesIO(data))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "0 characters"),
        ("   ", "not only spaces"),
        ("x" * 151, "151 characters"),
        ("a\r\nSet-Cookie: x=1.png", r"U\+000D"),
        ("\0.png", r"U\+0000"),
        ("gpj.\u202eexe", r"U\+202E"),
        ("a\u200b.png", r"U\+200B"),
        ("a\u2028b.png", r"U\+2028"),
        ("\ud800.png", r"U\+D800"),
        ("../../etc/passwd", "a slash"),
        (r"..\..\boot.ini", "a slash"),
    ],
)
def test_a_name_that_hides_something_is_refused(name: str, why: str) -> None:
    with pytest.raises(RequestRefused, match=why):
        refuse_name(name)


@pytest.mark.parametrize(
    ("name", "kind", "leaves"),
    [
        ("Bildschirmfoto 2026-11-30 um 10.00.00.PNG", "png", "Bildschirmfoto 2026-11-30 um 10.00.00.png"),
        ("Fahrräder.jpeg", "jpg", "Fahrräder.jpeg"),
        ("trace.har", "txt", "trace.har"),
        ("invoice.exe", "png", "invoice.exe.png"),
        ("page.html", "txt", "page.html.txt"),
        ("macro.docm", "zip", "macro.docm.zip"),
        ("=cmd|' -C calc'!A0.csv", "txt", "_cmd__ -C calc__A0.csv.txt"),
        ('a"; filename="evil.exe.png', "png", "a__ filename__evil.exe.png"),
        ("<img src=x onerror=alert(1)>.gif", "gif", "_img src_x onerror_alert(1)_.gif"),
        ("report.txt:hidden.exe", "txt", "report.txt_hidden.exe.txt"),
        ("-rf.png", "png", "rf.png"),
        (".bashrc", "txt", "bashrc.txt"),
        ("...", "txt", "file.txt"),
        ("CON.png", "png", "_CON.png"),
        ("lpt1.old.txt", "txt", "_lpt1.old.txt"),
        ("$(reboot).png", "png", "_(reboot).png"),
    ],
)
def test_a_file_leaves_under_a_name_that_is_safe_and_says_its_kind(name: str, kind: Any, leaves: str) -> None:
    refuse_name(name)
    assert attached(name, kind=kind).leaves_as == leaves


@given(name=st.text(min_size=1, max_size=150), kind=st.sampled_from(list(ENDINGS)))
def test_no_name_leaves_unsafely(name: str, kind: Any) -> None:
    try:
        refuse_name(name)
    except RequestRefused:
        return
    leaves = attached(name, kind=kind).leaves_as
    assert leaves.rpartition(".")[2] in ENDINGS[kind]
    assert not set(leaves) & set("/\\\"';:*?<>|&$`%\r\n\0")
    assert leaves[0] not in ".- "


def test_a_tester_attaches_ten_files_to_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    known = [attached(f"{number}.png") for number in range(10)]
    with pytest.raises(RequestRefused, match="10 files"):
        refuse_more(known, "tess", "b" * 64, 1)
    refuse_more(known, "tom", "b" * 64, 1)
    refuse_more(known, "tess", "c" * 64, 1)
    # One content counts once, however many cases it is attached to.
    monkeypatch.setattr(attachments, "MAX_BYTES_OF_RELEASE", known[0].file.size + 5)
    refuse_more(known, "tom", "b" * 64, 5)
    with pytest.raises(RequestRefused, match="evidence pack"):
        refuse_more(known, "tom", "b" * 64, 6)


def test_a_file_belongs_to_the_result_that_its_tester_gave_after_it() -> None:
    ledger, asked = MemoryLedger(), ["a" * 64, "b" * 64]

    def put(kind: str, what: Any) -> None:
        ledger.append(CHAIN, kind, what.model_dump(mode="json"), actor="x", key=str(len(ledger.entries(CHAIN))))

    def answer(user: str, index: int, task: str = ASK_TESTERS) -> None:
        put(ANSWER_GIVEN, GivenAnswer(user=user, task_id=task, map_index=index, choice="Passed"))

    put(CASE_ATTACHED, attached("first.png"))
    put(CASE_ATTACHED, attached("of-tom.png", by="tom"))
    put(CASE_ATTACHED, attached("of-another-case.png", binds="a" * 64))
    answer("tess", 1, "quality.staging.run_case")
    answer("tess", 7)
    assert answered_with(ledger.entries(CHAIN), ASK_TESTERS, asked) == ()
    answer("tess", 1)
    put(CASE_ATTACHED, attached("too-late.png"))
    names = [one.name for one in answered_with(ledger.entries(CHAIN), ASK_TESTERS, asked)]
    assert names == ["first.png"]
    answer("tess", 1)  # the first one was lost, and the question was asked again
    assert [one.name for one in answered_with(ledger.entries(CHAIN), ASK_TESTERS, asked)] == [
        "first.png",
        "too-late.png",
    ]
