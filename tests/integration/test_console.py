"""The console on a real Airflow: who may do what through its API, and what a reader sees in a browser.

One API server with our auth manager and plugin serves all tests; see ``console_airflow``. What it refuses and
records: ``test_guard``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from interlock.adapters.artifacts.store import ArtifactStore, Folder
from interlock.domain.ledger.chain import INSTALLATION, release_chain
from interlock.domain.ledger.kinds import CHAT_FAILED, FINDING
from interlock.domain.paths import question_page
from interlock.domain.records import Blob, Communication
from tests.browser import BROWSER_WAIT_MS, opened_context, opened_page, visit
from tests.integration.console_airflow import BACKED_OUT_ID, OTHER, PEOPLE, RELEASE, RUN_ID
from tests.integration.console_server import Console

from .conftest import logged_in

RUN, BACKED_OUT = quote(RUN_ID, safe=""), quote(BACKED_OUT_ID, safe="")
DAG = f"/api/v2/dags/{RELEASE}"
TASKS = f"{DAG}/dagRuns/{RUN}/taskInstances"
GATE = f"{TASKS}/rollout.await_board"
GOOD = {"ref": "1.1.0", "version": "1.1.0", "summary": "Sell bikes"}
Body = dict[str, Any]


@pytest.fixture(scope="module")
def airflow(console: Console) -> str:
    return console.base


@cache
def token(base: str, user: str) -> str:
    answer = httpx.post(f"{base}/auth/token", json={"username": user, "password": user}, timeout=30)
    return str(answer.raise_for_status().json()["access_token"])


def ask(base: str, user: str, method: str, path: str, body: Body | None = None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token(base, user)}"}
    return httpx.request(method, base + path, json=body, headers=headers, timeout=30)


def bulk(action: str, *entities: Body) -> Body:
    return {"actions": [{"action": action, "entities": list(entities)}]}


THE_GATE = {"dag_id": RELEASE, "dag_run_id": RUN_ID, "task_id": "rollout.await_board"}
THE_RUN = {"dag_id": RELEASE, "dag_run_id": RUN_ID}
WAYS_ROUND: dict[str, tuple[str, str, Body | None]] = {
    "mark a task": ("PATCH", GATE, {"new_state": "success"}),
    "mark a ballot": ("PATCH", f"{TASKS}/rollout.cast_ballot/1", {"new_state": "success"}),
    "mark a stage": ("PATCH", f"{DAG}/dagRuns/{RUN}/taskGroupInstances/rollout", {"new_state": "success"}),
    "note on a task": ("PATCH", GATE, {"note": "x"}),
    "mark in bulk": ("PATCH", TASKS, bulk("update", {**THE_GATE, "new_state": "success"})),
    "mark in bulk, any Dag": (
        "PATCH",
        "/api/v2/dags/~/dagRuns/~/taskInstances",
        bulk("update", {**THE_GATE, "new_state": "success"}),
    ),
    "mark in bulk, another Dag": (
        "PATCH",
        f"/api/v2/dags/{OTHER}/dagRuns/{RUN}/taskInstances",
        bulk("update", {**THE_GATE, "new_state": "success"}),
    ),
    "delete tasks in bulk": ("PATCH", "/api/v2/dags/~/dagRuns/~/taskInstances", bulk("delete", THE_GATE)),
    "delete a task": ("DELETE", GATE, None),
    "clear a task": ("POST", f"{DAG}/clearTaskInstances", {"dag_run_id": RUN_ID, "dry_run": False}),
    "clear a task, any Dag": ("POST", "/api/v2/dags/~/clearTaskInstances", {"dag_run_id": RUN_ID, "dry_run": False}),
    "clear the run": ("POST", f"{DAG}/dagRuns/{RUN}/clear", {"dry_run": False}),
    "clear runs": ("POST", f"{DAG}/clearDagRuns", {"dag_runs": [THE_RUN], "dry_run": False}),
    "clear runs, any Dag": ("POST", "/api/v2/dags/~/clearDagRuns", {"dag_runs": [THE_RUN], "dry_run": False}),
    "mark the run": ("PATCH", f"{DAG}/dagRuns/{RUN}", {"state": "success"}),
    "mark runs in bulk": ("PATCH", f"/api/v2/dags/{OTHER}/dagRuns", bulk("update", {**THE_RUN, "state": "success"})),
    "delete runs in bulk": ("PATCH", "/api/v2/dags/~/dagRuns", bulk("delete", THE_RUN)),
    "delete the run": ("DELETE", f"{DAG}/dagRuns/{RUN}", None),
    "delete the Dag": ("DELETE", DAG, None),
    "add an XCom": ("POST", f"{GATE}/xcomEntries", {"key": "k", "value": 1}),
    "edit an XCom": ("PATCH", f"{TASKS}/rollout.freeze_plan/xcomEntries/return_value", {"value": {}}),
    "delete an XCom": ("DELETE", f"{TASKS}/rollout.freeze_plan/xcomEntries/return_value", None),
    "write a task's state": ("PUT", f"{GATE}/state-store/sent", {"value": "yes"}),
    "clear a task's state": ("DELETE", f"{GATE}/state-store", None),
}


@pytest.mark.parametrize("way", WAYS_ROUND)
def test_nobody_goes_round_a_release_administrators_included(airflow: str, way: str) -> None:
    method, path, body = WAYS_ROUND[way]
    for user in ("admin", "opal", "rita", "ben", "olga", "audrey", "interlock_reader", "board_clerk", "nora"):
        answer = ask(airflow, user, method, path, body)
        assert answer.status_code in (403, 404), f"{user}: {answer.text}"
    if way != "clear a task, any Dag":  # Airflow knows no Dag of that name
        reason = ask(airflow, "admin", method, path, body).json()["detail"]
        assert "release_bike_shop is under release control" in reason


def test_after_all_that_the_release_is_as_it_was(airflow: str) -> None:
    assert ask(airflow, "audrey", "GET", f"{DAG}/dagRuns/{RUN}").json()["state"] == "running"
    assert ask(airflow, "audrey", "GET", GATE).json()["state"] is None
    plan = ask(airflow, "audrey", "GET", f"{TASKS}/rollout.freeze_plan/xcomEntries/return_value").json()["value"]
    assert plan["version"] == "1.1.0"


READS = {
    "dag": DAG,
    "run": f"{DAG}/dagRuns/{RUN}",
    "tasks": TASKS,
    "questions": f"{DAG}/dagRuns/{RUN}/hitlDetails",
    "xcoms": f"{TASKS}/~/xcomEntries",
    "grid": f"/ui/grid/runs/{RELEASE}",
    "plugins": "/api/v2/plugins",
    "audit log": "/api/v2/eventLogs",
    "other dag": f"/api/v2/dags/{OTHER}",
    "pools": "/api/v2/pools",
    "connections": "/api/v2/connections",
    "variables": "/api/v2/variables",
}
SEES = {
    "rita": {"dag", "run", "tasks", "questions", "xcoms", "grid", "plugins", "pools"},
    "ben": {"dag", "run", "tasks", "questions", "xcoms", "grid", "plugins", "pools"},
    "audrey": set(READS) - {"connections", "variables"},
    "olga": set(READS) - {"connections", "variables", "audit log"},
    "interlock_reader": {"dag", "run", "tasks", "questions", "xcoms", "grid", "audit log"},
    "board_clerk": {"dag", "questions"},
    "nora": set(),
    "admin": set(READS),
}


@pytest.mark.parametrize("user", SEES)
def test_each_role_reads_what_the_table_gives_it_and_no_more(airflow: str, user: str) -> None:
    seen = {name for name, path in READS.items() if ask(airflow, user, "GET", path).status_code == 200}
    assert seen == SEES[user]


def test_only_those_who_may_pause_a_dag_do(airflow: str) -> None:
    for user in PEOPLE:
        answer = ask(airflow, user, "PATCH", DAG, {"is_paused": False})
        assert (answer.status_code == 200) == (user in ("olga", "opal", "admin", "gus", "gil")), user


def test_only_release_managers_and_airflows_own_roles_trigger_a_release(airflow: str) -> None:
    for user in PEOPLE:
        answer = ask(airflow, user, "POST", f"{DAG}/dagRuns", {"logical_date": None, "conf": GOOD})
        assert (answer.status_code == 200) == (user in ("rita", "opal", "admin", "gus")), user
    assert ask(airflow, "rita", "POST", f"/api/v2/dags/{OTHER}/dagRuns", {"logical_date": None}).status_code == 403


def test_a_release_that_cannot_be_asked_for_never_becomes_a_run(airflow: str) -> None:
    def runs() -> int:
        return int(ask(airflow, "audrey", "GET", f"{DAG}/dagRuns").json()["total_entries"])

    before = runs()
    answer = ask(airflow, "rita", "POST", f"{DAG}/dagRuns", {"logical_date": None, "conf": {**GOOD, "version": "x"}})
    assert answer.status_code == 422
    assert "version: found 'x'" in answer.json()["detail"]
    assert runs() == before


def address(airflow: str, map_index: int) -> str:
    """Return where Airflow's UI asks a ballot."""
    return f"{airflow}/{question_page(RELEASE, RUN_ID, 'rollout.cast_ballot', map_index)}"


