from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import httpx
import pytest

from interlock.console.control import rules
from interlock.console.control.current_request import READING, App, CurrentRequest, under_way
from interlock.console.control.middleware import MAX_BODY_BYTES, ReleaseControl
from interlock.console.control.task_requests import Lookups
from interlock.console.record.attempts import Attempt
from interlock.domain.board.accounts import DOUBTED
from interlock.domain.calendars.stops import EmergencyStop
from interlock.domain.dag_names import run_name, unsafe_run
from interlock.domain.errors import TransientError
from interlock.domain.ledger.chain import INSTALLATION
from interlock.domain.ledger.kinds import (
    BASELINE_SEEN,
    DEFECT_OPENED,
    EMERGENCY_STOP_DECLARED,
    EMERGENCY_STOP_LIFTED,
    FINDING,
    RELEASE_ENDED,
    RELEASE_WITHDRAWN,
    RUN_ASKED,
    VERIFICATION_JUDGED,
    VERSION_MARKED_BAD,
)
from interlock.domain.testing.defects import new_defects
from interlock.domain.trains.manifest import CONDUCTOR
from interlock.stages.runtime import resources
from tests.factories import releases
from tests.memory_ledger import MemoryLedger
from tests.unit.console.conftest import Airflows
from tests.unit.domain.test_test_matrix import result
from tests.unit.domain.test_train_manifest import boarded, manifest

CATALOGUE = Path(__file__).parents[3] / "include" / "catalogue"
ROUTE = "/api/v2/dags/release_bike_shop/dagRuns"
OURS = Lookups(
    source=lambda scope: None,
    of_asset=lambda by, name: (),
    stranger=lambda dag_id: "",
    runs_under_way=frozenset,
    ref=lambda service, ref: service.name == "bike-shop" and ref != "9.9.9",
    paused_at=lambda asked: None,
)
"""Every Dag is what its name says, no task can be told by its token, and of versions the repository lacks 9.9.9."""
GOOD = {"ref": "1.1.0", "version": "1.1.0", "summary": "Sell bikes"}


class Behind:
    """What is behind the door: it keeps what came through, and answers with it."""

    def __init__(self) -> None:
        self.came: list[tuple[str, bytes]] = []
        self.sizes: list[int] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.came.append((scope["path"], body))
        self.sizes.append(int(dict(scope.get("headers", ())).get(b"content-length", -1)))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
def behind() -> Behind:
    return Behind()


CHAIN = "release/train_weekly/scheduled__2027-03-02T19:00:00+00:00"


def asked_by(user: str) -> Any:
    async def who(scope: Any) -> str:
        return user

    return who


def having(roles: frozenset[str] | None) -> Any:
    async def which(scope: Any) -> frozenset[str] | None:
        return roles

    return which


async def rita(scope: Any) -> str:
    return "rita"


def ask(
    behind: App,
    path: str,
    body: Any = None,
    *,
    method: str = "POST",
    catalogue: Path = CATALOGUE,
    note: Any = None,
    note_run: Any = lambda *_: None,
    user: str = "rita",
    ledger: MemoryLedger | None = None,
    lookups: Lookups = OURS,
    kind: str = "application/json",
    headers: dict[str, str] | None = None,
    roles: frozenset[str] | None = frozenset(),
) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def send() -> httpx.Response:
        ledgers = ledger or MemoryLedger()
        who = asked_by(user)
        door = ReleaseControl(behind, catalogue, note, note_run, who, lambda: ledgers, lookups, having(roles))
        transport = httpx.ASGITransport(app=door)
        async with httpx.AsyncClient(transport=transport) as client:
            sent = {**({"Content-Type": kind} if kind else {}), **(headers or {})}
            return await client.request(method, f"http://airflow{path}", content=content, headers=sent)

    return anyio.run(send)


def test_a_release_that_can_be_asked_for_comes_through_byte_for_byte(behind: Behind) -> None:
    body = json.dumps({"conf": GOOD, "logical_date": None, "dag_run_id": "r1"}, indent=3).encode()
    assert ask(behind, ROUTE, body).status_code == 200
    assert behind.came == [(ROUTE, body)]


@pytest.mark.parametrize(
    ("dag_id", "conf", "name"),
    [
        pytest.param("release_bike_shop", GOOD, r"1\.1\.0__{at}", id="release"),
        pytest.param("release_bike_shop", {**GOOD, "version": "2.0.0-rc.1+5"}, r"2\.0\.0-rc\.1-5__{at}", id="build"),
        pytest.param("release_bike_shop", {**GOOD, "rehearsal": True}, r"1\.1\.0__{at}__rehearsal", id="rehearsal"),
        pytest.param("rollback_bike_shop", {"reason": "Loses orders"}, "no-version__{at}", id="rollback"),
        pytest.param("train_weekly", {"departure": None}, "by-hand__{at}", id="train"),
    ],
)
@pytest.mark.parametrize("more", [{}, {"dag_run_id": None}], ids=["without", "none"])
def test_a_run_without_a_name_is_named_by_what_it_is_about(
    behind: Behind, dag_id: str, conf: dict[str, Any], name: str, more: dict[str, Any]
) -> None:
    said = {"conf": conf, "logical_date": None, "note": "🚲", **more}
    assert ask(behind, f"/api/v2/dags/{dag_id}/dagRuns", said).status_code == 200
    ((_, body),) = behind.came
    came = json.loads(body)
    run_id = came.pop("dag_run_id")
    assert re.fullmatch(name.format(at=r"20\d\d-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}Z"), run_id)
    assert (unsafe_run(run_id), quote(run_id, safe="")) == ("", run_id)
    assert came == {key: value for key, value in said.items() if key != "dag_run_id"}
    assert behind.sizes == [len(body)]


def test_airflow_names_the_runs_of_dags_that_stop_and_watch(behind: Behind) -> None:
    body = json.dumps({"conf": {"reason": "Payments fail"}, "logical_date": None}, indent=3).encode()
    assert ask(behind, "/api/v2/dags/emergency_stop/dagRuns", body).status_code == 200
    assert [came for _, came in behind.came] == [body]


