"""A release that goes through four environments, as people see it in a browser: the tab, the test matrix, the ballot.

The records are what ``tests/factories/journeys.py`` leaves in the ledger of a real Airflow.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import yaml
from playwright.sync_api import Browser, Page, Route, expect

from interlock.adapters.artifacts.store import ArtifactStore, Folder
from interlock.adapters.signing.witness import only_witnessed
from interlock.cli.app import main
from interlock.domain.ledger.chain import INSTALLATION, Entry, release_chain
from interlock.domain.ledger.kinds import CASE_ATTACHED, EMERGENCY_STOP_DECLARED, EMERGENCY_STOP_LIFTED
from interlock.domain.ledger.witness import ENVELOPE
from interlock.domain.paths import question_page
from interlock.domain.runbook.progress import Ended
from interlock.estate.airflow import witness
from tests.browser import BROWSER_WAIT_MS, opened_context, visit
from tests.factories import journeys
from tests.factories.journeys import Journey
from tests.integration.conftest import logged_in
from tests.integration.console_airflow import BOARD_ID, CASE, PATH_RELEASE, PEOPLE, UNDER_WAY_ID
from tests.integration.console_server import Console
from tests.integration.test_pages import assert_is_text, attack

RUNS = f"/interlock/api/v1/dags/{PATH_RELEASE}/dagRuns"
NARROW = {"width": 390, "height": 844}
WIDTHS = "one => [one.scrollWidth, one.clientWidth]"


def where(run_id: str, page: str = "release") -> str:
    return f"/dags/{PATH_RELEASE}/runs/{quote(run_id, safe='')}/plugin/{page}"


@pytest.fixture(scope="module")
def airflow(console: Console) -> Iterator[str]:
    """Return the address of Airflow, with a service that has these environments and two releases of it."""
    folder = console.home / "catalogue" / "services"
    file = folder / "repair-shop.yaml"
    file.write_text(yaml.safe_dump(journeys.service_file(yaml.safe_load((folder / "bike-shop.yaml").read_text()))))
    store = ArtifactStore(Folder(console.home / "artifacts"))
    basket, till = journeys.case("basket", proves=("SHOP-12",)), journeys.case("till")
    failed = journeys.result(journeys.LONG_CASE, "failed", comment="<b>No</b> bikes", evidence="x" * 300)
    with console.ledger() as ledger:
        under_way = Journey(ledger, release_chain(PATH_RELEASE, UNDER_WAY_ID)).planned().rehearsed().deployed("test")
        under_way.cases("test", [basket, journeys.LONG_CASE, till], [journeys.result(basket), failed], store)
        under_way.judged("test", defects=journeys.DEFECTS).deployed("integration").tested("user-acceptance")
        voted = Journey(ledger, release_chain(PATH_RELEASE, BOARD_ID)).through().approved()
        voted.step_begun(1).step_ended(1, Ended(by="sam", evidence="INC-7")).wave(1, 1).step_begun(2)
    yield console.base
    file.unlink()


def test_how_far_a_release_has_come_is_for_those_who_may_read_all_of_it(airflow: str, console: Console) -> None:
    path = f"{RUNS}/{UNDER_WAY_ID}/progress"
    assert httpx.get(airflow + path).status_code == 401
    assert console.ask("nora", "GET", path).status_code == 403
    found = console.ask("rita", "GET", path).json()
    assert {one["environment"]: one["state"] for one in found["environments"]} == {
        "test": "passed",
        "integration": "deployed",
        "user-acceptance": "asked",
        "staging": "pending",
        "production": "pending",
    }
    assert [one["id"] for one in found["defects"]] == ["menu-1", "total-3", "bill-2", "print-1"]
    assert console.ask("rita", "GET", f"{RUNS}/none/progress").json() == {
        "environments": [],
        "steps": [],
        "defects": [],
        "rehearsal": None,
    }


def test_the_tab_shows_each_environment_in_order_with_its_state(airflow: str, page: Page) -> None:
    visit(page, airflow + where(UNDER_WAY_ID))
    environments = page.locator("section", has=page.get_by_role("heading", name="Environments", exact=True))
    expect(environments.locator("tbody tr")).to_have_count(5)
    for row in (
        "test passed 1 of 1 host",
        "integration after test side by side with user-acceptance deployed, under test",
        "user-acceptance after test side by side with integration waiting for sign-off",
        "staging after integration and user-acceptance pending",
        "production pending",
    ):
        expect(environments.get_by_role("row", name=row)).to_be_visible()
    test = environments.get_by_role("row", name="test passed")
    expect(test).to_contain_text("2 of 3 run")
    expect(test).to_contain_text("1 failed, 1 not run, 1 passed")
    asked = environments.get_by_role("row", name="user-acceptance after")
    expect(asked).to_contain_text("Fay Tanaka, Sam Novak, Dan Mbeki (2 of 3 needed)")
    expect(asked).to_contain_text("until 2026-11-25 06:17 UTC")
    digest = asked.locator("code")
    assert digest.get_attribute("title", timeout=5000) is not None
    expect(page.get_by_role("row", name="bill-2")).to_contain_text("the policy stops releases to production")
    expect(page.get_by_role("row", name="total-3")).to_contain_text("fixed by this release")


def test_the_tab_shows_the_rehearsal_of_database_changes(airflow: str, page: Page) -> None:
    visit(page, airflow + where(UNDER_WAY_ID))
    changes = page.locator("section", has=page.get_by_role("heading", name="Database changes", exact=True))
    for part in (
        "rehearsed",
        "repairs",
        "2 tables with 1,234 rows; on test",
        "1.9.0: 4 smoke requests and 12 tests passed",
        "the column tickets.note is longer",
        "the table old_prices was taken away",
        "2 min",
    ):
        expect(changes).to_contain_text(part)
    visit(page, airflow + where(BOARD_ID))
    expect(page.get_by_role("heading", name="Steps around the waves")).to_be_visible()
    expect(page.get_by_role("heading", name="Database changes")).to_have_count(0)


def test_the_tab_shows_the_runbook_planned_against_actual(airflow: str, page: Page) -> None:
    visit(page, airflow + where(BOARD_ID))
    steps = page.locator("section", has=page.get_by_role("heading", name="Steps around the waves"))
    first = steps.get_by_role("row", name="1. Tell the bank that payments pause before the first wave")
    for part in ("by hand: Rita Reyes or Sam Novak", "done", "10 min", "Sam Novak: INC-7"):
        expect(first).to_contain_text(part)
    expect(steps.get_by_role("row", name="2. Add the columns of 2.0 after wave 1")).to_contain_text("running")
    last = steps.get_by_role("row", name="3. Drop the old columns after the last wave")
    expect(last).to_contain_text("cannot be taken back")
    expect(last).to_contain_text("pending")
    production = page.get_by_role("row", name="production deploying 1 of 3 hosts")
    expect(production).to_contain_text("Ben Adler: Approve")


def explanation(run: str) -> str:
    return f"{RUNS}/{run}/explanation"


def test_why_a_release_does_not_move_is_explained_on_its_page_and_to_programs(
    airflow: str,
    console: Console,
    page: Page,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, dag = explanation(BOARD_ID), f"/api/v2/dags/{PATH_RELEASE}"
    assert httpx.get(airflow + path).status_code == 401
    assert console.ask("nora", "GET", path).status_code == 403
    assert console.ask("admin", "GET", explanation("none")).status_code == 404
    assert console.ask("admin", "PATCH", dag, {"is_paused": True}).status_code == 200
    found = console.ask("rita", "GET", path).json()
    assert found["state"] == "stuck"
    assert [act["kind"] for act in found["acts"]] == ["unpause", "answer"]
    assert found["acts"][1]["by"] == ["rita", "ben", "dan", "fay", "sam"]
    assert found["acts"][1]["until"].startswith("2026-11-25T06:17"), "the board's deadline, by the frozen plan"
    visit(page, airflow + where(BOARD_ID))
    shown = page.get_by_text("Why it does not move: The Dag is paused, so Airflow begins nothing of it.")
    expect(shown).to_be_visible()
    expect(page.get_by_text("unpause the Dag (operators of Airflow)")).to_be_visible()
    assert console.ask("admin", "PATCH", dag, {"is_paused": False}).status_code == 200
    for name, value in (("URL", airflow), ("USER", "audrey"), ("PASSWORD", "audrey")):
        monkeypatch.setenv(f"INTERLOCK_{name}", value)
    run = f"{PATH_RELEASE}/{BOARD_ID}"
    assert main(["explain", run]) == 0
    said = capsys.readouterr().out
    assert "paused" not in said
    assert said.startswith("Waiting for Rita Reyes or Ben Adler")
    assert "- answer: rollout.cast_ballot (rita, ben, dan, fay, sam), until 2026-11-25 06:17 UTC" in said
    assert main(["explain", run, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["acts"] == console.ask("audrey", "GET", path).json()["acts"]
    under_way = console.ask("rita", "GET", explanation(UNDER_WAY_ID)).json()
    assert under_way["state"] == "moves"
    assert "quality.integration.judge is running. Besides: Waiting for" in under_way["why"]
    assert main(["explain", f"{PATH_RELEASE}/none"]) == 1
    assert "Airflow has no run none" in capsys.readouterr().err


def test_what_of_airflow_stands_still_is_named(airflow: str, console: Console) -> None:
    this = ("quality.integration.judge", PATH_RELEASE, UNDER_WAY_ID)
    changes = (
        ("UPDATE slot_pool SET slots = 0", ()),
        ("UPDATE job SET state = 'failed' WHERE job_type = 'TriggererJob'", ()),
        ("UPDATE task_instance SET state = 'queued' WHERE task_id = ? AND dag_id = ? AND run_id = ?", this),
        (
            "UPDATE task_instance SET state = 'deferred' WHERE task_id = ? AND dag_id = ? AND run_id = ?",
            ("quality.staging.await_soak", PATH_RELEASE, UNDER_WAY_ID),
        ),
    )
    with closing(sqlite3.connect(console.home / "airflow.db")) as database:
        for statement, values in changes:
            assert database.execute(statement, values).rowcount
        database.commit()
        found = console.ask("rita", "GET", explanation(UNDER_WAY_ID)).json()
        assert [act["kind"] for act in found["acts"]] == ["answer", "answer", "trigger", "pool", "wait"]
        assert "Airflow's triggerer gives no sign of life since 2" in found["why"]
        assert (
            "quality.integration.judge waits for a place in the pool default_pool: 0 places are taken." in found["why"]
        )
        database.execute("UPDATE job SET state = 'failed'")
        database.commit()
        found = console.ask("rita", "GET", explanation(UNDER_WAY_ID)).json()
        assert (found["state"], found["acts"][0]["kind"]) == ("stuck", "schedule")
        database.execute("UPDATE job SET state = 'running'")
        database.execute("UPDATE slot_pool SET slots = 128")
        database.execute("UPDATE task_instance SET state = 'running' WHERE task_id = ?", this[:1])
        database.execute("UPDATE task_instance SET state = NULL WHERE task_id = 'quality.staging.await_soak'")
        database.commit()


def test_what_would_refuse_a_wave_is_said_before_it_begins(airflow: str, console: Console, page: Page) -> None:
    said = [one["what"] for one in console.ask("rita", "GET", explanation(BOARD_ID)).json()["refusals"]]
    stop = {"id": "4711", "scope": "everything", "reason": "Fire in the data centre", "by": "gus"}
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    with console.ledger() as ledger:
        ledger.append(INSTALLATION, EMERGENCY_STOP_DECLARED, {**stop, "until": until}, actor="task", key="stop")
    try:
        found = console.ask("rita", "GET", explanation(BOARD_ID)).json()["refusals"]
        (more,) = [one for one in found if one["what"] not in said]
        assert more["what"].startswith("Emergency stop: everything, by gus: Fire in the data centre")
        assert (more["at"], more["who"]) == (None, "a person who may lift the stop")
        visit(page, airflow + where(BOARD_ID))
        page.get_by_text("What would refuse a wave").click()
        expect(page.get_by_role("listitem").filter(has_text="Emergency stop: everything, by gus")).to_be_visible()
    finally:
        with console.ledger() as ledger:
            ledger.append(INSTALLATION, EMERGENCY_STOP_LIFTED, {"id": "4711", "by": "gus"}, actor="task", key="lift")


@pytest.mark.parametrize("name", ["release", "test-matrix"])
def test_nothing_of_a_page_is_wider_than_a_phone(airflow: str, page: Page, name: str) -> None:
    page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    visit(page, airflow + where(UNDER_WAY_ID, name))
    expect(page.get_by_text("SHOP-12").first).to_be_visible()
    wide, window = page.get_by_test_id(f"interlock-{name}").evaluate(WIDTHS)
    assert wide <= window


def test_the_matrix_shows_what_was_tested_and_what_nobody_tested(airflow: str, page: Page) -> None:
    visit(page, airflow + where(UNDER_WAY_ID, "test-matrix"))
    expect(page.get_by_text("Nobody tested (")).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text="till in test: The till adds up")).to_be_visible()
    expect(page.get_by_role("row", name="SHOP-12 The basket adds up")).to_contain_text("passed")
    failed = page.get_by_role("row", name="#7 The menu lists <b>every</b> bike")
    expect(failed).to_contain_text("failed")
    expect(failed).to_contain_text("<b>No</b> bikes")
    assert page.get_by_test_id("interlock-test-matrix").locator("b").count() == 0, "what people write is text"


@pytest.mark.parametrize(
    ("run_id", "name"), [(UNDER_WAY_ID, "release"), (BOARD_ID, "release"), (UNDER_WAY_ID, "test-matrix")]
)
def test_what_people_wrote_is_text(airflow: str, page: Page, run_id: str, name: str) -> None:
    """Steps, sign-offs and waivers, defects and who decided of them, test cases and what testers say."""
    attack(page)
    assert_is_text(page, airflow + where(run_id, name), name)


def test_a_matrix_of_two_hundred_cases_is_narrowed_down_with_the_keyboard(airflow: str, page: Page) -> None:
    """Let the browser read a matrix of the product with many more rows."""

    def many(route: Route) -> None:
        reply = route.fetch(timeout=BROWSER_WAIT_MS, max_retries=3)
        found = reply.json()
        rows = [one for one in found["rows"] if one["case"]]
        found["rows"] = [{**rows[number % len(rows)], "case": f"case-{number}"} for number in range(200)]
        found["rows"][0] |= {"state": "not_run", "by": "", "taker": {"user": "fay", "since": "2026-11-23T06:17:00Z"}}
        found["untested"] = [f"case-{number} in test: Till" for number in range(66)]
        route.fulfill(response=reply, json=found)

    page.route("**/interlock/api/v1/**/matrix?**", many)
    visit(page, airflow + where(UNDER_WAY_ID, "test-matrix"))
    expect(page.locator("tbody tr").first).to_be_visible()
    expect(page.get_by_role("row", name="case-0")).to_contain_text("Fay Tanaka is at it since")
    everything = page.get_by_role("button", name="All 200")
    expect(everything).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_text("and 46 more")).to_be_visible()
    failed = page.get_by_role("button", name=re.compile(r"^\d+ failed$"))
    number = int(failed.inner_text().split()[0])
    failed.press("Enter")
    expect(page.get_by_role("row", name="SHOP-12 The basket adds up")).to_have_count(0)
    expect(page.get_by_role("cell", name="failed", exact=True)).to_have_count(number)
    expect(failed).to_be_focused()


def test_a_release_without_test_cases_says_so(airflow: str, page: Page) -> None:
    visit(page, airflow + where(BOARD_ID, "test-matrix"))
    expect(page.get_by_text("This run has no test cases that people run.")).to_be_visible()


def test_a_ballot_begins_with_what_cannot_be_taken_back_and_shows_each_environment(airflow: str, page: Page) -> None:
    page.goto(f"{airflow}/{question_page(PATH_RELEASE, BOARD_ID, 'rollout.cast_ballot', -1)}")
    for text in ("This release cannot be taken back as a whole", "Environments before production"):
        expect(page.get_by_text(text)).to_be_visible()
    warning, table = (page.get_by_text(text).first for text in ("This release cannot", "Requested by"))
    above, below = warning.bounding_box(), table.bounding_box()
    assert above is not None
    assert below is not None
    assert above["y"] < below["y"]
    expect(page.get_by_role("row", name="staging passed its gate; ran there for 2 hours 5 minutes")).to_be_visible()
    expect(page.get_by_role("row", name="Defects 1 brought along by this release")).to_be_visible()


PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
CASE_FILES = f"/interlock/api/v1/dags/{PATH_RELEASE}/dagRuns/{quote(UNDER_WAY_ID, safe='')}"


CELLS = ("Your files", "Who is at it")


def attach(console: Console, user: str, data: bytes) -> httpx.Response:
    headers = {"Content-Type": "application/octet-stream", "Authorization": f"Bearer {console.token(user)}"}
    path = f"{console.base}{CASE_FILES}/taskInstances/{CASE}/1/files"
    return httpx.post(path, content=data, params={"name": f"{user}.png"}, headers=headers, timeout=60)


def take(console: Console, user: str, instead_of: str | None = None) -> httpx.Response:
    path = f"{CASE_FILES}/taskInstances/{CASE}/1/taker"
    return console.ask(user, "PUT", path, {"instead_of": instead_of})


def told_of(answer: httpx.Response, entry: Entry) -> dict[str, Any]:
    """Return the payload of an entry as the answer to its request has it, with the entry's own signature."""
    return {**answer.json(), ENVELOPE: entry.payload[ENVELOPE]}


