"""A real browser: Debian's Chromium, in which people log in where people do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

BROWSER_WAIT_MS = 240_000
"""The longest wait for what a page shows. Airflow's pages load much, and other tests have the machine as well."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser for a block."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=BROWSER_WAIT_MS)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu", "--no-first-run"]
        )
        yield launched
        launched.close()


@contextmanager
def opened_context(browser: Browser, **options: Any) -> Iterator[BrowserContext]:
    """Open a context without cookies, or with those that ``storage_state`` names, for a block."""
    context = browser.new_context(**{"viewport": {"width": 1440, "height": 1000}, **options})
    context.set_default_timeout(BROWSER_WAIT_MS)
    yield context
    context.close()


@contextmanager
def opened_page(browser: Browser, **options: Any) -> Iterator[Page]:
    """Open a page in a context of its own for a block."""
    with opened_context(browser, **options) as context:
        yield context.new_page()


ANEW = """async path => {
  const go = place => {
    history.pushState({}, "", place);
    dispatchEvent(new PopStateEvent("popstate", { state: {} }));
  };
  go("/interlock-nowhere");
  while (document.querySelector("[data-testid^=interlock-]")) await new Promise(next => setTimeout(next, 10));
  go(path);
}"""
"""To a page that Airflow does not have, until nothing of ours is there, and from it to the one that is wanted."""


def visit(page: Page, address: str) -> None:
    """Go to a page of Airflow's: as a link does, without loading Airflow anew, if the browser is there already."""
    here = urlsplit(page.url)
    there = urlsplit(address)
    if (here.scheme, here.netloc) != (there.scheme, there.netloc) or here.path.startswith("/auth"):
        page.goto(address)
    else:
        page.evaluate(ANEW, there.path + (f"?{there.query}" if there.query else ""))


def log_in(page: Page, user: str, password: str) -> None:
    """Log a user in, on the page to which Airflow has sent them."""
    page.fill("input[name=username]", user)
    page.fill("input[name=password]", password)
    with page.expect_response(lambda one: one.request.method == "POST") as answered:
        page.click("input[type=submit]")
    assert answered.value.status < 400, "FAB allows five log-ins in 40 seconds of an address"
    page.wait_for_selector("[data-testid=nav-sidebar]")


def answer_question(page: Page, option: str, comment: str) -> None:
    """Answer the question that Airflow shows."""
    from playwright.sync_api import expect

    answer = page.get_by_test_id(f"hitl-option-{option}")
    expect(answer).to_be_enabled()
    page.locator("#element_comment").click()
    page.keyboard.type(comment)
    page.locator('[id="switch:element_confirmed:control"]').click()
    answer.click()
    expect(page.get_by_text("response successful")).to_be_visible()


COUNTED = """addEventListener("pointerdown", () => {
  sessionStorage.clicks = Number(sessionStorage.clicks ?? 0) + 1;
}, true)"""
"""Before anything of a page: the clicks of a person, and not those that a page makes of them."""


def clicks(page: Page) -> int:
    """Return how often a page was clicked whose context has the script :data:`COUNTED`."""
    return int(page.evaluate("Number(sessionStorage.clicks ?? 0)"))