def test_a_later_name_sorts_after_an_earlier_one() -> None:
    at = datetime(2026, 11, 28, 20, 15, 3, 412_000, tzinfo=UTC)
    names = [run_name("1.1.0", at + timedelta(milliseconds=step)) for step in (0, 1, 600, 60_000)]
    assert names[0] == "1.1.0__2026-11-28T20-15-03.412Z"
    assert sorted(set(names)) == names


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        pytest.param({**GOOD, "version": "one"}, "version: found 'one'", id="version"),
        pytest.param({**GOOD, "ref": "--upload-pack=x"}, "ref: found", id="ref"),
        pytest.param({"ref": "1.1.0"}, "version: missing", id="missing"),
        pytest.param({**GOOD, "hosts": ["mine"]}, "not a field of the form", id="unknown field"),
        pytest.param(None, "no conf", id="no conf"),
        pytest.param(["ref"], "no conf", id="conf is a list"),
    ],
)
def test_one_that_cannot_is_answered_with_the_reason(behind: Behind, conf: Any, said: str) -> None:
    answer = ask(behind, ROUTE, {"conf": conf, "logical_date": None})
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
    assert not behind.came


@pytest.mark.parametrize(
    "path",
    [
        "/api/v2/dags/release_bike_shop/dagRuns/",
        "//api//v2//dags//release_bike_shop//dagRuns//",
        "/api/v2/dags/release%5Fbike%5Fshop/dagRuns",
        "/api/v2/dags/RELEASE_bike_shop/DAGRUNS",
        "/airflow/api/v2/dags/release_bike_shop/dagRuns",
        "/api/v2/dags/release_bike_shop/dagRuns?x=1",
    ],
)
def test_no_way_of_writing_the_path_slips_by(behind: Behind, path: str) -> None:
    assert ask(behind, path, {"conf": {}}).status_code == 422
    assert not behind.came


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b'{"conf": {"ref": "1.1.0"', id="cut off"),
        pytest.param(b"[1]", id="a list"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
        pytest.param(b"[" * 50_000, id="too deep"),
        pytest.param(b'{"conf": {}, "conf": {"ref": "1.1.0"}}', id="a key twice"),
    ],
)
def test_what_cannot_be_read_is_refused(behind: Behind, body: bytes) -> None:
    answer = ask(behind, ROUTE, body)
    assert answer.status_code == 422
    assert "not valid JSON" in answer.json()["detail"]
    assert not behind.came


def test_a_request_larger_than_any_form_is_refused(behind: Behind) -> None:
    answer = ask(behind, ROUTE, {"conf": {**GOOD, "summary": "x" * MAX_BODY_BYTES}})
    assert "larger than" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "is_refused"),
    [
        ("/execution/dag-runs/release_bike_shop/run", True),
        ("/execution/dag-runs/release_bike_shop/run/clear", True),
        ("/execution/dag-runs/reconcile/run/clear", True),
        ("/execution/dag-runs/train_weekly/run", True),
        ("/execution/dag-runs/emergency_stop/run", False),
        ("/execution/dag-runs/nightly/run", False),
        ("/execution/dag-runs/nightly/run/clear", False),
    ],
)
def test_no_task_of_another_dag_starts_or_clears_a_release(behind: Behind, path: str, is_refused: bool) -> None:
    noted: list[Attempt] = []
    answer = ask(behind, path, {}, note=noted.append)
    assert (answer.status_code == 403) == is_refused
    assert [(one.user, one.dag_id, one.run_id) for one in noted] == (
        [("a task", path.split("/")[3], "run")] if is_refused else []
    )
    assert bool(behind.came) != is_refused


def test_whoever_is_called_within_a_request_knows_what_it_would_change() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        seen.append((under_way(), message["body"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    ask(app, "/api/v2/dags/nightly/dagRuns/r", {"state": "failed"}, method="PATCH")
    ask(app, "/api/v2/dags/nightly", method="GET")
    asked = seen[0][0]
    assert isinstance(asked, CurrentRequest)
    assert (asked.method, asked.names, asked.content) == (
        "PATCH",
        {"dag_id": "nightly", "dag_run_id": "r"},
        {"state": "failed"},
    )
    assert seen[1][0] is READING
    assert under_way() is None


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v2/dags/nightly/dagRuns"),
        ("POST", "/api/v2/dags/~/dagRuns/list"),
        ("GET", ROUTE),
        ("PATCH", ROUTE),
        ("POST", "/api/v2/dags/release_bike_shop/clearTaskInstances"),
        ("POST", "/auth/token"),
    ],
)
def test_everything_else_passes_unread(behind: Behind, method: str, path: str) -> None:
    assert ask(behind, path, b"not json", method=method).status_code == 200
    assert behind.came == [(path, b"not json")]


def test_a_service_that_left_the_catalogue_cannot_be_released(behind: Behind, airflows: Airflows) -> None:
    airflows.has("release_car_shop", "release.py")
    answer = ask(behind, "/api/v2/dags/release_car_shop/dagRuns", {"conf": GOOD})
    assert answer.status_code == 422
    assert "car-shop" in answer.json()["detail"]


@pytest.mark.parametrize("dag_id", ["release_tables", "rollback_tables", "train_model"])
def test_a_dag_of_others_is_theirs_whatever_it_is_called(behind: Behind, airflows: Airflows, dag_id: str) -> None:
    airflows.has(dag_id, "ml/pipeline.py", bundle="data-team")
    for path in (f"/api/v2/dags/{dag_id}/dagRuns", f"/execution/dag-runs/{dag_id}/run/clear"):
        assert ask(behind, path, {"conf": {"any": "thing"}, "dag_run_id": "~"}).status_code == 200
    assert len(behind.came) == 2


@pytest.mark.parametrize("dag_id", ["release_bike_shop", "rollback_bike_shop", "train_weekly", "emergency_stop"])
@pytest.mark.parametrize("run_id", [".", "..", "~", "", "a/b", "a b", "r" * 251, 7, ["x"], "x\n", "é"])
def test_no_run_under_control_is_called_what_an_address_cannot_say(behind: Behind, dag_id: str, run_id: Any) -> None:
    answer = ask(behind, f"/api/v2/dags/{dag_id}/dagRuns", {"conf": GOOD, "dag_run_id": run_id})
    assert answer.status_code == 422
    assert "leave dag_run_id out" in answer.json()["detail"]
    assert not behind.came


def test_a_run_may_be_named_as_airflow_and_the_trains_name_theirs(behind: Behind) -> None:
    for run_id in (None, "manual__2026-11-23T06:17:00+00:00", "1.1.0__2027-03-02T19-00-00.000Z__weekly", "r1"):
        assert ask(behind, ROUTE, {"conf": GOOD, "dag_run_id": run_id}).status_code == 200


BALLOT = "/api/v2/dags/release_bike_shop/dagRuns/r/taskInstances/rollout.cast_ballot/0/hitlDetails"


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", ROUTE), ("POST", "/api/v2/dags/emergency_stop/dagRuns"), ("PATCH", BALLOT)],
    ids=["release", "stop", "answer"],
)
def test_nobody_talks_to_a_dag_that_only_bears_the_name(behind: Behind, method: str, path: str) -> None:
    noted: list[Attempt] = []
    strangers = replace(OURS, stranger=lambda dag_id: f"{dag_id} is not Interlock's.")
    answer = ask(behind, path, {"conf": GOOD}, method=method, lookups=strangers, note=noted.append)
    assert answer.status_code == 403
    assert "is not Interlock's" in answer.json()["detail"]
    assert not behind.came
    assert [one.user for one in noted] == ["rita"]