def test_a_ballot_is_answered_by_whom_it_names_once_and_by_nobody_else(airflow: str) -> None:
    answer = {"chosen_options": ["Approve"], "params_input": {"comment": "fine"}}
    ballot = f"{TASKS}/rollout.cast_ballot/0/hitlDetails"
    for user in ("admin", "rita", "cora", "audrey", "gus", "nora", "interlock_reader"):
        assert ask(airflow, user, "PATCH", ballot, answer).status_code == 403, user
    said = ask(airflow, "cora", "PATCH", ballot, answer).json()["detail"]
    assert "This question is for Ben (ben). Your answer was not recorded." in said
    assert f"“CAB: release Bike shop 1.1.0 to production? (cora)” at {address(airflow, 1)}" in said
    assert ask(airflow, "admin", "PATCH", ballot, answer).json()["detail"].endswith("is for you.")
    unconfirmed = {**answer, "params_input": {"comment": "fine", "conditions": "", "confirmed": False}}
    refused = ask(airflow, "ben", "PATCH", ballot, unconfirmed)
    assert (refused.status_code, "switch on “Final answer”" in refused.json()["detail"]) == (422, True)
    assert ask(airflow, "ben", "PATCH", ballot, answer).status_code == 200
    assert ask(airflow, "ben", "PATCH", ballot, answer).status_code == 409
    asked = ask(airflow, "audrey", "GET", READS["questions"]).json()["hitl_details"]
    assert [one["responded_by_user"]["name"] for one in asked if one["response_received"]] == ["ben"]


