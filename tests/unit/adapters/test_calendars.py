"""Calendars on disk and at URLs: read, checked, and closed if they cannot be."""

from __future__ import annotations

import os
import shutil
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from interlock.adapters.artifacts.store import ArtifactStore, Folder
from interlock.adapters.calendars import feeds
from interlock.adapters.calendars.calendars import faults_of, load_calendars
from interlock.adapters.calendars.copies import CopiesThere, SharedCopies
from interlock.adapters.calendars.ical import reading as _ical
from interlock.adapters.catalogue.catalogue import calendars_of, load_catalogue, what_is_wrong
from interlock.adapters.catalogue.names import Known
from interlock.cli.app import main
from interlock.domain.calendars.calendar import Answer, may_change, opens_at
from interlock.domain.catalogue.calendar_file import Feed
from interlock.domain.errors import CatalogueError
from interlock.domain.trains.departures import opens
from interlock.locations import CATALOGUE

SHOP = load_catalogue(CATALOGUE).services["bike-shop"]
LOOPBACK = ip_network("127.0.0.0/8")
KNOWN = Known(frozenset({"bike-shop"}), frozenset({"retail"}))
HEAD = "title: Calendar\nowner: the office\ntime_zone: Europe/Berlin\nentries:\n"
FREEZE = HEAD + "  - { name: trade, title: Trade, kind: freeze, from: 2026-12-12, until: 2026-12-14 }\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "calendars").mkdir()
    return tmp_path


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / "calendars" / name
    path.write_text(text)
    return path


def event(
    uid: str = "1@example.com", *lines: str, start: str = "20261212T100000Z", end: str = "20261212T120000Z"
) -> str:
    each = (f"UID:{uid}", f"DTSTART:{start}", f"DTEND:{end}", "SUMMARY:Payroll", *lines)
    return "\r\n".join(("BEGIN:VEVENT", *each, "END:VEVENT"))


def ics(*events: str, head: str = "") -> str:
    lines = ("BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//test//", *([head] if head else []), *events, "END:VCALENDAR")
    return "\r\n".join((*lines, ""))


def ask(folder: Path, when: str, environment: str = "production", copies: feeds.Copies | None = None) -> Answer:
    calendars = load_calendars(folder, KNOWN, copies.copy_of if copies else None)
    return may_change(calendars, SHOP, environment, datetime.fromisoformat(when))


def faults(folder: Path, known: Known = KNOWN) -> str:
    return "\n".join(load_calendars(folder, known).faults)


# --- files


def test_without_a_folder_nothing_is_closed(tmp_path: Path) -> None:
    assert ask(tmp_path, "2026-12-13T12:00Z").open


def test_a_file_that_is_changed_is_read_again_and_one_that_is_not_is_not(folder: Path) -> None:
    path = write(folder, "office.yaml", FREEZE)
    assert not ask(folder, "2026-12-13T12:00Z").open
    assert load_calendars(folder, KNOWN) is load_calendars(folder, KNOWN)
    path.write_text(FREEZE.replace("2026-12-14", "2026-12-12"))
    os.utime(path, (1, 1))
    assert ask(folder, "2026-12-13T12:00Z").open
    write(folder, "other.yaml", FREEZE)
    assert not ask(folder, "2026-12-13T12:00Z").open


def test_a_calendar_may_name_a_service_as_soon_as_its_file_is_there_and_no_longer(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(CATALOGUE, tmp_path / "catalogue"))
    services, policy = copy / "services", load_catalogue(copy).policy
    write(copy, "till.yaml", FREEZE.replace("}", ", scope: { services: [till] } }"))

    def wrong() -> tuple[str, ...]:
        return calendars_of(copy, policy, lambda feed: Path("unused")).faults

    for longest_unchanged in (True, False):
        if longest_unchanged:
            os.utime(services, (1, 1))
        for _ in range(2):
            assert len(wrong()) == 1
        shutil.copy(services / "bike-shop.yaml", services / "till.yaml")
        for _ in range(2):
            assert wrong() == ()
        (services / "till.yaml").unlink()