@pytest.mark.parametrize(
    ("refused", "browser", "status"),
    [
        pytest.param(403, True, 470, id="a refusal, at a form"),
        pytest.param(422, True, 470, id="an incomplete answer, at a form"),
        pytest.param(403, False, 403, id="a refusal, to a program"),
        pytest.param(503, True, 503, id="what the form tries again"),
        pytest.param(200, True, 200, id="an answer that is taken"),
    ],
)
def test_a_form_is_told_why_an_answer_is_refused(refused: int, browser: bool, status: int) -> None:
    """Airflow's UI shows its own words for each status that it knows, and the reason of none."""

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": refused, "headers": []})
        await send({"type": "http.response.body", "body": b"the reason"})

    mode = {"Sec-Fetch-Mode": "cors"} if browser else {}
    answer = ask(behind, BALLOT, {"chosen_options": ["Approve"]}, method="PATCH", headers=mode)
    assert (answer.status_code, answer.text) == (status, "the reason")
    assert ask(behind, f"{BALLOT}/other", {}, method="PATCH", headers=mode).status_code == refused


def test_with_a_broken_catalogue_nothing_can_be_released(behind: Behind, tmp_path: Path) -> None:
    answer = ask(behind, ROUTE, {"conf": GOOD}, catalogue=tmp_path)
    assert answer.status_code == 422
    assert "catalogue" in answer.json()["detail"]
    assert not behind.came


def test_a_body_in_pieces_is_read_whole_and_a_client_that_goes_is_let_go(behind: Behind) -> None:
    body = json.dumps({"conf": GOOD, "dag_run_id": "r1"}).encode()
    pieces = [{"type": "http.request", "body": bytes([byte]), "more_body": True} for byte in body]

    def run(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": ROUTE}
        nothing = having(frozenset())
        door = ReleaseControl(behind, CATALOGUE, None, lambda *_: None, rita, lookups=OURS, roles=nothing)
        anyio.run(door, scope, receive, send)
        return sent

    assert run([*pieces, {"type": "http.request", "body": b"", "more_body": False}])[0]["status"] == 200
    assert behind.came == [(ROUTE, body)]
    assert run([*pieces[:3], {"type": "http.disconnect"}]) == []
    assert len(behind.came) == 1


def test_websockets_and_the_life_of_the_server_pass(behind: Behind) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    for kind in ("websocket", "lifespan"):
        anyio.run(ReleaseControl(app, CATALOGUE), {"type": kind, "path": ROUTE}, None, None)
    assert seen == ["websocket", "lifespan"]


def test_the_catalogue_is_the_one_that_the_environment_names(
    behind: Behind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERLOCK_CATALOGUE", str(tmp_path))
    door = ReleaseControl(behind, lookups=OURS, open_ledger=MemoryLedger)
    assert "catalogue" in door._refusal("release_bike_shop", json.dumps({"conf": GOOD}).encode(), "rita")
    monkeypatch.delenv("INTERLOCK_CATALOGUE")
    assert door._refusal("release_bike_shop", json.dumps({"conf": GOOD}).encode(), "rita") == ""


@pytest.mark.parametrize("rehearsal", [False, True])
def test_a_tag_or_branch_that_does_not_exist_is_refused_at_the_form(behind: Behind, rehearsal: bool) -> None:
    answer = ask(behind, ROUTE, {"conf": {**GOOD, "ref": "9.9.9", "version": "9.9.9", "rehearsal": rehearsal}})
    assert answer.status_code == 422
    assert "The repository of bike-shop has no tag or branch '9.9.9'" in answer.json()["detail"]
    assert not behind.came


def test_a_repository_that_cannot_be_read_refuses_nothing(behind: Behind) -> None:
    def unreachable(service: Any, ref: str) -> bool:
        raise TransientError("The repository does not answer.")

    assert ask(behind, ROUTE, {"conf": GOOD}, lookups=replace(OURS, ref=unreachable)).status_code == 200


def test_for_who_is_not_logged_in_no_repository_is_read(behind: Behind) -> None:
    assert ask(behind, ROUTE, {"conf": {**GOOD, "ref": "9.9.9", "version": "9.9.9"}}, user="").status_code == 200
    assert len(behind.came) == 1, "Airflow itself refuses it"


# --- rollbacks -------------------------------------------------------------------------------------------------------

BACK_ROUTE = "/api/v2/dags/rollback_bike_shop/dagRuns"
BACK = {"version": "1.1.0", "reason": "The basket is broken", "incident": ""}


@pytest.fixture
def past() -> MemoryLedger:
    """A ledger by which production ran some versions."""
    kept = MemoryLedger()
    for service, version, outcome in (
        ("bike-shop", "1.0.0", "deployed"),
        ("bike-shop", "1.1.0", "deployed"),
        ("bike-shop", "1.2.0", "backed_out"),
        ("till", "2.0.0", "deployed"),
    ):
        told = {"service": service, "version": version, "outcome": outcome}
        kept.append(INSTALLATION, RELEASE_ENDED, told, actor="closure", key=version)
    return kept


@pytest.mark.parametrize("version", ["1.1.0", "1.0.0", "", None])
def test_a_rollback_to_what_production_ran_comes_through(behind: Behind, past: MemoryLedger, version: str) -> None:
    said = {"conf": {**BACK, "version": version}, "logical_date": None, "dag_run_id": "r1"}
    body = json.dumps(said, indent=3).encode()
    assert ask(behind, BACK_ROUTE, body, ledger=past).status_code == 200
    assert behind.came == [(BACK_ROUTE, body)]


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({**BACK, "version": "1.2.0"}, "Next: choose one of 1.0.0"),
        ({**BACK, "version": "2.0.0"}, "production never ran 2.0.0"),
        ({**BACK, "version": "one"}, "not a semantic version"),
        ({**BACK, "reason": ""}, "reason: "),
        ({**BACK, "hosts": ["mine"]}, "hosts: "),
        (None, "no conf"),
    ],
)
def test_any_other_is_answered_with_the_reason(behind: Behind, past: MemoryLedger, conf: Any, said: str) -> None:
    answer = ask(behind, BACK_ROUTE, {"conf": conf, "logical_date": None}, ledger=past)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
    assert not behind.came


