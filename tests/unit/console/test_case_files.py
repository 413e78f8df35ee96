"""What testers do with test cases before the result, through the API: take them, give them back, and attach files.

Who may do what is tested on a real Airflow: ``tests/integration/test_environments_page.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
from fastapi import FastAPI

from interlock.adapters.artifacts.store import ArtifactStore, Folder
from interlock.adapters.signing.witness import only_witnessed
from interlock.console.api.problems import answer_with_problems
from interlock.console.control.lookups import OpenQuestion
from interlock.domain.ledger.chain import Entry, release_chain
from interlock.domain.ledger.kinds import CASE_ATTACHED, CASE_GIVEN_BACK, CASE_TAKEN
from interlock.domain.records import Blob
from interlock.domain.testing import attachments
from interlock.domain.testing.attachments import MAX_BYTES
from tests.factories import journeys
from tests.memory_ledger import MemoryLedger
from tests.witness import SIGNER

if TYPE_CHECKING:
    from httpx import Response

pytestmark = pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`")
RUN = ("release_repair_shop", "r1")
CHAIN, AT = release_chain(*RUN), "/dags/{}/dagRuns/{}".format(*RUN)
TASK = "quality.run_case"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


class Desk:
    """The API of a release whose second test case waits for fay or sam."""

    def __init__(self, folder: Path) -> None:
        # Not at the top: what Airflow's API imports warns.
        from airflow.api_fastapi.core_api.security import get_user
        from fastapi.testclient import TestClient

        from interlock.console.api import case_files, cases

        self.module, self.cases_module = case_files, cases
        self.store, self.ledger, self.user = ArtifactStore(Folder(folder)), MemoryLedger(), "fay"
        asked = [journeys.case("basket"), journeys.LONG_CASE]
        journeys.Journey(self.ledger, CHAIN).planned().cases("test", asked, [], self.store)
        people = {"fay": "Fay Tanaka", "sam": "Sam Novak", "rita": "Rita Reyes", "board_clerk": "the clerk"}
        self.questions = [
            OpenQuestion("Run it", TASK, 1, people),
            OpenQuestion("Sign", "quality.uat.sign_off", 0, people),
        ]
        app = FastAPI()
        answer_with_problems(app)
        app.state.open_ledger, app.state.open_artifacts = self.opened, lambda: self.store
        app.dependency_overrides[get_user] = lambda: SimpleNamespace(get_name=lambda: self.user, get_id=lambda: "7")
        run = "/dags/{dag_id}/dagRuns/{dag_run_id}"
        app.get(f"{run}/cases")(cases.own_cases)
        app.put(f"{run}/taskInstances/{{task_id}}/{{map_index}}/taker")(cases.take)
        app.delete(f"{run}/taskInstances/{{task_id}}/{{map_index}}/taker")(cases.give_back)
        app.post(f"{run}/taskInstances/{{task_id}}/{{map_index}}/files")(case_files.attach)
        app.get(f"{run}/files/{{sha256}}")(case_files.attached_file)
        self.client = TestClient(app)

    @contextmanager
    def opened(self) -> Iterator[MemoryLedger]:
        yield self.ledger

    def attach(self, data: bytes = PNG, name: str = "shot.png", **changes: Any) -> Response:
        kind = changes.get("kind", "application/octet-stream")
        path = f"{AT}/taskInstances/{changes.get('task', TASK)}/{changes.get('index', 1)}/files"
        return self.client.post(path, content=data, params={"name": name}, headers={"Content-Type": kind})

    def take(self, user: str, instead_of: str | None = None, *, index: int = 1, task: str = TASK) -> Response:
        self.user = user
        return self.client.put(f"{AT}/taskInstances/{task}/{index}/taker", json={"instead_of": instead_of})

    def give_back(self, user: str) -> Response:
        self.user = user
        return self.client.delete(f"{AT}/taskInstances/{TASK}/1/taker")

    def cases(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.client.get(f"{AT}/cases").raise_for_status().json()["cases"]
        return found

    @property
    def recorded(self) -> tuple[Entry, ...]:
        return self.ledger.entries(CHAIN, kind=CASE_ATTACHED)

    @property
    def takings(self) -> list[tuple[str, str, str]]:
        entries = self.ledger.entries(CHAIN)
        assert only_witnessed(entries, SIGNER.public_key) == entries
        found = [one for one in entries if one.kind in (CASE_TAKEN, CASE_GIVEN_BACK)]
        return [(one.kind, one.actor, one.payload.get("instead_of", "")) for one in found]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    made = Desk(tmp_path / "store")
    monkeypatch.setattr(made.cases_module, "open_questions", lambda *_: tuple(made.questions))
    for module in (made.module, made.cases_module):
        monkeypatch.setattr(module, "witness_signer", lambda: SIGNER)
    return made


def test_a_file_is_kept_by_its_digest_and_signed_and_none_takes_the_place_of_another(desk: Desk) -> None:
    first, other = PNG + b"first", PNG + b"other"
    made = desk.attach(first, "Fahrräder.png").raise_for_status().json()
    assert desk.attach(first, "renamed.png").json() == made, "the first name stands"
    desk.attach(other, "Fahrräder.png").raise_for_status()
    kept = [(one.payload["name"], one.payload["by"], one.actor) for one in desk.recorded]
    assert kept == [("Fahrräder.png", "fay", "fay")] * 2
    assert [desk.store.get_bytes(Blob(**one.payload["file"])) for one in desk.recorded] == [first, other]
    assert only_witnessed(desk.recorded, SIGNER.public_key) == desk.recorded
    (case,) = desk.cases()
    assert case["case"] == "menu"
    assert case["path"].endswith("/mapped/1/required_actions")
    assert [one["name"] for one in case["files"]] == ["Fahrräder.png"] * 2
    desk.user = "sam"
    assert desk.cases()[0]["files"] == [], "each tester has files of their own"
    desk.attach(first).raise_for_status()
    assert len(desk.recorded) == 3


@pytest.mark.parametrize(
    ("data", "name", "leaves"),
    [
        (b"<script>alert(document.cookie)</script>", "page.html", "page.html.txt"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "a.svg", "a.svg.txt"),
        (PNG, 'x"; filename="evil.exe', "x__ filename__evil.exe.png"),
        (PNG, "<img src=x onerror=alert(1)>.png", "_img src_x onerror_alert(1)_.png"),
        (PNG, "Fahrräder.png", "Fahrräder.png"),
    ],
)
def test_what_testers_attached_leaves_as_a_file_that_no_browser_shows(
    desk: Desk, data: bytes, name: str, leaves: str
) -> None:
    made = desk.attach(data, name).raise_for_status().json()
    given = desk.client.get(f"{AT}/files/{made['file']['sha256']}").raise_for_status()
    assert given.content == data
    told = given.headers
    assert (told["content-type"], told["x-content-type-options"]) == ("application/octet-stream", "nosniff")
    assert told["content-security-policy"].startswith("sandbox; default-src 'none'")
    kind, _, said = told["content-disposition"].partition("; ")
    assert kind == "attachment"
    assert unquote(said.removeprefix("filename*=utf-8''").removeprefix("filename=").strip('"')) == leaves


@pytest.mark.parametrize(
    ("status", "changes", "why"),
    [
        (413, {"data": bytes(MAX_BYTES + 1)}, "more than 20,000,000 bytes"),
        (415, {"kind": "multipart/form-data; boundary=x"}, "must be the file itself"),
        (415, {"kind": "text/plain"}, "must be the file itself"),
        (422, {"data": b""}, "is empty"),
        (422, {"data": b"MZ\x90\0"}, "whatever its name says"),
        (422, {"name": "gpj.\u202eexe"}, "U+202E"),
        (422, {"name": "a\r\nX: y.png"}, "U+000D"),
        (422, {"name": "../../etc/cron.d/x"}, "a slash"),
        (422, {"index": "one"}, "map_index"),
        (404, {"task": "quality.uat.sign_off", "index": 0}, "asks nobody for test cases"),
        (409, {"index": 0}, "does not wait for a result"),
    ],
)
def test_what_cannot_be_attached_is_refused_with_the_reason(
    desk: Desk, status: int, changes: dict[str, Any], why: str
) -> None:
    answer = desk.attach(**changes)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert why in answer.json()["detail"]
    assert desk.recorded == ()


def test_whose_result_would_not_count_attaches_nothing(desk: Desk) -> None:
    desk.user = "rita"
    refused = desk.attach()
    assert refused.status_code == 403
    assert "this test case is for Fay Tanaka, Sam Novak or Rita Reyes" in refused.json()["detail"]
    assert desk.cases() == []
    assert desk.recorded == ()


def test_a_file_that_was_changed_in_the_store_is_not_given_out(desk: Desk) -> None:
    made = desk.attach().raise_for_status().json()
    Path(unquote(made["file"]["uri"].removeprefix("file://"))).write_bytes(b"another")
    assert desk.client.get(f"{AT}/files/{made['file']['sha256']}").status_code == 503
    assert desk.client.get(f"{AT}/files/{'0' * 64}").status_code == 404
    assert desk.client.get(f"{AT}/files/..%2f..%2fetc%2fpasswd").status_code == 404


def test_a_result_that_is_given_while_a_file_is_sent_is_the_end_of_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = desk.module._received

    async def answered_meanwhile(*args: Any) -> int:
        size = await received(*args)
        desk.questions.pop(0)
        return size

    monkeypatch.setattr(desk.module, "_received", answered_meanwhile)
    assert desk.attach().status_code == 409
    assert desk.recorded == ()


def test_of_two_files_that_are_sent_at_once_the_second_is_weighed_with_the_first(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = PNG + bytes(100)
    monkeypatch.setattr(attachments, "MAX_BYTES_OF_RELEASE", len(first))
    waiting = desk.ledger.turn

    @contextmanager
    def after_another(name: str) -> Iterator[None]:
        monkeypatch.setattr(desk.ledger, "turn", waiting)
        desk.attach(first).raise_for_status()
        with waiting(name):
            yield

    monkeypatch.setattr(desk.ledger, "turn", after_another)
    refused = desk.attach(PNG + b"second")
    assert refused.status_code == 422
    assert "whose evidence pack has them" in refused.text
    assert len(desk.recorded) == 1


def test_other_testers_see_who_is_at_a_case_and_since_when(desk: Desk) -> None:
    taken = desk.take("fay").raise_for_status().json()["taker"]
    assert taken["user"] == "fay"
    desk.user = "sam"
    assert desk.cases()[0]["taker"] == taken
    assert desk.take("fay", "sam").json()["taker"] == taken, "again: the first note stands"
    assert desk.give_back("sam").status_code == 409
    assert desk.give_back("fay").json() == desk.give_back("fay").json() == {"taker": None}
    assert desk.cases()[0]["taker"] is None
    assert desk.take("sam").json()["taker"]["user"] == "sam"
    assert desk.takings == [(CASE_TAKEN, "fay", ""), (CASE_GIVEN_BACK, "fay", ""), (CASE_TAKEN, "sam", "")]


def test_a_case_is_taken_over_from_the_person_whom_the_tester_has_seen_at_it(desk: Desk) -> None:
    desk.take("fay").raise_for_status()
    refused = desk.take("sam")
    assert refused.status_code == 409
    assert "fay is at it since 20" in refused.json()["detail"]
    assert desk.take("sam", "fay").json()["taker"]["user"] == "sam"
    assert desk.give_back("fay").status_code == 409, "she is not at it any more"
    assert desk.takings == [(CASE_TAKEN, "fay", ""), (CASE_TAKEN, "sam", "fay")]
    desk.attach().raise_for_status()


def test_only_those_whose_result_would_count_take_a_case_and_only_before_it(desk: Desk) -> None:
    assert desk.take("rita").status_code == 403
    assert desk.take("fay", index=0).status_code == 409
    assert desk.take("fay", index=0, task="quality.uat.sign_off").status_code == 404
    path = f"{AT}/taskInstances/{TASK}/1/taker"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert desk.client.put(path, content="instead_of=fay", headers=form).status_code == 422
    assert desk.takings == []