def test_a_broken_calendar_closes_everything_and_says_where_it_is_broken(folder: Path) -> None:
    write(folder, "office.yaml", FREEZE.replace("kind: freeze", "kind: frees"))
    answer = ask(folder, "2026-06-01T12:00Z")
    assert (answer.open, answer.by, answer.next) == (False, None, None)
    assert 'calendars/office.yaml, line 5, entries.0.kind: found "frees"; allowed: ' in str(answer)
    assert "Who can change it: the office." in str(answer)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            FREEZE.replace("}", ", scope: { services: [bikeshop] } }"),
            'scope.services.0: found "bikeshop"; allowed: an ',
        ),
        (FREEZE.replace("}", ", scope: { business_units: [r] } }"), "business_units.0"),
        (FREEZE.replace("}", ", scope: { environments: [prod] } }"), "environments.0"),
        (FREEZE.replace("}", ", override_by: [janitor] }"), "override_by.0"),
        (FREEZE.replace("Europe/Berlin", "Europe/Berlyn"), "time_zone"),
        (FREEZE.replace("}", ", until: 2026-12-13 }"), "the key until a second time"),
        (HEAD + "  - { name: h, title: H, kind: holiday, holidays: { country: XX } }\n", "entries.0.holidays: "),
        (
            HEAD + "  - { name: x, title: X, kind: freeze, ical: { file: gone.ics } }\n",
            "gone.ics, line 1: cannot be read",
        ),
    ],
)
def test_a_mistake_names_its_file_and_key(folder: Path, text: str, found: str) -> None:
    write(folder, "office.yaml", text)
    known = Known(frozenset({"bike-shop"}), frozenset({"retail"}), frozenset({"production"}), frozenset({"operations"}))
    assert found in faults(folder, known)


def test_the_ending_yml_is_refused(folder: Path) -> None:
    write(folder, "office.yml", FREEZE)
    assert "allowed: office.yaml" in faults(folder)


def test_public_holidays_are_those_of_country_and_region(folder: Path) -> None:
    text = "  - { name: h, title: Holidays, kind: holiday, effect: deny, holidays: { country: DE, region: BY } }\n"
    write(folder, "office.yaml", HEAD + text)
    answer = ask(folder, "2026-01-06T12:00+01:00")
    assert (answer.open, answer.title, answer.next) == (
        False,
        "Epiphany",
        datetime(2026, 1, 6, 23, tzinfo=UTC),
    )
    write(folder, "office.yaml", HEAD + text.replace("BY", "BE"))
    assert ask(folder, "2026-01-06T12:00+01:00").open


