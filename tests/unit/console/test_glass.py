from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from interlock.console.control.break_glass import MAX_TARGETS, BreakGlass, read_grants
from interlock.console.control.current_request import CurrentRequest
from interlock.console.control.refusal import RefusedRequests
from interlock.console.record.attempts import Attempt
from interlock.domain.errors import TransientError
from interlock.locations import catalogue_folder

RELEASE = "release_bike_shop"
TASK = f"/api/v2/dags/{RELEASE}/dagRuns/r/taskInstances/t"


class BlobStore:
    """A ledger in memory that may stop taking anything."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, dict[str, Any], str, str]] = []
        self.takes = 100
        self.error: Exception = TransientError("The ledger's database does not answer.")

    @contextmanager
    def open(self) -> Iterator[BlobStore]:
        yield self

    def append(self, chain: str, kind: str, payload: Any, *, actor: str, key: str) -> None:
        if len(self.entries) >= self.takes:
            raise self.error
        self.entries.append((chain, kind, payload, actor, key))


@pytest.fixture
def shelf() -> BlobStore:
    return BlobStore()


@pytest.fixture
def glass(tmp_path: Path, shelf: BlobStore) -> BreakGlass:
    write(tmp_path)
    return BreakGlass(lambda: tmp_path, shelf.open)


def write(folder: Path, **other: Any) -> None:
    now = datetime.now(UTC)
    grant = {
        "user": "gus",
        "from": f"{now - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}",
        "until": f"{now + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}",
        "reason": "It hangs",
        **other,
    }
    (folder / "break_glass.yaml").write_text(json.dumps({"grants": [grant]}))


def request(method: str = "PATCH", path: str = TASK, body: Any = None) -> CurrentRequest:
    return CurrentRequest(method, path, bytearray(json.dumps(body or {}).encode()))


def test_a_use_is_on_record_in_the_installation_and_in_the_run(glass: BreakGlass, shelf: BlobStore) -> None:
    assert glass.refusal("gus", request(), "TASK_INSTANCE", RELEASE) == ""
    (used, finding) = shelf.entries
    assert used[:2] == ("installation", "break_glass.used")
    assert finding[:2] == (f"release/{RELEASE}/r", "finding")
    assert used[3] == finding[3] == "gus"
    assert finding[2]["what"] == f"gus used break-glass access: PATCH task instance of t of {RELEASE}. Reason: It hangs"
    assert used[2]["grant"]["user"] == "gus"
    assert {name: used[2][name] for name in ("user", "method", "entity", "dag_id", "run_id", "task_id", "path")} == {
        "user": "gus",
        "method": "PATCH",
        "entity": "TASK_INSTANCE",
        "dag_id": RELEASE,
        "run_id": "r",
        "task_id": "t",
        "path": TASK,
    }


@pytest.mark.parametrize("takes", [0, 1])
@pytest.mark.parametrize("error", [TransientError("It does not answer."), RuntimeError("boom")])
def test_what_the_ledger_does_not_take_is_not_done(
    glass: BreakGlass, shelf: BlobStore, takes: int, error: Exception
) -> None:
    shelf.takes, shelf.error = takes, error
    assert "it cannot be recorded" in glass.refusal("gus", request(), "TASK_INSTANCE", RELEASE)


@pytest.mark.parametrize(
    ("user", "dag_id", "other"),
    [
        pytest.param("admin", RELEASE, {}, id="somebody else"),
        pytest.param("gus", RELEASE, {"dags": ["reconcile"]}, id="another Dag"),
        pytest.param("gus", RELEASE, {"until": "2026-01-01T01:00:00Z", "from": "2026-01-01T00:00:00Z"}, id="over"),
    ],
)
def test_without_a_grant_that_holds_there_is_no_use(
    glass: BreakGlass, shelf: BlobStore, tmp_path: Path, user: str, dag_id: str, other: dict[str, Any]
) -> None:
    write(tmp_path, **other)
    assert "No grant covers" in glass.refusal(user, request(), "TASK_INSTANCE", dag_id)
    assert shelf.entries == []


def test_what_could_be_more_than_it_says_is_refused(glass: BreakGlass, shelf: BlobStore) -> None:
    bulk = {"actions": [{"action": "delete", "entities": [f"t{number}" for number in range(MAX_TARGETS + 1)]}]}
    for asked, said in (
        (request(body={"include_future": True}), "include_future"),
        (request("PATCH", f"/api/v2/dags/{RELEASE}/dagRuns/r/taskInstances", bulk), "at most"),
        (request("POST", f"/api/v2/dags/{RELEASE}/clearTaskInstances"), "name the run"),
        (CurrentRequest("PATCH", TASK, bytearray(b"{")), "include_past"),
    ):
        assert said in glass.refusal("gus", asked, "TASK_INSTANCE", RELEASE)
    assert shelf.entries == []


def test_a_dag_has_no_run_to_name(glass: BreakGlass, shelf: BlobStore) -> None:
    assert glass.refusal("gus", request("DELETE", f"/api/v2/dags/{RELEASE}"), None, RELEASE) == ""
    assert [kind for _, kind, *_ in shelf.entries] == ["break_glass.used"]


@pytest.mark.parametrize("path", ["/api/v2/backfills", "/api/v2/assets/1/materialize", "/api/v2/assets/events"])
def test_some_things_no_glass_opens(glass: BreakGlass, shelf: BlobStore, path: str) -> None:
    assert "under release control" in glass.refusal("gus", request("POST", path), "RUN", RELEASE)
    assert shelf.entries == []


def test_grants_are_read_anew_when_they_change_and_none_is_no_error(tmp_path: Path) -> None:
    assert read_grants(tmp_path) == ()
    write(tmp_path)
    assert read_grants(tmp_path)[0].user == "gus"
    write(tmp_path, user="gil")
    assert read_grants(tmp_path)[0].user == "gil"


# --- the bench -------------------------------------------------------------------------------------------------------


def test_one_matter_of_a_request_is_decided_and_recorded_once(glass: BreakGlass, shelf: BlobStore) -> None:
    noted: list[Attempt] = []
    bench, asked = RefusedRequests(glass, noted.append), request()
    for _ in range(3):
        assert bench.objection("gus", asked, "TASK_INSTANCE", RELEASE, may_break=True) == ""
        assert "Rule:" in bench.objection("olga", asked, "TASK_INSTANCE", RELEASE, may_break=False)
    assert len(shelf.entries) == 2
    assert [(one.user, one.by, one.task_id) for one in noted] == [("olga", "release control", "t")]


def test_the_role_is_needed_beside_the_grant(glass: BreakGlass, shelf: BlobStore) -> None:
    noted: list[Attempt] = []
    assert RefusedRequests(glass, noted.append).objection("gus", request(), "TASK_INSTANCE", RELEASE, may_break=False)
    assert shelf.entries == []
    assert len(noted) == 1


def test_what_changes_nothing_is_no_attempt(glass: BreakGlass) -> None:
    noted: list[Attempt] = []
    bench = RefusedRequests(glass, noted.append)
    for asked in (
        request("PATCH", f"{TASK}/dry_run"),
        request("POST", f"/api/v2/dags/{RELEASE}/clearTaskInstances", {"dry_run": True}),
        request("POST", f"/api/v2/dags/{RELEASE}/dagRuns/list"),
    ):
        bench.refused("fay", asked, "RUN", RELEASE, "role")
    assert noted == []


def test_the_catalogue_is_the_one_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERLOCK_CATALOGUE", str(tmp_path))
    assert catalogue_folder() == tmp_path