def test_what_ran_before_any_release_is_named_as_that_and_is_no_way_back(behind: Behind, past: MemoryLedger) -> None:
    for service, host, release in (
        ("bike-shop", "127.0.0.1", "0.9.0-rc.1-aaaaaaaaaaaa"),
        ("bike-shop", "127.0.0.2", "0.9.0-rc.1-aaaaaaaaaaaa"),
        ("bike-shop", "127.0.0.3", None),
        ("till", "127.0.0.4", "0.8.0-bbbbbbbbbbbb"),
    ):
        seen = {"service": service, "environment": "production", "host": host, "release": release}
        past.append(INSTALLATION, BASELINE_SEEN, seen, actor="reconcile", key=f"seen/{host}")
    answer = ask(behind, BACK_ROUTE, {"conf": {**BACK, "version": "0.9.0-rc.1"}}, ledger=past)
    assert answer.status_code == 422
    said = answer.json()["detail"]
    assert "2 hosts of production ran 0.9.0-rc.1 when Interlock first looked (20" in said
    assert "its artifact, quality report and acceptance are not on record" in said
    assert "choose one of 1.0.0" in said
    for version in ("0.8.0", "0.9.0"):  # another service's, and nobody's
        answer = ask(behind, BACK_ROUTE, {"conf": {**BACK, "version": version}}, ledger=past)
        assert f"production never ran {version}" in answer.json()["detail"]
    assert not behind.came


def test_nothing_goes_back_to_what_is_marked_bad(behind: Behind, past: MemoryLedger) -> None:
    mark = {"service": "bike-shop", "environment": "production", "version": "1.1.0", "reason": "Loses baskets"}
    past.append(INSTALLATION, VERSION_MARKED_BAD, {**mark, "by": "rita"}, actor="rita", key="mark")
    said = ask(behind, BACK_ROUTE, {"conf": BACK}, ledger=past).json()["detail"]
    assert "1.1.0 of bike-shop is marked bad in production by rita" in said
    assert "choose one of 1.0.0" in said
    assert not behind.came


def test_without_a_ledger_no_rollback_is_asked_for(behind: Behind) -> None:
    class Broken(MemoryLedger):
        def entries(self, chain: str, **_: Any) -> Any:
            raise TransientError("The ledger does not answer.")

    answer = ask(behind, BACK_ROUTE, {"conf": BACK}, ledger=Broken())
    assert answer.status_code == 422
    assert "The ledger does not answer" in answer.json()["detail"]
    assert not behind.came


# --- emergency stops ------------------------------------------------------------------------------------------------


LATER = f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%dT%H:%M:%SZ}"


def stopped(past: MemoryLedger, scope: str = "everything") -> MemoryLedger:
    """Declare an emergency stop for the next hour."""
    until = datetime.now(UTC) + timedelta(hours=1)
    stop = EmergencyStop(id="a1", scope=scope, reason="The warehouse burns", by="olga", until=until)
    past.append(INSTALLATION, EMERGENCY_STOP_DECLARED, stop.model_dump(mode="json"), actor="olga", key="stop")
    return past


@pytest.mark.parametrize(("route", "conf"), [(ROUTE, GOOD), (BACK_ROUTE, BACK)])
@pytest.mark.parametrize("scope", ["everything", "retail", "bike-shop"])
def test_what_an_emergency_stop_keeps_from_production_is_refused_at_the_form(
    behind: Behind, past: MemoryLedger, route: str, conf: Any, scope: str
) -> None:
    answer = ask(behind, route, {"conf": conf, "logical_date": None}, ledger=stopped(past, scope))
    assert answer.status_code == 422
    said = answer.json()["detail"]
    assert f"An emergency stop is in force: {scope}, by olga: The warehouse burns" in said
    assert "users who may trigger emergency_stop can lift it" in said
    assert not behind.came


@pytest.mark.parametrize(
    ("scope", "more"),
    [
        pytest.param("car-shop", {}, id="of another service"),
        pytest.param("everything", {"rehearsal": True}, id="a rehearsal"),
        pytest.param("everything", {"not_before": LATER}, id="when the stop is over"),
    ],
)
def test_what_a_stop_does_not_matter_to_comes_through(
    behind: Behind, past: MemoryLedger, scope: str, more: dict[str, Any]
) -> None:
    body = {"conf": {**GOOD, **more}, "logical_date": None}
    assert ask(behind, ROUTE, body, ledger=stopped(past, scope)).status_code == 200


def test_a_lifted_stop_refuses_nothing(behind: Behind, past: MemoryLedger) -> None:
    stopped(past).append(INSTALLATION, EMERGENCY_STOP_LIFTED, {"id": "a1", "by": "maya"}, actor="maya", key="lift")
    assert ask(behind, ROUTE, {"conf": GOOD, "logical_date": None}, ledger=past).status_code == 200