def test_the_catalogue_is_checked_with_its_calendars(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = Path(shutil.copytree(CATALOGUE, tmp_path / "catalogue"))
    assert what_is_wrong(copy) == []
    write(copy, "more.yaml", FREEZE.replace("}", ", scope: { environments: [prod] } }"))
    (message,) = what_is_wrong(copy)
    assert message.startswith('calendars/more.yaml, line 5, entries.0.scope.environments.0: found "prod"; allowed: ')
    assert main(["catalogue", "check", "--here", "--folder", str(copy)]) == 1
    assert "more.yaml" in capsys.readouterr().out
    policy = load_catalogue(copy).policy
    calendars = calendars_of(copy, policy, lambda feed: Path("unused"))
    assert {entry.key for entry in calendars.entries} >= {"christmas-trade", "trade"}


# --- iCalendar files


def test_an_icalendar_file_by_itself_says_what_it_is_by_categories(folder: Path) -> None:
    write(
        folder,
        "outlook.ics",
        ics(
            event("1", "CATEGORIES:Freeze,environment:production,Blue"),
            event("2", "CATEGORIES:event", start="20260101T000000Z", end="20270101T000000Z"),
        ),
    )
    answer = ask(folder, "2026-12-12T11:00Z")
    assert (answer.open, answer.title, answer.place) == (False, "Payroll", "1 in calendars/outlook.ics")
    assert ask(folder, "2026-12-12T11:00Z", "test").open


def test_the_entry_that_names_a_file_says_what_its_events_are(folder: Path) -> None:
    write(folder, "payroll.ics", ics(event(start="20261212", end="20261213").replace("DTSTART", "DTSTART;VALUE=DATE")))
    named = "  - { name: payroll, title: P, kind: freeze, ical: { file: payroll.ics }, override_by: [operations] }\n"
    write(folder, "office.yaml", HEAD + named)
    answer = ask(folder, "2026-12-11T23:00Z")  # a whole day, of the calendar's time zone
    assert (answer.open, answer.place) == (False, "payroll/1@example.com in calendars/office.yaml")
    assert (answer.by and answer.by.override_by, answer.next) == (
        ("operations",),
        datetime(2026, 12, 12, 23, tzinfo=UTC),
    )


def test_rules_exceptions_moved_and_cancelled_events_are_kept(folder: Path) -> None:
    zone = "TZID=Europe/Berlin:"
    series = event("1", "RRULE:FREQ=WEEKLY;COUNT=5", f"EXDATE;{zone}20261117T200000", "CATEGORIES:window")
    series = series.replace("DTSTART:20261212T100000Z", f"DTSTART;{zone}20261110T200000")
    series = series.replace("DTEND:20261212T120000Z", f"DTEND;{zone}20261110T230000")
    moved = event("1", f"RECURRENCE-ID;{zone}20261124T200000", start="20261126T190000Z", end="20261126T210000Z")
    gone = event(
        "1",
        f"RECURRENCE-ID;{zone}20261201T200000",
        "STATUS:CANCELLED",
        start="20261201T190000Z",
        end="20261201T220000Z",
    )
    write(folder, "windows.ics", ics(series, moved, gone))
    opens = []
    at = "2026-11-01T00:00Z"
    while (following := ask(folder, at).next) is not None:
        opens.append(f"{following:%d.%m. %H:%M}")
        at = str(ask(folder, following.isoformat()).until)
    assert opens == ["10.11. 19:00", "26.11. 19:00", "08.12. 19:00"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (ics(event("7")), "event 7: CATEGORIES: found no kind; allowed: one of freeze, window"),
        (ics(event("7", "CATEGORIES:freeze,service:bikeshop")), "event 7: CATEGORIES: found service:bikeshop"),
        (ics(event("7", "CATEGORIES:freeze", start="20261212T100000")), "event 7: found a time without a time zone"),
        (ics(event("7", "CATEGORIES:freeze", end="20261212T090000Z")), "event 7: "),
        (ics(event("7", "CATEGORIES:freeze", start="yesterday")), "event 7: "),
        (ics(event("7", "CATEGORIES:freeze", "RRULE:FREQ=SECONDLY")), "event 7: a rule begins with FREQ="),
        (ics(event("7", "CATEGORIES:freeze", "RRULE:FREQ=DAILY;BYDAY=XX")), "event 7: "),
        (ics(event("", "CATEGORIES:freeze")), "the event number 1 (Payroll): found no UID"),
        ("BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\n", "not iCalendar"),
        ("<html>", "not iCalendar"),
        ("", "not iCalendar"),
        ("X" * (_ical.MAX_FILE_BYTES + 1), "found a larger file"),
    ],
)
def test_an_icalendar_file_that_cannot_be_used_names_the_event_and_closes_everything(
    folder: Path, text: str, found: str
) -> None:
    write(folder, "outlook.ics", text)
    assert "calendars/outlook.ics" in faults(folder)
    assert found in faults(folder)
    assert not ask(folder, "2020-01-01T00:00Z").open


# --- URLs