def test_a_ballot_may_name_somebody_by_number_too(airflow: str) -> None:
    ballot = f"{TASKS}/rollout.cast_ballot/4/hitlDetails"
    assert ask(airflow, "cora", "PATCH", ballot, {"chosen_options": ["Approve"]}).status_code == 403
    assert ask(airflow, "ben", "PATCH", ballot, {"chosen_options": ["Approve"]}).status_code == 200


def test_the_clerk_closes_a_ballot_and_can_do_nothing_else(airflow: str) -> None:
    closing = {"chosen_options": ["Abstain"], "params_input": {"comment": "closed"}}
    ballot = f"{TASKS}/rollout.cast_ballot/2/hitlDetails"
    assert ask(airflow, "board_clerk", "PATCH", ballot, closing).status_code == 200
    assert ask(airflow, "board_clerk", "GET", TASKS).status_code == 403


def test_passwords_are_not_guessed_at_the_api_for_long(airflow: str) -> None:
    def guess(user: str, password: str) -> int:
        credentials = {"username": user, "password": password}
        return httpx.post(f"{airflow}/auth/token", json=credentials, timeout=30).status_code

    assert [guess("nobody-here", "x") for _ in range(6)] == [401, 401, 401, 401, 401, 429]
    assert guess("board_clerk", "x") == 401
    assert guess("board_clerk", "board_clerk") == 201


def test_dags_that_release_nothing_are_left_to_airflows_own_rules(airflow: str) -> None:
    other = f"/api/v2/dags/{OTHER}/dagRuns/{RUN}/taskInstances/sweep"
    assert ask(airflow, "rita", "PATCH", other, {"note": "x"}).status_code == 403
    assert ask(airflow, "opal", "PATCH", other, {"note": "x"}).status_code == 200


# --- pages -----------------------------------------------------------------------------------------------------------

QUERY = f"dag_id={RELEASE}&run_id={RUN}"
DOCS = f"/interlock/docs/{RELEASE}/{RUN}/quality"
OF_RUN = f"/interlock/api/v1/dags/{RELEASE}/dagRuns"
PARTS = ("records", "progress", "findings", "files", "matrix", "reports")
PAGES = [*(f"{OF_RUN}/{RUN}/{name}" for name in PARTS), f"{DOCS}/index.html"]