@pytest.mark.usefixtures("airflow")
@pytest.mark.parametrize("user", PEOPLE)
def test_who_may_give_the_result_of_a_test_case_takes_it_and_attaches_files_to_it(console: Console, user: str) -> None:
    answer = attach(console, user, PNG + user.encode())
    assert answer.status_code == (200 if user == "fay" else 403), answer.text
    taken, back = take(console, user), console.ask(user, "DELETE", f"{CASE_FILES}/taskInstances/{CASE}/1/taker")
    assert {taken.status_code, back.status_code} == {answer.status_code}, "and nobody else takes the case"
    entries = console.entries(release_chain(PATH_RELEASE, UNDER_WAY_ID), CASE_ATTACHED)
    assert {one.actor for one in entries} <= {"fay"}
    if user == "fay":
        key = witness.public_key(console.postgres).read_bytes()
        (made,) = only_witnessed([one for one in entries if one.payload == told_of(answer, one)], key)
        place = f"{CASE_FILES}/files/{made.payload['file']['sha256']}"
        assert httpx.get(console.base + place).status_code == 401
        assert console.ask("nora", "GET", place).status_code == 403
        assert console.ask("audrey", "GET", place).content == PNG + b"fay"
    if user == "rita":
        assert "this test case is for" in answer.json()["detail"], "she was asked, and her result would not count"
    listed = console.ask(user, "GET", f"{CASE_FILES}/cases")
    reads = bool(PEOPLE[user]) and user != "board_clerk"
    assert listed.status_code == (200 if reads else 403)
    if reads:
        assert [one["case"] for one in listed.json()["cases"]] == (["menu"] if user == "fay" else [])