class Server:
    """An https server with one calendar, to be changed and broken by a test."""

    def __init__(self, folder: Path) -> None:
        self.status, self.body, self.asked = 200, ics(event()).encode(), 0
        key, now = generate_private_key(SECP256R1()), datetime.now(UTC)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
        certificate = (
            x509.CertificateBuilder(
                name,
                name,
                key.public_key(),
                x509.random_serial_number(),
                now - timedelta(days=1),
                now + timedelta(days=1),
            )
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
            .sign(key, SHA256())
        )
        pem = folder / "server.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pem.write_bytes(certificate.public_bytes(Encoding.PEM) + private)
        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serving.load_cert_chain(pem)
        self.trust = ssl.create_default_context(cafile=str(pem))
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(outer.body)))
                self.send_header("Location", "http://127.0.0.1:1/")
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.socket = serving.wrap_socket(self.http.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.http.server_port}/payroll.ics"

    def client(self) -> httpx.Client:
        return httpx.Client(verify=self.trust, trust_env=False)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    one = Server(tmp_path)
    thread = threading.Thread(target=one.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield one
    one.http.shutdown()
    one.http.server_close()
    thread.join()


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now

    def passes(self, **time: float) -> None:
        self.now += timedelta(**time).total_seconds()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def copies(tmp_path: Path, server: Server, clock: Clock) -> feeds.Copies:
    return feeds.Copies(tmp_path / "copies", lambda url: server.client(), networks=lambda: [LOOPBACK], clock=clock)


def named_by_url(folder: Path, server: Server) -> None:
    entry = f"  - {{ name: p, title: P, kind: freeze, ical: {{ url: '{server.url}', refresh: PT15M, oldest: P2D }} }}\n"
    write(folder, "office.yaml", HEAD + entry)


NOON = "2026-12-12T11:00Z"


def test_a_calendar_at_a_url_is_fetched_kept_and_fetched_again(
    folder: Path, server: Server, copies: feeds.Copies, clock: Clock
) -> None:
    named_by_url(folder, server)
    assert not ask(folder, NOON, copies=copies).open
    clock.passes(minutes=14)
    server.body = ics(event(start="20270101T000000Z", end="20270102T000000Z")).encode()
    assert not ask(folder, NOON, copies=copies).open
    assert server.asked == 1
    clock.passes(minutes=2)
    assert ask(folder, NOON, copies=copies).open
    assert server.asked == 2


def test_what_a_worker_has_fetched_is_left_for_machines_without_its_folder(
    folder: Path, tmp_path: Path, server: Server, clock: Clock
) -> None:
    shared = SharedCopies(lambda: ArtifactStore(Folder(tmp_path / "store")))
    client, there = lambda url: server.client(), tmp_path / "api-server"
    copies = feeds.Copies(tmp_path / "worker", client, networks=lambda: [LOOPBACK], clock=clock, shared=shared)
    named_by_url(folder, server)
    now = datetime.fromtimestamp(clock.now, UTC)
    shown = CopiesThere(there, now=now, shared=shared)
    feed = Feed.model_validate({"url": server.url, "refresh": "PT15M", "oldest": "P2D"})
    assert shown(feed) is None
    assert not ask(folder, NOON, copies=copies).open
    copy = shown(feed)
    assert copy
    assert copy.read_bytes() == server.body


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({"status": 404}, "its server answers 404"),
        ({"status": 302}, "its server answers 302"),
        ({"body": b"<html>sign in</html>"}, ""),
        ({"body": b"X" * (_ical.MAX_FILE_BYTES + 1)}, "it is larger than"),
    ],
)
def test_what_cannot_be_fetched_is_served_from_the_copy_until_that_is_too_old(
    folder: Path, server: Server, copies: feeds.Copies, clock: Clock, broken: dict[str, Any], why: str
) -> None:
    named_by_url(folder, server)
    assert ask(folder, "2026-12-12T13:00Z", copies=copies).open
    vars(server).update(broken)
    clock.passes(hours=47)
    assert ask(folder, "2026-12-12T13:00Z", copies=copies).open
    clock.passes(hours=2)
    answer = ask(folder, "2026-12-12T13:00Z", copies=copies)
    assert not answer.open
    assert f"{server.url} cannot be fetched" in str(answer)
    assert why in str(answer)
    assert "the copy is 2 days, 1:00:00 old; maximum age: 2 days" in str(answer)


def test_a_failure_is_not_tried_again_for_a_minute(
    folder: Path, server: Server, copies: feeds.Copies, clock: Clock
) -> None:
    named_by_url(folder, server)
    server.status = 500
    for _ in range(3):
        assert "no copy exists" in str(ask(folder, NOON, copies=copies))
    assert server.asked == 1
    server.status = 200
    clock.passes(seconds=61)
    assert not ask(folder, NOON, copies=copies).faults