@pytest.mark.parametrize("path", [*PAGES, "/interlock/static/calendar.js"])
def test_no_page_is_open_to_strangers(airflow: str, path: str) -> None:
    assert httpx.get(airflow + path).status_code == 401


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_for_those_who_may_read_the_runs_of_the_dag(airflow: str, path: str) -> None:
    assert ask(airflow, "nora", "GET", path).status_code == 403
    assert ask(airflow, "board_clerk", "GET", path).status_code == 403
    answer = ask(airflow, "ben", "GET", path)
    assert answer.status_code == 200
    if path.endswith(".html"):
        assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["content-type"].startswith("text/html")


RESULT = f"/interlock/result?{QUERY}&task_id=rollout.freeze_plan&key="


def test_a_result_is_for_those_who_may_read_the_results_of_the_run(airflow: str) -> None:
    assert httpx.get(f"{airflow}{RESULT}return_value").status_code == 401
    for user, sees in SEES.items():
        answer = ask(airflow, user, "GET", f"{RESULT}return_value")
        assert answer.status_code == (200 if "xcoms" in sees else 403), user
    assert ask(airflow, "ben", "GET", f"{RESULT}return_value").json()["value"]["version"] == "1.1.0"
    for other in (f"{RESULT}nothing", f"{RESULT}return_value&map_index=7"):
        assert ask(airflow, "ben", "GET", other).json() == {"value": None}
    assert ask(airflow, "ben", "GET", f"{RESULT}return_value&map_index=x").status_code == 422


def test_a_result_that_is_kept_elsewhere_is_read_there_and_nothing_else_is(airflow: str) -> None:
    assert ask(airflow, "ben", "GET", f"{RESULT}kept").json() == {"value": {"hosts": ["a", "b"]}}
    (led_astray,) = ask(airflow, "ben", "GET", f"{RESULT}led_astray").json().values()
    assert led_astray.startswith("file://")
    assert led_astray.endswith("/secret.json"), "the file's words are not shown"


def test_data_docs_are_shown_without_any_script_of_theirs(airflow: str) -> None:
    answer = ask(airflow, "ben", "GET", f"{DOCS}/index.html")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-same-origin; default-src 'none'")
    assert "script-src" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert ask(airflow, "ben", "GET", f"{OF_RUN}/{RUN}/reports").json() == {"stages": ["quality"]}


@pytest.mark.parametrize(
    "path",
    [
        f"{DOCS}/..%2f..%2f..%2f..%2fsecret",
        f"{DOCS}/%2e%2e/%2e%2e/%2e%2e/%2e%2e/secret",
        f"{DOCS}/nothing.html",
        f"/interlock/docs/{RELEASE}/{RUN}/build/index.html",
        f"/interlock/docs/{RELEASE}/another-run/quality/index.html",
        "/interlock/static/..%2fpages.py",
        "/interlock/static/pages.py",
    ],
)
def test_there_is_no_way_out_of_the_data_docs(airflow: str, path: str) -> None:
    with httpx.Client() as client:
        headers = {"Authorization": f"Bearer {token(airflow, 'ben')}"}
        request = client.build_request("GET", airflow + path, headers=headers)
        request.url = request.url.copy_with(raw_path=path.encode())  # as it stands, not tidied up by the client
        answer = client.send(request)
    assert answer.status_code in (404, 403)


# --- documents -------------------------------------------------------------------------------------------------------

FILES = f"/interlock/files/{RELEASE}/{quote(BACKED_OUT_ID, safe='')}"
NOTES, PACK = "# Bike shop 1.1.0\n\n- <b>Sells</b> bikes\n", b"PK\x03\x04 a pack"


@pytest.fixture(scope="module")
def documents(console: Console) -> dict[str, Blob]:
    """Leave release notes and two packs, as the stages do: bytes in the store, and what they are in the ledger."""
    store = ArtifactStore(Folder(console.home / "artifacts"))
    notes, older, pack = (store.put_bytes(data, "file") for data in (NOTES.encode(), b"PK older", PACK))
    written = Communication(notes=notes, sent={}, acknowledged={}).to_xcom()
    with console.ledger() as ledger:
        chain = release_chain(RELEASE, BACKED_OUT_ID)
        ledger.append(chain, "notes.written", written, actor="task", key="notes")
        for blob in (older, pack):
            sealed = {**blob.model_dump(mode="json"), "chain": chain, "files": 1, "key": ""}
            ledger.append(INSTALLATION, "pack.sealed", sealed, actor="task", key=f"pack.sealed/{blob.sha256}")
        other = {**older.model_dump(mode="json"), "chain": release_chain(RELEASE, "another"), "files": 1, "key": ""}
        ledger.append(INSTALLATION, "pack.sealed", other, actor="task", key="pack.sealed/other")
    return {"notes": notes, "evidence": pack}


