"""The page CAB and its API on a real Airflow: a vote, a question back, a meeting and its minutes, with whose rights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from interlock.adapters.ledger.ledger import open_ledger
from interlock.domain.ledger.chain import INSTALLATION, release_chain
from interlock.domain.ledger.kinds import (
    ANSWER_GIVEN,
    BOARD_DISCUSSED,
    BOARD_MET,
    CONFLICTS_FOUND,
    PLAN_MADE,
    POLICY_RESOLVED,
    QUALITY_JUDGED,
    RELEASE_ENDED,
    RELEASE_REQUESTED,
    ROLLOUT_FROZEN,
    WAVE_DEPLOYED,
)
from interlock.domain.paths import question_page
from tests.browser import COUNTED, answer_question, clicks, opened_context
from tests.factories import releases
from tests.integration.conftest import logged_in
from tests.integration.console_airflow import PEOPLE, RELEASE, RUN_ID
from tests.integration.console_server import Console, console_server
from tests.integration.ledger_server import superuser_connection
from tests.integration.test_pages import assert_is_text, attack, axe, barriers
from tests.mailbox import Mailbox, mailbox

__all__ = ["axe"]
API = "/interlock/api/v1"
MAY_READ = {name for name, roles in PEOPLE.items() if roles} - {"board_clerk"}
ATTACK = "<img src=x onerror=alert(1)>\u202e=1+1 "
CONFLICT = {"kind": "two_trains", "severity": "warning", "what": "The train weekly departs at the same time."}
ITEM = f"{RELEASE}/{RUN_ID}"


@pytest.fixture(scope="module")
def box() -> Iterator[tuple[Mailbox, str]]:
    with mailbox() as started:
        yield started


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory, box: tuple[Mailbox, str]) -> Iterator[Console]:
    """An Airflow of this file's own: what it shows is what its tests put there."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "smtp.json").write_text(box[1])
    with console_server(home) as running:
        tell(running)
        yield running


@pytest.fixture(scope="module")
def airflow(console: Console) -> str:
    return console.base


def tell(console: Console) -> None:
    """Let the ledger have the plan that waits for the board, and a release of the service before it."""
    deadline = datetime.now(UTC) + timedelta(hours=3)
    told: list[tuple[str, dict[str, Any]]] = [
        (RELEASE_REQUESTED, {"service": "bike-shop", "change_type": "normal"}),
        (POLICY_RESOLVED, releases.policy().to_xcom()),
        (PLAN_MADE, releases.plan(summary=ATTACK).to_xcom()),
        (QUALITY_JUDGED, releases.quality(releases.failure()).to_xcom()),
        (CONFLICTS_FOUND, {"conflicts": [CONFLICT]}),
        (ROLLOUT_FROZEN, releases.rollout(summary=ATTACK, decide_by=deadline).to_xcom()),
    ]
    before: list[tuple[str, dict[str, Any]]] = [
        (RELEASE_REQUESTED, {"service": "bike-shop", "change_type": "normal"}),
        (ROLLOUT_FROZEN, releases.rollout(version="1.0.0", risk=40).to_xcom()),
        (WAVE_DEPLOYED, {"number": 1}),
    ]
    end = {"run": f"{RELEASE}/earlier", "service": "bike-shop", "version": "1.0.0", "outcome": "deployed"}
    with open_ledger(superuser_connection(console.postgres)) as ledger:
        for chain, entries in ((release_chain(RELEASE, RUN_ID), told), (release_chain(RELEASE, "earlier"), before)):
            for number, (kind, payload) in enumerate(entries):
                ledger.append(chain, kind, payload, actor="test", key=f"cab/{number}")
        ledger.append(INSTALLATION, RELEASE_ENDED, end, actor="test", key="cab/ended")