def test_a_copy_from_the_future_is_none(folder: Path, server: Server, copies: feeds.Copies, clock: Clock) -> None:
    named_by_url(folder, server)
    ask(folder, NOON, copies=copies)
    clock.passes(days=-300)
    server.status = 500
    assert ask(folder, NOON, copies=copies).faults


def test_a_server_that_nobody_vouches_for_is_not_believed(tmp_path: Path, server: Server, clock: Clock) -> None:
    copies = feeds.Copies(tmp_path / "copies", feeds.web_client, networks=lambda: [LOOPBACK], clock=clock)
    with pytest.raises(CatalogueError, match="CERTIFICATE_VERIFY_FAILED"):
        copies.copy_of(Feed.model_validate({"url": server.url}))


def test_nothing_is_fetched_without_https(server: Server) -> None:
    with server.client() as client, pytest.raises(ValueError, match="only https"):
        feeds.fetch(client, server.url.replace("https:", "http:"), [LOOPBACK])
    assert server.asked == 0


def test_what_comes_too_slowly_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "FETCH_TIMEOUT_SECONDS", -1.0)
    with server.client() as client, pytest.raises(ValueError, match="longer than"):
        feeds.fetch(client, server.url, [LOOPBACK])


def test_checking_the_catalogue_fetches_nothing(folder: Path, server: Server) -> None:
    named_by_url(folder, server)
    assert faults(folder) == ""
    assert server.asked == 0


# --- from where


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.0.0.1"])
def test_nothing_is_fetched_from_where_the_platform_engineer_names_no_network(
    tmp_path: Path, server: Server, clock: Clock, host: str
) -> None:
    copies = feeds.Copies(tmp_path / "copies", lambda url: server.client(), networks=lambda: [], clock=clock)
    feed = Feed.model_validate({"url": server.url.replace("127.0.0.1", host)})
    with pytest.raises(CatalogueError, match="which is not allowed for calendars; allowed: the Internet, and"):
        copies.copy_of(feed)
    assert server.asked == 0


def test_what_is_local_to_a_link_is_never_fetched(server: Server) -> None:
    with (
        server.client() as client,
        pytest.raises(ValueError, match=r"169\.254\.169\.254, which is not allowed for calendars"),
    ):
        feeds.fetch(client, "https://169.254.169.254/latest/meta-data", [ip_network("0.0.0.0/0")])


def test_a_host_that_has_one_address_too_many_is_not_asked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(None, None, None, "", (address, 443)) for address in ("93.184.216.34", "10.0.0.1")]
    monkeypatch.setattr(feeds, "getaddrinfo", lambda *_, **__: found)
    with server.client() as client, pytest.raises(ValueError, match=r"calendar\.example is 10\.0\.0\.1"):
        feeds.fetch(client, "https://calendar.example/x.ics", [LOOPBACK])