def test_a_release_is_requested_although_the_ledger_does_not_say_whether_it_is_stopped(behind: Behind) -> None:
    class Broken(MemoryLedger):
        def entries(self, chain: str, **_: Any) -> Any:
            raise TransientError("The ledger does not answer.")

    assert ask(behind, ROUTE, {"conf": GOOD, "logical_date": None}, ledger=Broken()).status_code == 200


# --- the other forms -------------------------------------------------------------------------------------------------

MARK = {"service": "bike-shop", "version": "1.1.1", "reason": "Loses baskets"}
REVIEW = {
    "service": "bike-shop",
    "run": "manual__1",
    "went_well": "The way back",
    "to_change": "More tests",
    "participants": "ben",
}


@pytest.fixture
def reviewable(past: MemoryLedger) -> MemoryLedger:
    """A ledger by which an emergency release was deployed, and not reviewed."""
    told = {
        "run": "release_bike_shop/manual__1",
        "service": "bike-shop",
        "version": "1.1.1",
        "change_type": "emergency",
        "outcome": "deployed",
        "planned": True,
    }
    kept = MemoryLedger()
    kept.append(INSTALLATION, RELEASE_ENDED, told, actor="closure", key="emergency")
    doubted = {"what": "ben's password was reset", "found": DOUBTED, "evidence": {"user": "ben", "account": "0" * 64}}
    kept.append(INSTALLATION, FINDING, doubted, actor="api", key="doubted")
    return kept


@pytest.mark.parametrize(
    ("dag_id", "conf"),
    [
        ("emergency_stop", {"reason": "Payments fail", "incident": None}),
        ("emergency_stop", {"reason": "It is over", "lift": "a1"}),
        ("emergency_stop", {"reason": "It is over", "lift": "everything"}),
        ("mark_version", MARK),
        ("mark_version", {**MARK, "environment": "test", "verdict": "pin"}),
        ("review_release", REVIEW),
        ("confirm_account", {"user": "ben", "reason": "He called me"}),
    ],
)
def test_other_forms_come_through(behind: Behind, reviewable: MemoryLedger, dag_id: str, conf: dict[str, Any]) -> None:
    answer = ask(behind, f"/api/v2/dags/{dag_id}/dagRuns", {"conf": conf}, ledger=stopped(reviewable))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("dag_id", "conf", "said"),
    [
        ("emergency_stop", None, "no conf"),
        ("emergency_stop", {"reason": "no"}, "reason: "),
        ("emergency_stop", {"reason": "Payments fail", "scope": "car-shop"}, "The scope 'car-shop' does not exist"),
        ("emergency_stop", {"reason": "It is over", "lift": "b2"}, "The emergency stop b2 is not known. In force: a1"),
        ("mark_version", {**MARK, "version": "one"}, "not a semantic version"),
        ("mark_version", {**MARK, "service": "car-shop"}, "car-shop has no environment production"),
        ("mark_version", {**MARK, "version": "7.1.0"}, "bike-shop has no version 7.1.0 that could be marked. Known"),
        ("confirm_account", {"user": "ben", "reason": " no "}, "reason: "),
        ("mark_version", {**MARK, "enviroment": "test"}, "enviroment: "),
        ("confirm_account", {"user": "cora", "reason": "She called me"}, "no answer of the account of cora was"),
        ("confirm_account", {"user": "rita", "reason": "It is mine"}, "rita cannot confirm their own account"),
        ("override_freeze", {"service": "bike-shop", "reason": "no"}, "reason: "),
        (
            "override_freeze",
            {"service": "bike-shop", "environment": "x", "reason": "It cannot wait"},
            "bike-shop has no environment x",
        ),
        ("review_release", {**REVIEW, "participants": ""}, "participants: "),
        ("review_release", {**REVIEW, "run": "manual__2"}, "has no ended release of bike-shop with the run manual__2"),
    ],
)
def test_other_forms_are_refused_with_the_reason(
    behind: Behind, reviewable: MemoryLedger, dag_id: str, conf: Any, said: str
) -> None:
    answer = ask(behind, f"/api/v2/dags/{dag_id}/dagRuns", {"conf": conf}, ledger=stopped(reviewable))
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
    assert not behind.came


def test_who_confirms_their_own_doubted_account_is_left_to_the_auth_manager(
    behind: Behind, reviewable: MemoryLedger
) -> None:
    own = {"conf": {"user": "ben", "reason": "I am ben"}}
    assert ask(behind, "/api/v2/dags/confirm_account/dagRuns", own, user="ben", ledger=reviewable).status_code == 200
    assert len(behind.came) == 1, "it refuses it, and puts the attempt on record"


(DEFECT,) = new_defects(
    [], [result("basket", "failed")], service="bike-shop", owner="the team", version="1.0.0", release="r1"
)
ACCEPTANCE = {"service": "bike-shop", "defect": "basket-1", "reason": "Nobody empties it"}


@pytest.mark.parametrize(
    ("user", "changes", "said"),
    [
        ("ben", {}, ""),
        ("cora", {}, "cora (security) may not accept defects of bike-shop as known."),
        ("ben", {"defect": "menu-1"}, "bike-shop has no open defect menu-1. Open: basket-1."),
        ("ben", {"days": 60}, "accepted for at most 30 days, not 60 days"),
        ("ben", {"service": "till"}, "There is no service till"),
    ],
)
def test_a_defect_is_accepted_at_the_form_by_whom_the_policy_names(
    behind: Behind, tmp_path: Path, user: str, changes: dict[str, Any], said: str
) -> None:
    catalogue = Path(shutil.copytree(CATALOGUE, tmp_path / "catalogue"))
    policy = catalogue / "policy.yaml"
    policy.write_text(policy.read_text().replace("\nwaivers:\n", "\nwaivers:\n  defects: { roles: [operations] }\n"))
    ledger = MemoryLedger()
    ledger.append("defects/bike-shop", DEFECT_OPENED, DEFECT.to_xcom(), actor="a task", key="opened")
    answer = ask(
        behind,
        "/api/v2/dags/accept_defect/dagRuns",
        {"conf": {**ACCEPTANCE, **changes}},
        user=user,
        catalogue=catalogue,
        ledger=ledger,
    )
    assert (answer.status_code == 200) == (not said), answer.text
    assert said in answer.text