@pytest.mark.parametrize("name", ["", "/notes", "/evidence"])
def test_documents_are_for_those_who_may_read_the_run(airflow: str, documents: dict[str, Blob], name: str) -> None:
    path = f"{FILES}{name}" if name else f"{OF_RUN}/{BACKED_OUT}/files"
    assert httpx.get(airflow + path).status_code == 401
    for user in ("nora", "board_clerk"):
        assert ask(airflow, user, "GET", path).status_code == 403, user
    for user in ("rita", "audrey", "ben"):
        assert ask(airflow, user, "GET", path).status_code == 200, user


def test_the_pack_that_was_made_last_is_a_file_to_keep(airflow: str, documents: dict[str, Blob]) -> None:
    answer = ask(airflow, "audrey", "GET", f"{FILES}/evidence")
    assert answer.content == PACK
    assert answer.headers["content-type"] == "application/zip"
    disposition = answer.headers["content-disposition"]
    assert disposition.startswith('attachment; filename="evidence-release_bike_shop-manual__2026-11-22')
    left = ask(airflow, "audrey", "GET", f"{OF_RUN}/{BACKED_OUT}/files").json()
    assert left["evidence"] == {"size": len(PACK), "sha256": hashlib.sha256(PACK).hexdigest()}


def test_release_notes_are_text_in_which_nothing_runs(airflow: str, documents: dict[str, Blob]) -> None:
    answer = ask(airflow, "rita", "GET", f"{FILES}/notes")
    assert answer.text == NOTES
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        f"/interlock/files/{RELEASE}/{RUN}/evidence",
        f"/interlock/files/{RELEASE}/{RUN}/notes",
        f"{FILES}/..%2f..%2fnotes",
        f"{FILES}/%2e%2e/another/evidence",
        f"{FILES}/chain.jsonl",
        f"/interlock/files/{RELEASE}/..%2f..%2fdocs/evidence",
    ],
)
def test_there_is_no_way_to_other_files(airflow: str, documents: dict[str, Blob], path: str) -> None:
    with httpx.Client() as client:
        headers = {"Authorization": f"Bearer {token(airflow, 'audrey')}"}
        request = client.build_request("GET", airflow + path, headers=headers)
        request.url = request.url.copy_with(raw_path=path.encode())
        assert client.send(request).status_code == 404


def test_a_pack_that_was_changed_in_the_store_is_not_handed_out(
    airflow: str, documents: dict[str, Blob], console: Console
) -> None:
    blob = documents["evidence"]
    file = console.home / "artifacts" / "sha256" / blob.sha256[:2] / blob.sha256 / "file"
    file.write_bytes(b"PK another")
    try:
        answer = ask(airflow, "audrey", "GET", f"{FILES}/evidence")
        assert answer.status_code == 503
        assert "was recorded" in answer.json()["detail"]
    finally:
        file.write_bytes(PACK)


def test_names_are_those_of_the_catalogue(airflow: str) -> None:
    assert httpx.get(f"{airflow}/interlock/api/v1/names").status_code == 401
    assert ask(airflow, "ben", "GET", "/interlock/api/v1/names").json()["rita"] == "Rita Reyes"


@pytest.fixture(scope="module")
def coras_browser(console: Console, browser: Browser) -> Iterator[BrowserContext]:
    """Return the browser of a member of the board."""
    with opened_context(browser, storage_state=logged_in(console, "cora")) as context:
        yield context


@pytest.fixture
def coras(coras_browser: BrowserContext) -> Iterator[Page]:
    """Return a page of it."""
    with closing(coras_browser.new_page()) as page:
        yield page


def tab(name: str, run: str = RUN) -> str:
    return f"/dags/{RELEASE}/runs/{run}/plugin/{name}"


