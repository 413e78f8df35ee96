import urllib.error
from pathlib import Path

import pytest


def test_health_names_the_version_under_test(browser):
    health = browser.json("/health")
    assert health["status"] == "ok"
    assert health["version"] == Path("VERSION").read_text().strip()


def test_every_link_of_the_home_page_leads_somewhere(browser):
    home = browser.get("/")
    links = {part.split('"')[0] for part in home.split('href="')[1:]}
    assert {"/", "/repairs"} <= links
    for link in links:
        assert browser.get(link)


def test_repair_is_booked_and_the_ticket_shown(browser):
    ticket = browser.post("/repairs", repair="drivetrain", name="Ada")
    assert "Repair ticket" in ticket
    assert "€ 129.00" in ticket


def test_forged_ticket_is_refused(browser):
    with pytest.raises(urllib.error.HTTPError, match="404"):
        browser.get("/ticket?t=WyJ3aGVlbCIsIkV2ZSJd.forged")