OVERRIDE = {"service": "bike-shop", "reason": "It cannot wait"}
OVERRIDE_ROUTE = "/api/v2/dags/override_freeze/dagRuns"


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("ben", ""),
        ("cora", "Cora Lindqvist (security) may not override Christmas trade"),
        ("olga", "olga is not listed under people in board.yaml"),
    ],
)
def test_a_freeze_is_overridden_at_the_form_by_whom_its_entry_names(
    behind: Behind, frozen: Path, user: str, said: str
) -> None:
    answer = ask(behind, OVERRIDE_ROUTE, {"conf": OVERRIDE}, user=user, catalogue=frozen)
    assert (answer.status_code == 200) == (not said), answer.text
    assert said in answer.text


def test_nobody_overrides_a_freeze_for_a_release_of_their_own(behind: Behind, frozen: Path) -> None:
    ledger, run = MemoryLedger(), "release_bike_shop/bens"
    ledger.append(f"release/{run}", RUN_ASKED, {"user": "ben"}, actor="ben", key="asked")
    for runs, status in ((frozenset(), 200), (frozenset({run}), 422)):
        lookups = replace(OURS, runs_under_way=lambda runs=runs: runs)
        answer = ask(
            behind, OVERRIDE_ROUTE, {"conf": OVERRIDE}, user="ben", catalogue=frozen, ledger=ledger, lookups=lookups
        )
        assert answer.status_code == status, answer.text
    assert "Ben Adler requested the release and cannot override a freeze for it" in answer.text


def test_what_is_open_is_not_overridden_at_the_form(behind: Behind, frozen: Path) -> None:
    shutil.rmtree(frozen / "calendars")
    (frozen / "calendars").mkdir()
    answer = ask(behind, OVERRIDE_ROUTE, {"conf": OVERRIDE}, user="ben", catalogue=frozen)
    assert (answer.status_code, "production is open for bike-shop" in answer.text) == (422, True)
    assert "Next: release it: no calendar closes it now." in answer.text


def test_calendars_that_only_another_machine_can_read_refuse_no_override(behind: Behind, frozen: Path) -> None:
    (frozen / "calendars" / "office.yaml").write_text("title: [")
    assert ask(behind, OVERRIDE_ROUTE, {"conf": OVERRIDE}, user="ben", catalogue=frozen).status_code == 200


def test_a_release_that_waits_for_a_review_is_refused_at_the_form(behind: Behind, reviewable: MemoryLedger) -> None:
    answer = ask(behind, ROUTE, {"conf": GOOD, "logical_date": None}, ledger=reviewable)
    assert answer.status_code == 422
    assert "bike-shop cannot have a normal release yet" in answer.json()["detail"]
    emergency = {**GOOD, "change_type": "emergency"}
    assert ask(behind, ROUTE, {"conf": emergency, "logical_date": None}, ledger=reviewable).status_code == 200


def test_a_release_of_a_version_that_is_marked_bad_is_refused_at_the_form(behind: Behind, past: MemoryLedger) -> None:
    mark = {"service": "bike-shop", "environment": "production", "version": "1.1.0", "reason": "Loses baskets"}
    past.append(INSTALLATION, VERSION_MARKED_BAD, {**mark, "by": "rita"}, actor="rita", key="mark")
    answer = ask(behind, ROUTE, {"conf": GOOD, "logical_date": None}, ledger=past)
    assert answer.status_code == 422
    assert "1.1.0 of bike-shop is marked bad in production by rita" in answer.json()["detail"]
    rehearsal = {**GOOD, "rehearsal": True}
    assert ask(behind, ROUTE, {"conf": rehearsal, "logical_date": None}, ledger=past).status_code == 200


def test_a_service_may_be_named_like_a_rollback() -> None:
    named = [rules.service_of(dag) for dag in ("release_rollback_tool", "rollback_release_notes", "Release_bike_shop")]
    assert named == ["rollback-tool", "release-notes", "bike-shop"]


# --- the conductor of trains -----------------------------------------------------------------------------------------

PASSENGER = {"ref": "a" * 40, "version": "1.1.0", "summary": "Sell bikes", "train": CHAIN}


@pytest.fixture
def ledger() -> MemoryLedger:
    """A ledger with a train that froze its manifest."""
    kept = MemoryLedger()
    one = manifest(boarded("bike-shop"))
    kept.append(CHAIN, "manifest.frozen", {**one.to_xcom(), "digest": one.digest}, actor="train_weekly/x", key="1")
    return kept


def test_the_conductor_is_let_in_for_what_a_frozen_manifest_names(behind: Behind, ledger: MemoryLedger) -> None:
    assert ask(behind, ROUTE, {"conf": PASSENGER}, user=CONDUCTOR, ledger=ledger).status_code == 200
    assert len(behind.came) == 1


@pytest.mark.parametrize(
    ("user", "changes", "why"),
    [
        ("rita", {}, "only interlock_conductor can request the releases of a train, but rita requested"),
        ("", {}, "an unknown user requested"),
        ("admin", {}, "admin requested"),
        (CONDUCTOR, {"train": None}, "this request names no train"),
        (CONDUCTOR, {"version": "1.2.0"}, "but this is 1.2.0"),
        (CONDUCTOR, {"ref": "b" * 40}, "at bbbbbbbbbbbb"),
        (CONDUCTOR, {"change_type": "emergency"}, "change type of the train is normal"),
        (CONDUCTOR, {"train": "release/train_weekly/another"}, "has no frozen manifest"),
    ],
)
def test_nobody_else_and_nothing_else_goes_by_train(
    behind: Behind, ledger: MemoryLedger, user: str, changes: dict[str, Any], why: str
) -> None:
    conf = {key: value for key, value in {**PASSENGER, **changes}.items() if value is not None}
    answer = ask(behind, ROUTE, {"conf": conf}, user=user, ledger=ledger)
    assert answer.status_code == 403
    assert why in answer.json()["detail"]
    assert not behind.came


@pytest.mark.parametrize("train", ["release/release_bike_shop/x", "train_weekly/x", "release/train_weekly/", 7])
def test_what_is_no_trains_chain_is_refused_by_the_form(behind: Behind, train: Any) -> None:
    answer = ask(behind, ROUTE, {"conf": {**PASSENGER, "train": train}}, user=CONDUCTOR)
    assert answer.status_code == 422
    assert "train: found" in answer.json()["detail"]