def test_the_release_is_shown_at_a_glance_in_a_tab_of_its_run(airflow: str, page: Page) -> None:
    visit(page, airflow + tab("release"))
    shown = page.get_by_test_id("interlock-release")
    expect(shown.get_by_role("heading", name="Bike shop 1.1.0 running")).to_be_visible()
    for text in ("Sell bikes", "a" * 64, "make, 3.2 s", "1.0.0 → 1.1.0, 2 commits, risk 12", "waiting for answers"):
        expect(shown.get_by_text(text).first).to_be_visible()
    for title in (
        "Stages",
        "Hosts of production",
        "Decisions",
        "Changes since 1.0.0",
        "Quality",
        "Risk 12 of 100",
    ):
        expect(shown.get_by_role("heading", name=title, exact=True)).to_be_visible()
    expect(shown.get_by_text("GET /bikes on bike-shop-test-1 (1200.5)")).to_be_visible()
    expect(shown.get_by_role("row", name="Fay CAB: release").get_by_text("waiting", exact=True)).to_be_visible()
    expect(shown.get_by_text("All times on this page are in UTC.")).to_be_visible()
    shown.get_by_role("link", name="Build and configure").click()
    page.wait_for_url("**/tasks/group/build**")


def test_a_release_that_was_backed_out_says_so_and_why(airflow: str, page: Page) -> None:
    visit(page, airflow + tab("release", BACKED_OUT))
    expect(page.get_by_role("heading", name="Bike shop 1.1.0 backed out")).to_be_visible()
    expect(page.get_by_text("Decided in Verify implementation: GET /bikes answers 500.")).to_be_visible()
    expect(page.get_by_text("GET /bikes on 127.20.0.13 (500 instead of 200)")).to_be_visible()
    for row in (
        "Verify implementation failed 3.5 s bike-shop 1.1.0 does not work in production. — backed out, verified",
        "2 bike-shop-production-3 127.20.0.13 1.0.0-0123456789ab 1.0.0-0123456789ab backed out 1.0.0",
        "service-desk acknowledged by Sam Novak",
        "Board decision approved 2 of 3 members approve: ben, dan.",
    ):
        expect(page.get_by_role("row", name=row)).to_be_visible()


def test_the_release_says_who_is_waited_for_and_until_when(airflow: str, page: Page) -> None:
    visit(page, airflow + tab("release"))
    waiting = page.get_by_text(re.compile(r"^Waiting for .+ \(\d of 6 answered\), until .+\.$"))
    expect(waiting).to_be_visible()


def test_findings_are_on_the_page_of_their_release(airflow: str, console: Console, page: Page) -> None:
    chain = release_chain(RELEASE, BACKED_OUT_ID)
    about = {"what": "2 hosts run another release.", "evidence": {"chain": chain}}
    with console.ledger() as ledger:
        ledger.append(chain, FINDING, {"what": "A ballot was changed."}, actor="reconcile", key="finding/own")
        ledger.append(INSTALLATION, FINDING, about, actor="reconcile", key="finding/about")
        ledger.append(INSTALLATION, FINDING, {"what": "Another."}, actor="reconcile", key="finding/another")
        unsaid = {"room": "releases", "same": "one", "why": "Slack did not answer."}
        ledger.append(chain, CHAT_FAILED, unsaid, actor="task", key="chat.failed/releases/one")
    asked = f"{OF_RUN}/{BACKED_OUT}/findings"
    found = ask(airflow, "audrey", "GET", asked).json()
    assert found == {
        "findings": ["A ballot was changed.", "2 hosts run another release."],
        "missing": [],
        "conflicts": [],
        "unsaid": ["The chat room releases was not told: Slack did not answer."],
        "overtaken": [],
    }
    assert ask(airflow, "nora", "GET", asked).status_code == 403
    visit(page, airflow + tab("release", BACKED_OUT))
    for what in found["findings"]:
        expect(page.get_by_text(f"Finding: {what}")).to_be_visible()
    expect(page.get_by_text(found["unsaid"][0])).to_be_visible()


def test_a_queued_release_says_behind_what_it_waits_and_who_can_withdraw_that(airflow: str, page: Page) -> None:
    """Let the browser read the story of an ended release as one that waits for the one that is under way."""

    def queued(route: Route) -> None:
        reply = route.fetch(timeout=BROWSER_WAIT_MS, max_retries=3)
        route.fulfill(response=reply, json={**reply.json(), "state": "queued"})

    page.route(re.compile(rf"/api/v2/dags/{RELEASE}/dagRuns/{re.escape(BACKED_OUT)}$"), queued)
    visit(page, airflow + tab("release", BACKED_OUT))
    expect(page.get_by_text(re.compile("In the queue behind 1.1.0, requested by Rita Reyes"))).to_be_visible()
    expect(page.get_by_text("Its requester or a release manager can withdraw it.")).to_be_visible()
    ahead = page.get_by_role("link", name="1.1.0", exact=True)
    expect(ahead).to_have_attribute("href", re.compile(rf"/dags/{RELEASE}/runs/{re.escape(RUN)}$"))