def ask(console: Console, user: str, method: str, path: str, body: Any = None, **params: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {console.token(user)}"}
    return httpx.request(method, console.base + path, json=body, headers=headers, params=params or None, timeout=60)


def item(console: Console, user: str, **params: Any) -> dict[str, Any]:
    found = ask(console, user, "GET", f"{API}/agenda", **params).raise_for_status().json()
    (one,) = [each for each in found["items"] if each["run_id"] == RUN_ID]
    return dict(one)


ROUTES = [
    ("GET", f"{API}/agenda", None),
    ("POST", f"{API}/remarks", {"dag_id": "x", "run_id": "y", "text": "z"}),
    ("GET", f"{API}/boards/cab/minutes", None),
    ("POST", f"{API}/boards/cab/minutes", {"began_at": "2026-11-23T06:17:00Z", "present": [], "items": []}),
    ("GET", f"{API}/minutes/0123.md", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ROUTES, ids=[f"{one[0]} {one[1]}" for one in ROUTES])
def test_each_route_is_for_those_who_may_read_what_it_says(console: Console, method: str, path: str, body: Any) -> None:
    for user in PEOPLE:
        answer = ask(console, user, method, path, body)
        assert (answer.status_code == 403) == (user not in MAY_READ), (user, answer.text)
    logged_out = httpx.request(method, console.base + path, json=body, timeout=60)
    assert logged_out.status_code == 401
    assert logged_out.headers["content-type"] == "application/problem+json"


def test_an_item_has_the_change_the_votes_and_what_the_reader_can_do(console: Console) -> None:
    found = item(console, "cora", board="cab")
    assert found["change"]["summary"] == ATTACK
    assert found["conflicts"] == ["warning: The train weekly departs at the same time."]
    assert [one["version"] for one in found["past"]] == ["1.0.0"]
    assert "Its risk is 12; that of 1.0.0 was 40." in found["change"]["differences"]
    assert [one["user"] for one in found["seats"]] == ["ben", "cora", "dan"]
    assert found["demands"][0]["lacks"] == ["0 of 2 approvals"]
    assert found["mine"]["map_index"] == 1
    assert item(console, "audrey")["mine"] is None
    assert not item(console, "audrey")["may_remark"]
    ecab = ask(console, "cora", "GET", f"{API}/agenda", board="ecab").json()
    assert RUN_ID not in {one["run_id"] for one in ecab["items"]}
    assert ask(console, "cora", "GET", f"{API}/agenda", board="none").status_code == 404


def test_a_question_back_is_on_record_and_mailed_to_the_requester_whose_answer_is_mailed_back(
    console: Console, box: tuple[Mailbox, str]
) -> None:
    asked = {"dag_id": RELEASE, "run_id": RUN_ID, "text": f"Why now? {ATTACK}"}
    assert ask(console, "ben", "POST", f"{API}/remarks", asked).raise_for_status().json() == {
        "told": ["rita"],
        "not_told": "",
    }
    answered = ask(console, "rita", "POST", f"{API}/remarks", {**asked, "text": "The bikes arrived."})
    assert answered.raise_for_status().json()["told"] == ["ben"]
    first, second = (one.payload for one in console.entries(release_chain(RELEASE, RUN_ID), BOARD_DISCUSSED))
    assert (first["user"], second["text"]) == ("ben", "The bikes arrived.")
    mails = box[0]
    assert mails.to == ["rita", "ben"]
    assert "Why now?" in mails.words(0)
    assert "<img" not in mails.words(0)
    assert "/plugin/cab?item=release_bike_shop%2Fmanual__" in mails.words(0)
    assert [one["user"] for one in item(console, "cora")["remarks"]] == ["ben", "rita"]


def test_a_remark_that_cannot_be_mailed_is_on_record_and_says_so(console: Console, box: tuple[Mailbox, str]) -> None:
    box[0].closed_for = {"rita@example.com"}
    try:
        asked = {"dag_id": RELEASE, "run_id": RUN_ID, "text": "Are you there?"}
        made = ask(console, "ben", "POST", f"{API}/remarks", asked).raise_for_status().json()
    finally:
        box[0].closed_for = set()
    assert made["told"] == []
    assert "the mail was not sent" in made["not_told"]
    assert console.entries(release_chain(RELEASE, RUN_ID), BOARD_DISCUSSED)[-1].payload["text"] == "Are you there?"


@pytest.mark.parametrize(
    ("user", "body", "status"),
    [
        ("audrey", {}, 403),
        ("ben", {"run_id": "none"}, 404),
        ("ben", {"text": "  "}, 422),
        ("ben", {"text": "x" * 4001}, 422),
        ("ben", {"digest": "a" * 64}, 422),
    ],
    ids=["who has no ballot", "of no release", "empty", "too long", "with more fields"],
)
def test_a_remark_that_is_not_one_is_refused(console: Console, user: str, body: dict[str, str], status: int) -> None:
    before = console.entries(release_chain(RELEASE, RUN_ID), BOARD_DISCUSSED)
    asked = {"dag_id": RELEASE, "run_id": RUN_ID, "text": "Why?"}
    assert ask(console, user, "POST", f"{API}/remarks", {**asked, **body}).status_code == status
    assert console.entries(release_chain(RELEASE, RUN_ID), BOARD_DISCUSSED) == before


def meeting(**changes: Any) -> dict[str, Any]:
    held = {
        "began_at": (datetime.now(UTC) - timedelta(minutes=30)).isoformat(),
        "present": ["ben", "rita"],
        "items": [{"dag_id": RELEASE, "run_id": RUN_ID, "seconds": 300, "note": ATTACK}],
        "note": "",
    }
    return held | changes


@pytest.mark.parametrize(
    ("user", "changes", "status"),
    [
        ("olga", {}, 403),
        ("ben", {"present": ["nobody"]}, 422),
        ("ben", {"began_at": "2026-01-01T00:00:00Z"}, 422),
        ("ben", {"items": []}, 422),
        ("ben", {"items": [{"dag_id": RELEASE, "run_id": "none"}]}, 404),
    ],
    ids=["by a stranger to the boards", "with a stranger", "long ago", "about nothing", "about no release"],
)
def test_minutes_that_are_none_are_refused(console: Console, user: str, changes: dict[str, Any], status: int) -> None:
    before = console.entries(INSTALLATION, BOARD_MET)
    answer = ask(console, user, "POST", f"{API}/boards/cab/minutes", meeting(**changes))
    assert answer.status_code == status, answer.text
    assert console.entries(INSTALLATION, BOARD_MET) == before


def test_minutes_that_are_sent_again_are_the_same_and_are_a_file(console: Console) -> None:
    held = meeting()
    first, again = (ask(console, "ben", "POST", f"{API}/boards/cab/minutes", held).json() for _ in range(2))
    assert first == again
    listed = ask(console, "audrey", "GET", f"{API}/boards/cab/minutes").json()
    assert first["id"] in {one["id"] for one in listed["minutes"]}
    file = ask(console, "audrey", "GET", f"/{first['file']}")
    assert file.headers["content-disposition"].startswith("attachment")
    assert "bike-shop 1.1.0" in file.text
    assert "Ben Adler (ben), Rita Reyes (rita)" in file.text
    assert "\u202e" not in file.text


@pytest.fixture
def bens(console: Console, browser: Browser) -> Iterator[Page]:
    with opened_context(browser, storage_state=logged_in(console, "ben")) as context:
        page = context.new_page()
        page.on("dialog", lambda dialog: pytest.fail(dialog.message))
        yield page


def test_a_board_meets_asks_votes_and_has_its_minutes_by_keyboard_alone(console: Console, bens: Page) -> None:
    bens.goto(f"{console.base}/plugin/cab?board=cab")
    cab = bens.get_by_test_id("interlock-cab")
    begin = cab.get_by_role("button", name="Begin a meeting of the Change Advisory Board")
    begin.press("Enter")
    held = cab.get_by_role("region", name="Meeting")
    held.get_by_label("Dan Mbeki").press("Space")
    cab.get_by_role("list", name="Agenda").get_by_role("button", name=re.compile(r"bike-shop 1\.1\.0")).press("Enter")
    article = cab.get_by_role("article", name="bike-shop 1.1.0")
    expect(article.get_by_text(ATTACK.strip()).first).to_be_visible()
    expect(article.get_by_text("Vote of the board is not done.")).to_be_visible()
    assert article.locator("img").count() == 0
    expect(article.get_by_text("1.0.0 deployed")).to_be_visible()
    expect(article.get_by_text("Proven: each host still has 1.0.0.")).to_be_visible()
    ask_back = article.get_by_label("Ask the requester; the question is on record, and is no vote")
    ask_back.press_sequentially("Who tested it?")
    article.get_by_role("button", name="Ask", exact=True).press("Enter")
    expect(article.get_by_text("On record. Told by mail: Rita Reyes.")).to_be_visible()
    vote = article.get_by_role("form", name="Your vote")
    vote.get_by_label("Approve").press("Space")
    vote.get_by_label("Comment (required)").press_sequentially("Tested, and easy to take back")
    vote.get_by_role("button", name="Vote: Approve").press("Enter")
    expect(article.get_by_text("Tested, and easy to take back")).to_be_visible()
    expect(vote.get_by_label("Approve")).not_to_be_checked()  # of his other ballot, which names him by number
    expect(vote.get_by_label("Comment (required)")).to_have_value("")
    expect(article.get_by_text("so far 1 of 2 approvals")).to_be_visible()
    given = console.entries(release_chain(RELEASE, RUN_ID), ANSWER_GIVEN)[-1].payload
    assert (given["user"], given["choice"], given["task_id"]) == ("ben", "Approve", "rollout.cast_ballot")
    held.get_by_label("Note on the meeting").press_sequentially("Short")
    expect(held.get_by_role("timer")).not_to_have_text("This item: 0:00")
    held.get_by_role("button", name="End the meeting and write the minutes").press("Enter")
    file = cab.get_by_role("link", name="The file to send")
    expect(file).to_be_visible()
    minutes = console.entries(INSTALLATION, BOARD_MET)[-1].payload
    assert (minutes["by"], minutes["present"], minutes["absent"]) == ("ben", ["ben", "cora"], ["dan"])
    (discussed,) = [one for one in minutes["items"] if one["run"] == ITEM]
    assert [(one["user"], one["choice"]) for one in discussed["votes"]] == [("ben", "Approve")]
    with bens.expect_download() as saved:
        file.press("Enter")
    assert saved.value.suggested_filename.startswith("minutes-cab-")


def test_a_vote_without_the_right_is_refused_by_airflow_with_the_reason(airflow: str, page: Page) -> None:
    def claim(route: Any) -> None:
        reply = route.fetch()
        found = reply.json()
        for one in found["items"]:
            one["mine"] = {"task_id": "rollout.cast_ballot", "map_index": 1, "path": "x"}
        route.fulfill(response=reply, json=found)

    page.route(re.compile(r"/interlock/api/v1/agenda"), claim)
    page.goto(f"{airflow}/plugin/cab?item={ITEM.replace('+', '%2B')}")
    vote = page.get_by_role("form", name="Your vote")
    vote.get_by_label("Reject").check()
    vote.get_by_label("Comment (required)").fill("I want to")
    vote.get_by_role("button", name="Vote: Reject").click()
    expect(vote.get_by_role("alert")).to_contain_text("cora")


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")])
def test_the_page_has_no_serious_barriers(
    airflow: str,
    browser: Browser,
    login: Any,
    axe: str,
    width: int,
    scheme: Any,
) -> None:
    view = {"width": width, "height": 900}
    with opened_context(browser, viewport=view, color_scheme=scheme, storage_state=login) as context:
        page = context.new_page()
        page.goto(f"{airflow}/plugin/cab?board=cab&item={ITEM.replace('+', '%2B')}")
        expect(page.get_by_role("heading", name="Votes")).to_be_visible()
        page.get_by_role("button", name="Begin a meeting of the Change Advisory Board").click()
        expect(page.get_by_role("button", name="End the meeting")).to_be_enabled()
        settled = (
            "root => Promise.all(root.getAnimations({ subtree: true }).map((one) => one.finished)).then(() => null)"
        )
        page.get_by_test_id("interlock-cab").evaluate(settled)  # a button that is being shown has less contrast
        assert barriers(page, axe, "[data-testid=interlock-cab]") == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than the screen"


OF_ITEM = f"plugin/cab?item={ITEM.replace('+', '%2B')}"


@contextmanager
def followed(console: Console, browser: Browser, user: str, link: str) -> Iterator[Page]:
    """Open the page to which a link of a mail leads, which is a click, with a count of all further clicks."""
    with opened_context(browser, storage_state=logged_in(console, user)) as context:
        context.add_init_script(COUNTED)
        page = context.new_page()
        page.goto(f"{console.base}/{link}")
        yield page


def test_from_a_mail_one_click_leads_to_the_question_and_three_more_to_the_vote(
    console: Console, browser: Browser
) -> None:
    with followed(console, browser, "fay", question_page(RELEASE, RUN_ID, "rollout.cast_ballot", 3)) as page:
        answer_question(page, "Reject", "Not secure")
        assert clicks(page) == 3, "the comment, the switch, the answer"
    given = console.entries(release_chain(RELEASE, RUN_ID), ANSWER_GIVEN)[-1].payload
    assert (given["user"], given["choice"], given["map_index"]) == ("fay", "Reject", 3)


def test_what_people_wrote_is_text(airflow: str, page: Page) -> None:
    attack(page)
    assert_is_text(page, f"{airflow}/{OF_ITEM}", "cab", may_widen=True)