def test_a_ledger_that_cannot_be_read_lets_no_passenger_in(behind: Behind) -> None:
    class Broken(MemoryLedger):
        def entries(self, chain: str, **_: Any) -> Any:
            raise TransientError("The ledger does not answer.")

    answer = ask(behind, ROUTE, {"conf": PASSENGER}, user=CONDUCTOR, ledger=Broken())
    assert answer.status_code == 403
    assert "cannot be checked: The ledger does not answer" in answer.json()["detail"]


class OwnDags:
    """Airflow, which makes a run and answers in pieces, or does not make one."""

    def __init__(self, status: int = 200) -> None:
        self.status = status

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": self.status, "headers": [(b"x-kept", b"yes")]})
        await send({"type": "http.response.body", "body": b'{"dag_run_id": ', "more_body": True})
        await send({"type": "http.response.body", "body": b'"manual__1"}'})


@pytest.mark.parametrize(
    ("dag_id", "conf"),
    [
        ("release_bike_shop", GOOD),
        ("rollback_bike_shop", {"reason": "Loses orders"}),
        ("emergency_stop", {"reason": "Payments fail"}),
    ],
)
def test_who_asked_for_a_run_is_on_record_before_they_hear_of_it(dag_id: str, conf: dict[str, Any]) -> None:
    noted: list[tuple[str, str, Any, bytes]] = []
    answer = ask(OwnDags(), f"/api/v2/dags/{dag_id}/dagRuns", {"conf": conf}, note_run=lambda *said: noted.append(said))
    assert (answer.status_code, answer.headers["x-kept"], answer.json()) == (200, "yes", {"dag_run_id": "manual__1"})
    ((user, dag, asked, reply),) = noted
    assert (user, dag, json.loads(reply)) == ("rita", dag_id, {"dag_run_id": "manual__1"})
    assert asked.content == {"conf": conf}


@pytest.mark.parametrize(("dag_id", "status"), [("release_bike_shop", 409), ("nightly", 200)])
def test_what_made_no_run_under_control_is_not_on_record(dag_id: str, status: int) -> None:
    noted: list[Any] = []
    body = {"conf": GOOD}
    answer = ask(OwnDags(status), f"/api/v2/dags/{dag_id}/dagRuns", body, note_run=lambda *said: noted.append(said))
    assert answer.status_code == status
    assert not noted


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/api/v2/connections/interlock_ledger", {"connection_id": "interlock_ledger", "host": "mine"}),
        ("PATCH", "/airflow/api//v2//connections//interlock_airflow//?update_mask=port", {"port": 1}),
        ("PATCH", "/api/v2/connections/interlock%5Fledger", {"port": 1}),
        ("DELETE", "/api/v2/connections/interlock_signing_key", b""),
        ("POST", "/api/v2/connections", {"connection_id": "interlock_board_clerk", "conn_type": "http"}),
        (
            "PATCH",
            "/api/v2/connections",
            {"actions": [{"action": "delete", "entities": ["other", "interlock_conductor"]}]},
        ),
        (
            "PATCH",
            "/api/v2/connections",
            {"actions": [{"action": "update", "entities": [{"connection_id": "interlock_ledger", "port": 1}]}]},
        ),
    ],
)
def test_the_connections_that_proof_rests_on_are_changed_by_nobody(
    behind: Behind, method: str, path: str, body: Any
) -> None:
    noted: list[Attempt] = []
    answer = ask(behind, path, body, method=method, note=noted.append, user="admin")
    assert answer.status_code == 403
    assert "protects the release process" in answer.json()["detail"]
    assert not behind.came
    (one,) = noted
    assert (one.user, one.entity, one.by) == ("admin", "CONNECTION", "release control")
    assert one.dag_id.startswith("interlock_")


@pytest.mark.parametrize(
    ("method", "path", "kind", "status"),
    [
        pytest.param("PATCH", "/api/v2/connections", "application/json; charset=utf-8", 200, id="json"),
        pytest.param("PATCH", "/api/v2/connections?connection_id=smtp_default", "application/x+json", 422, id="vendor"),
        pytest.param("PATCH", "/api/v2/connections?connection_id=smtp_default", "", 422, id="no-kind"),
        pytest.param("POST", "/api/v2/connections?connection_id=smtp_default", "text/plain", 422, id="text"),
        pytest.param("PATCH", "/api/v2/connections/interlock_hosts", "application/json", 200, id="one"),
        pytest.param("DELETE", "/api/v2/connections/interlock_hosts", "application/json", 422, id="delete-with-body"),
    ],
)
def test_no_edit_of_a_connection_hides_from_the_audit_log(
    behind: Behind, method: str, path: str, kind: str, status: int
) -> None:
    """Airflow logs a body that is called JSON, and reads others too; of a deletion it logs the body, and reads none."""
    body = {"connection_id": "smtp_default", "conn_type": "smtp"}
    answer = ask(behind, path, body, method=method, kind=kind)
    assert answer.status_code == status, answer.text
    assert bool(behind.came) == (status == 200)
    assert status == 200 or "audit log" in answer.json()["detail"]


def test_a_connection_is_deleted_without_a_body(behind: Behind) -> None:
    assert ask(behind, "/api/v2/connections/interlock_hosts", b"", method="DELETE", kind="").status_code == 200


@pytest.mark.parametrize("body", [b'{"connection_id": "other"', b"\xff", b'{"a": 1, "a": 2}'])
def test_what_cannot_be_read_about_connections_goes_no_further(behind: Behind, body: bytes) -> None:
    assert ask(behind, "/api/v2/connections", body).status_code == 422
    assert not behind.came


def test_other_connections_are_airflows_business(behind: Behind) -> None:
    body = {"connection_id": "shop_database", "description": "not the interlock_ledger"}
    for method, path, sent in (
        ("POST", "/api/v2/connections", body),
        ("PATCH", "/api/v2/connections/shop_database", body),
        ("DELETE", "/api/v2/connections/shop_database", b""),
        ("GET", "/api/v2/connections/interlock_ledger", b""),
    ):
        assert ask(behind, path, sent, method=method).status_code == 200
    assert len(behind.came) == 4