def test_a_queued_release_says_that_what_is_ahead_was_overtaken(airflow: str, page: Page) -> None:
    def queued(route: Route) -> None:
        reply = route.fetch(timeout=BROWSER_WAIT_MS, max_retries=3)
        route.fulfill(response=reply, json={**reply.json(), "state": "queued"})

    page.route(re.compile(rf"/api/v2/dags/{RELEASE}/dagRuns/{re.escape(BACKED_OUT)}$"), queued)
    found = {"findings": [], "missing": [], "unsaid": [], "overtaken": ["The emergency release 1.1.1 overtook it."]}
    page.route(re.compile(rf"/interlock/.*{re.escape(RUN)}/findings"), lambda one: one.fulfill(json=found))
    visit(page, airflow + tab("release", BACKED_OUT))
    expect(
        page.get_by_text(re.compile("requested by Rita Reyes. It was overtaken and is about to end."))
    ).to_be_visible()


def test_a_rollback_is_shown_as_a_release_is(airflow: str, page: Page) -> None:
    """Let the browser read the story of a release under the name of a rollback."""
    rollback = "rollback_bike_shop"
    page.route(
        re.compile(rf"/api/v[12]/dags/{rollback}/"),
        lambda route: route.continue_(url=route.request.url.replace(rollback, RELEASE)),
    )
    visit(page, f"{airflow}/dags/{rollback}/runs/{BACKED_OUT}/plugin/release")
    expect(page.get_by_role("heading", name="Bike shop 1.1.0 backed out")).to_be_visible()


def test_what_does_not_change_stays_in_its_place(airflow: str, browser: Browser, login: Any) -> None:
    with opened_page(browser, storage_state=login) as page:  # a clock is installed in all pages of a context
        page.clock.install()
        page.goto(airflow + tab("release"))
        heading = page.get_by_role("heading", name="Changes since 1.0.0", exact=True)
        expect(heading).to_be_visible()
        heading.evaluate("heading => { heading.parentElement.kept = true; }")
        with page.expect_response("**/hitlDetails?**"):
            page.clock.run_for(6_000)
        expect(page.get_by_text("waiting for answers").first).to_be_visible()
        assert heading.evaluate("heading => heading.parentElement.kept") is True


def test_the_documents_of_a_release_are_on_its_page(
    airflow: str, page: Page, documents: dict[str, Blob], console: Console
) -> None:
    visit(page, airflow + tab("release", BACKED_OUT))
    shown = page.get_by_test_id("interlock-release")
    expect(shown.get_by_text("Rita Reyes").first).to_be_visible()
    shown.get_by_text("Release notes").click()
    expect(shown.get_by_text("- <b>Sells</b> bikes")).to_be_visible()
    with page.expect_download() as download:
        shown.get_by_role("link", name="Download the evidence pack").click()
    assert download.value.path().read_bytes() == PACK
    assert download.value.suggested_filename.startswith("evidence-release_bike_shop-")


def test_a_ballot_that_was_marked_by_hand_is_shown_as_what_it_is(airflow: str, page: Page) -> None:
    visit(page, airflow + tab("release", BACKED_OUT))
    asked = page.get_by_role("row", name="CAB: release")
    expect(asked.filter(has_text="(ben)")).to_contain_text("Approve, says ben")
    expect(asked.filter(has_text="(cora)")).to_contain_text("marked manually, no answer")


def test_a_veto_is_told_from_an_approval_in_words(airflow: str, page: Page) -> None:
    """Let the browser read that dan's answer was a veto."""

    def answered(route: Route) -> None:
        reply = route.fetch(timeout=BROWSER_WAIT_MS, max_retries=3)
        found = reply.json()
        for one in found["hitl_details"]:
            if (one["responded_by_user"] or {}).get("name") == "dan":
                one["chosen_options"] = ["Reject"]
        route.fulfill(response=reply, json=found)

    def decided(route: Route) -> None:
        reply = route.fetch(timeout=BROWSER_WAIT_MS, max_retries=3)
        found = reply.json()
        found["records"]["board"] |= {"approved": False, "vetoed_by": ["dan"], "reason": "Rejected by dan."}
        route.fulfill(response=reply, json=found)

    page.route("**/hitlDetails?**", answered)
    page.route("**/records?", decided)
    visit(page, airflow + tab("release", BACKED_OUT))
    expect(page.get_by_role("row", name="Board decision vetoed Rejected by dan.")).to_be_visible()
    asked = page.get_by_role("row", name="CAB: release")
    expect(asked.filter(has_text="(dan)")).to_contain_text("Reject (veto)")
    expect(asked.filter(has_text="(ben)").get_by_text("Approve", exact=True)).to_be_visible()