def test_a_tester_attaches_files_on_the_tab_and_goes_on_to_the_result(
    airflow: str, console: Console, browser: Browser, tmp_path: Path
) -> None:
    shot = tmp_path / "<b>Kasse<b> 1.png"
    shot.write_bytes(PNG + b"of the tab")
    with opened_context(browser, viewport=NARROW, storage_state=logged_in(console, "fay")) as context:
        page = context.new_page()
        page.goto(airflow + where(UNDER_WAY_ID, "test-matrix"))
        own = page.locator("section", has=page.get_by_role("heading", name="Your test cases"))
        field = own.locator("input[type=file]")
        expect(field).to_have_accessible_name(re.compile("Attach a file to"))
        attached, at_it = (own.locator(f"td[data-head='{name}']").get_by_role("status") for name in CELLS)
        field.set_input_files(shot)
        expect(attached).to_have_text("It is attached. It belongs to the result that you give.")
        with page.expect_download() as started:
            own.get_by_role("link", name="<b>Kasse<b> 1.png").click()
        assert started.value.suggested_filename == "_b_Kasse_b_ 1.png"
        assert started.value.path().read_bytes() == shot.read_bytes()
        own.get_by_role("button", name=re.compile("^Take: The menu")).click()
        expect(at_it).to_have_text(re.compile("^You are at it since 20"))
        own.get_by_role("button", name=re.compile("^Give back: The menu")).click()
        expect(at_it).to_have_text("Nobody is at it")
        bad = tmp_path / "shot.png"
        bad.write_bytes(b"MZ\x90\0")
        field.set_input_files(bad)
        expect(attached).to_contain_text("whatever its name says")
        widths = page.get_by_test_id("interlock-test-matrix").evaluate(WIDTHS)
        assert widths[0] == widths[1], "nothing is wider than the screen"
        expect(own.get_by_role("link", name="Give the result")).to_have_attribute(
            "href", re.compile("/mapped/1/required_actions$")
        )
        if folder := os.environ.get("SCREENSHOTS"):
            for scheme in ("light", "dark"):
                for width in (390, 1440):
                    page.emulate_media(color_scheme=scheme)
                    page.set_viewport_size({"width": width, "height": 900})
                    page.screenshot(path=f"{folder}/tests-{scheme}-{width}.png", full_page=True)