def test_the_address_that_was_looked_at_is_the_one_that_is_asked(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that means something else a moment later changes nothing; certificate and Host are those of the name."""
    monkeypatch.setattr(feeds, "getaddrinfo", lambda *_, **__: [(None, None, None, "", ("127.0.0.1", 443))])
    url = server.url.replace("127.0.0.1", "calendar.invalid")
    with server.client() as client, pytest.raises(httpx.ConnectError, match=r"not valid for 'calendar\.invalid'"):
        feeds.fetch(client, url, [LOOPBACK])


def test_the_networks_are_those_of_the_environment() -> None:
    assert feeds.networks_of({}) == []
    assert feeds.networks_of({feeds.NETWORKS: "127.0.0.0/8"}) == [LOOPBACK]
    with pytest.raises(ValueError, match=f"{feeds.NETWORKS}: .* allowed: networks such as"):
        feeds.networks_of({feeds.NETWORKS: "office"})


def test_a_proxy_decides_for_names_and_for_no_addresses(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "inside.example")
    monkeypatch.setattr(feeds, "getaddrinfo", lambda *_, **__: [(None, None, None, "", ("127.0.0.1", 443))])
    with server.client() as client:
        with pytest.raises(httpx.ConnectError):  # not refused: whoever is behind the proxy knows what the name means
            feeds.fetch(client, "https://calendar.invalid:1/x.ics", [])
        for host in ("inside.example", "127.0.0.1"):
            with pytest.raises(ValueError, match="which is not allowed for calendars"):
                feeds.fetch(client, f"https://{host}/x.ics", [])


def test_a_copy_that_cannot_be_kept_is_a_reason_and_no_crash(tmp_path: Path, server: Server, clock: Clock) -> None:
    (tmp_path / "copies").write_text("a file stands where the folder should be")
    copies = feeds.Copies(tmp_path / "copies", lambda url: server.client(), networks=lambda: [LOOPBACK], clock=clock)
    with pytest.raises(CatalogueError, match=r"cannot be fetched .* no copy exists"):
        copies.copy_of(Feed.model_validate({"url": server.url}))


# --- what can close nothing

SHOWN = "  - {{ name: fair, title: Fair, kind: event, ical: {{ {which} }} }}\n"


def test_a_calendar_that_is_only_shown_closes_nothing_if_it_cannot_be_read_and_says_so(folder: Path) -> None:
    write(folder, "office.yaml", HEAD + SHOWN.format(which="file: fair.ics"))
    for text in ("", "<html>", ics(event(end="20201212T100000Z"))):
        write(folder, "fair.ics", text)
        assert ask(folder, "2026-12-12T11:00Z").open
        (note,) = load_calendars(folder, KNOWN).notes
        assert "calendars/fair.ics, " in note
        assert list(faults_of(folder, KNOWN)) == [note]


def test_a_calendar_that_is_only_shown_closes_nothing_if_it_cannot_be_fetched(
    folder: Path, server: Server, copies: feeds.Copies
) -> None:
    server.status = 500
    write(folder, "office.yaml", HEAD + SHOWN.format(which=f"url: '{server.url}'"))
    assert ask(folder, NOON, copies=copies).open
    write(folder, "office.yaml", HEAD + SHOWN.format(which=f"url: '{server.url}'").replace("kind: event, ", ""))
    assert not ask(folder, NOON, copies=copies).open, "its events may say themselves that they are freezes"


def test_an_error_that_nobody_foresaw_closes_everything_with_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("unforeseen")

    write(folder, "outlook.ics", ics(event("7", "CATEGORIES:freeze", "X-OWN:unforeseen")))
    monkeypatch.setattr("interlock.adapters.calendars.ical.apart.read_apart", broken)
    assert "calendars/outlook.ics, cannot be read: RuntimeError('unforeseen')" in faults(folder)


def test_a_named_calendar_that_cannot_be_read_closes_what_its_entry_is_about_and_no_more(folder: Path) -> None:
    scope = "scope: { services: [bike-shop], environments: [production] }"
    entry = f"  - {{ name: shop, title: Shop, kind: freeze, {scope}, ical: {{ file: shop.ics }} }}\n"
    write(folder, "office.yaml", FREEZE + entry)
    write(folder, "shop.ics", ics(event(end="20201212T100000Z")))
    closed = ask(folder, "2026-06-01T12:00Z")
    assert not closed.open
    assert "calendars/shop.ics, event 1@example.com: it ends at" in str(closed)
    assert closed.during_rollout is None
    calendars = load_calendars(folder, KNOWN)
    assert calendars.faults == closed.faults
    assert ask(folder, "2026-06-01T12:00Z", "test").open
    assert ask(folder, "2026-12-13T12:00Z", "test").place == "trade in calendars/office.yaml", "the rest of it holds"
    other = SHOP.model_copy(update={"name": "till"})
    june = datetime(2026, 6, 1, 12, tzinfo=UTC)
    assert may_change(calendars, other, "production", june).open
    assert opens_at(calendars, other, "production", june) == june
    assert opens_at(calendars, SHOP, "production", june) is None
    assert opens(calendars, [SHOP, other], "production")(june) == june, "the other one departs"
    trade = datetime(2026, 12, 13, 12, tzinfo=UTC)
    assert opens(calendars, [SHOP, other], "production")(trade) == datetime(2026, 12, 14, 23, tzinfo=UTC)
    assert opens(calendars, [SHOP], "production")(trade) == trade, "nothing is moved by what nobody can read"