def test_the_data_docs_of_the_run_are_read_in_a_tab_without_scripts(airflow: str, page: Page) -> None:
    visit(page, airflow + tab("quality-report"))
    docs = page.frame_locator("iframe[title='Data docs']")
    docs.get_by_role("link", name="tests").first.click()
    expect(docs.get_by_text("at most 0 tests fail")).to_be_visible()
    expect(docs.get_by_text("shop.<img src=x onerror=alert(1)>")).to_be_visible()
    expect(docs.get_by_text("at least 1 tests ran")).to_be_visible()
    docs.get_by_label("Show only what failed").check()
    expect(docs.get_by_text("at least 1 tests ran")).to_be_hidden()


CORAS, RITAS = (f"CAB: release Bike shop 1.1.0 to production? ({whose})" for whose in ("cora", "rita"))


def test_home_and_the_tab_lead_to_ones_own_question(airflow: str, coras: Page) -> None:
    coras.goto(airflow + tab("release"))
    mine = coras.locator("p", has_text="For you: ")
    expect(mine).to_have_count(1)
    expect(mine.get_by_role("link", name=CORAS)).to_be_visible()
    coras.goto(airflow)
    home = coras.get_by_test_id("interlock-home")
    expect(home.get_by_role("link")).to_have_text([CORAS, "All that needs you"])
    home.get_by_role("link", name=CORAS).click()
    coras.wait_for_url(address(airflow, 1))


def test_who_opens_another_persons_question_reads_whose_it_is_and_where_their_own_is(airflow: str, coras: Page) -> None:
    coras.goto(address(airflow, 3))
    coras.get_by_test_id("hitl-option-Abstain").click()
    expect(coras.get_by_text("This question is for Fay (fay)")).to_be_visible()
    expect(coras.get_by_text(address(airflow, 1))).to_be_visible()


def test_no_answer_is_preferred_and_a_decisive_one_is_confirmed(airflow: str, page: Page) -> None:
    visit(page, address(airflow, 5))
    buttons = [page.get_by_test_id(f"hitl-option-{option}") for option in ("Approve", "Reject", "Abstain")]
    for button in buttons:
        expect(button).to_be_enabled()
    assert len({one.evaluate("button => getComputedStyle(button).backgroundColor") for one in buttons}) == 1
    title = page.get_by_text(RITAS, exact=True).last
    assert title.locator("svg").count() == 0, "nothing is marked as missing"
    buttons[0].click()
    expect(page.get_by_text("write your reason into the field “Comment (required)” and switch on")).to_be_visible()
    page.locator("#element_comment").fill("Fine with me")
    page.locator('[id="switch:element_confirmed:control"]').dispatch_event("click")  # the message lies over it
    buttons[0].dispatch_event("click")
    expect(page.get_by_text("response successful")).to_be_visible()
    given = ask(airflow, "audrey", "GET", f"{TASKS}/rollout.cast_ballot/5/hitlDetails").json()
    assert (given["responded_by_user"]["name"], given["chosen_options"]) == ("rita", ["Approve"])
    assert given["params_input"]["comment"] == "Fine with me"


def test_a_ballot_leads_to_the_quality_report(airflow: str, page: Page) -> None:
    visit(page, address(airflow, 1))
    expect(page.get_by_text("2 approvals of 3")).to_be_visible()
    link = page.get_by_role("link", name="quality report of this run")
    assert link.evaluate("anchor => anchor.href") == airflow + tab("quality-report")


def test_the_form_shows_why_a_release_cannot_be_asked_for(airflow: str, page: Page) -> None:
    page.goto(f"{airflow}/dags/{RELEASE}")  # anew: Airflow closes the form if the page changes below it
    page.get_by_role("button", name="Trigger").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Trigger").last.click()
    expect(page.get_by_text("The release request is not valid").first).to_be_visible()


def test_where_there_is_nothing_to_show_the_page_says_so(airflow: str, page: Page) -> None:
    visit(page, airflow + tab("quality-report", BACKED_OUT))
    expect(page.get_by_text("This run has no quality report yet.")).to_be_visible()