def test_the_connections_that_proof_rests_on_are_those_that_stages_use() -> None:
    assert {*resources.CONNECTIONS} - {resources.ARTIFACTS, resources.SMTP} == rules.ROOTS


# --- withdrawals ------------------------------------------------------------------------------------------------------

WITHDRAW_ROUTE = "/api/v2/dags/withdraw_release/dagRuns"
WITHDRAW = {"service": "bike-shop", "run": "", "reason": "The tag is wrong"}
MANAGER = frozenset({"release_manager"})
BALLOTS = frozenset({"board_member"})


@pytest.fixture
def office() -> MemoryLedger:
    """A ledger with a release that rita requested, and one that has ended."""
    kept = MemoryLedger()
    for run in ("one", "old"):
        asked = {"dag_id": "release_bike_shop", "run_id": run, "user": "rita", "conf": "0" * 64}
        kept.append(f"release/release_bike_shop/{run}", RUN_ASKED, asked, actor="rita", key="asked")
    told = {"run": "release_bike_shop/old", "service": "bike-shop", "version": "1.0.0", "outcome": "deployed"}
    kept.append(INSTALLATION, RELEASE_ENDED, told, actor="closure", key="old")
    return kept


def running(*runs: str) -> Lookups:
    return replace(OURS, runs_under_way=lambda: frozenset(f"release_bike_shop/{run}" for run in runs))


@pytest.mark.parametrize(
    ("user", "roles"),
    [
        pytest.param("rita", BALLOTS, id="who requested it"),
        pytest.param("olga", MANAGER, id="a release manager"),
        pytest.param("olga", None, id="whom an auth manager without roles lets trigger it"),
    ],
)
def test_a_release_is_withdrawn_by_its_requester_or_a_release_manager(
    behind: Behind, office: MemoryLedger, user: str, roles: frozenset[str] | None
) -> None:
    body = json.dumps({"conf": WITHDRAW, "logical_date": None}, indent=3).encode()
    answer = ask(
        behind, WITHDRAW_ROUTE, body, user=user, roles=roles, ledger=office, lookups=running("one", "old", "new")
    )
    assert answer.status_code == 200, answer.text
    assert behind.came == [(WITHDRAW_ROUTE, body)]


@pytest.mark.parametrize("user", ["ben", ""])
def test_anybody_else_is_refused_with_the_reason(behind: Behind, office: MemoryLedger, user: str) -> None:
    for roles in (BALLOTS, frozenset({"Admin"}), frozenset()):
        answer = ask(
            behind,
            WITHDRAW_ROUTE,
            {"conf": WITHDRAW},
            user=user,
            roles=roles,
            ledger=office,
            lookups=running("one"),
        )
        assert answer.status_code == 403
        assert "cannot withdraw this release: run one of release_bike_shop, requested by rita" in answer.text
        assert "by the person who requested it, or by a release manager" in answer.text
    assert not behind.came


@pytest.mark.parametrize(
    ("conf", "runs", "said"),
    [
        ({**WITHDRAW, "reason": ""}, ("one",), "reason: "),
        ({**WITHDRAW, "service": "car-shop"}, ("one",), "There is no service"),
        ({**WITHDRAW, "run": "old"}, ("one", "old"), "has no release with the run or version old under way"),
        (WITHDRAW, ("old",), "has no release under way"),
        (None, ("one",), "no conf"),
    ],
)
def test_what_is_no_release_under_way_is_not_withdrawn(
    behind: Behind, office: MemoryLedger, conf: Any, runs: tuple[str, ...], said: str
) -> None:
    answer = ask(behind, WITHDRAW_ROUTE, {"conf": conf}, roles=MANAGER, ledger=office, lookups=running(*runs))
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
    assert not behind.came


@pytest.mark.parametrize(
    ("kind", "payload", "said"),
    [
        (RELEASE_WITHDRAWN, releases.WITHDRAWAL.model_dump(mode="json"), "is withdrawn already"),
        (VERIFICATION_JUDGED, {"success": True}, "roll the service back"),
    ],
)
def test_a_release_that_is_withdrawn_or_verified_is_not_withdrawn_any_more(
    behind: Behind, office: MemoryLedger, kind: str, payload: dict[str, Any], said: str
) -> None:
    office.append("release/release_bike_shop/one", kind, payload, actor="somebody", key="then")
    answer = ask(behind, WITHDRAW_ROUTE, {"conf": WITHDRAW}, roles=MANAGER, ledger=office, lookups=running("one"))
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
    assert not behind.came


def test_without_a_ledger_nothing_is_withdrawn(behind: Behind) -> None:
    class Broken(MemoryLedger):
        def entries(self, chain: str, **_: Any) -> Any:
            raise TransientError("The ledger does not answer.")

    answer = ask(behind, WITHDRAW_ROUTE, {"conf": WITHDRAW}, roles=MANAGER, ledger=Broken(), lookups=running("one"))
    assert answer.status_code == 503
    assert "The ledger does not answer" in answer.json()["detail"]
    assert not behind.came


@pytest.fixture
def with_pipelines(tmp_path: Path) -> Path:
    """A catalogue that names the account of a pipeline."""
    copy = Path(shutil.copytree(CATALOGUE, tmp_path / "catalogue"))
    with (copy / "policy.yaml").open("a") as file:
        file.write("pipelines: { jenkins-shop: [bike-shop], jenkins-till: [] }\n")
    return copy


def test_a_pipeline_requests_releases_of_its_service(behind: Behind, with_pipelines: Path) -> None:
    answer = ask(behind, ROUTE, {"conf": GOOD}, user="jenkins-shop", catalogue=with_pipelines)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("user", "roles"), [("jenkins-till", frozenset()), ("jenkins-new", frozenset({"pipeline"}))], ids=["named", "role"]
)
def test_a_pipeline_requests_no_release_of_another_service(
    behind: Behind, with_pipelines: Path, user: str, roles: frozenset[str]
) -> None:
    answer = ask(behind, ROUTE, {"conf": GOOD}, user=user, roles=roles, catalogue=with_pipelines)
    assert answer.status_code == 403
    assert f"{user} is the account of a pipeline and may request releases of no service" in answer.text
    assert "Rule: pipelines, in policy.yaml" in answer.text
    assert behind.came == []
