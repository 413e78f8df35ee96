"""Calendars at URLs: fetched over https, from networks that the platform engineer allows, and kept as copies."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from socket import IPPROTO_TCP, getaddrinfo
from tempfile import NamedTemporaryFile
from urllib.request import getproxies, proxy_bypass

import httpx

from interlock.domain.catalogue.calendar_file import Feed
from interlock.domain.errors import CatalogueError
from interlock.domain.networks import Address, Network, may_be_asked, networks_in

from .copies import SharedCopies
from .ical.reading import MAX_FILE_BYTES
from .ical.text import calendars_in

FETCH_TIMEOUT_SECONDS = 10.0
"""Total seconds, from the request to the last byte."""
PAUSE_AFTER_FAILURE = timedelta(minutes=1)
NETWORKS = "INTERLOCK_CALENDAR_NETWORKS"
"""The environment variable with the networks that calendars may be fetched from beside the Internet."""


class Copies:
    """Copies of the iCalendar files at URLs, in a folder; each as old as its file says.

    :param client: gives the HTTP client for a URL, as a context manager.
    :param networks: gives the networks that may be fetched from beside the Internet.
    :param shared: where other machines find what was fetched here.
    """

    def __init__(
        self,
        folder: Path,
        client: Callable[[str], httpx.Client],
        *,
        networks: Callable[[], Sequence[Network]],
        clock: Callable[[], float] = time.time,
        shared: SharedCopies | None = None,
    ) -> None:
        self._shared = shared
        self._folder, self._client, self._networks, self._clock = folder, client, networks, clock
        self._failed: dict[str, tuple[float, str]] = {}

    def copy_of(self, feed: Feed) -> Path:
        """Return a copy that is young enough, fetched if it has to be.

        :raises CatalogueError: it cannot be fetched, and there is no copy that is not too old.
        """
        url = str(feed.url)
        path = path_of_copy(self._folder, feed)
        age = self._age(path)
        if age is not None and age <= feed.refresh:
            return path
        problem = self._fetched(url, path)
        if problem and (age is None or age > feed.oldest):
            there = f"the copy is {str(age).partition('.')[0]} old" if age is not None else "no copy exists"
            raise CatalogueError(
                f"The calendar {url} cannot be fetched ({problem}), and {there}; maximum age: {feed.oldest}.",
                rule="an environment is closed while one of its calendars cannot be read (ical.oldest in "
                "calendars/*.yaml)",
                who="the owner of the calendar; the platform engineer for the network",
                next_step="fix the address or the server, or use a file instead",
            )
        return path

    def _age(self, path: Path) -> timedelta | None:
        """Return how old a copy is; none: there is none to be had, or it is from later than now."""
        try:
            age = self._clock() - path.stat().st_mtime
        except OSError:
            return None
        return timedelta(seconds=age) if age > -60 else None

    def _fetched(self, url: str, path: Path) -> str:
        """Fetch a calendar into its place; return why it was not possible, and then do not try for a minute."""
        now = self._clock()
        at, problem = self._failed.get(url, (0.0, ""))
        if problem and 0 <= now - at < PAUSE_AFTER_FAILURE.total_seconds():
            return problem
        try:
            with self._client(url) as client:
                data = fetch(client, url, self._networks())
            calendars_in(data)
            self._keep(path, data, now)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
            problem = str(error) or type(error).__name__
            self._failed[url] = (now, problem)
            return problem
        if self._shared:
            self._shared.give(path)
        return ""

    def _keep(self, path: Path, data: bytes, now: float) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with NamedTemporaryFile("wb", dir=self._folder, prefix=".fetched-", delete=False) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.utime(file.name, (now, now))
        os.replace(file.name, path)


def path_of_copy(folder: Path, feed: Feed) -> Path:
    """Return where the copy of the calendar at a URL is, if there is one."""
    return folder / f"{sha256(str(feed.url).encode()).hexdigest()}.ics"


def web_client(url: str) -> httpx.Client:
    """Return a client for a calendar, with the certificates and the proxy of the process's environment."""
    direct = None if _has_a_proxy(httpx.URL(url).host) else {"https://": httpx.HTTPTransport()}
    return httpx.Client(follow_redirects=False, timeout=FETCH_TIMEOUT_SECONDS, mounts=direct)


def fetch(client: httpx.Client, url: str, networks: Sequence[Network]) -> bytes:
    """Return the content of a URL, if its address is allowed, and it arrives in time, complete and not too large.

    The address that the host's name stands for is looked up once, and that one is asked: nobody can change it between
    the look and the connection. Behind a proxy it is the proxy that looks it up, and decides who reaches what.
    """
    if not url.startswith("https://"):
        raise ValueError("only https is allowed")
    address = httpx.URL(url)
    give_up = time.monotonic() + FETCH_TIMEOUT_SECONDS
    data = bytearray()
    headers = {"Accept": "text/calendar", "Accept-Encoding": "identity", "Host": address.netloc.decode("ascii")}
    where = address if _has_a_proxy(address.host) else address.copy_with(host=str(address_of(address, networks)))
    with client.stream("GET", where, headers=headers, extensions={"sni_hostname": address.host}) as answer:
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"its server answers {answer.status_code}")
        for piece in answer.iter_bytes():
            data += piece
            if len(data) > MAX_FILE_BYTES:
                raise ValueError(f"it is larger than {MAX_FILE_BYTES // 1024} KiB")
            if time.monotonic() > give_up:
                raise ValueError(f"it takes longer than {FETCH_TIMEOUT_SECONDS:.0f} s")
    return bytes(data)


def _has_a_proxy(host: str) -> bool:
    """Say whether the surroundings have a proxy for a host; for an address there is none that could decide for us."""
    if _address_or_none(host) is not None:
        return False
    proxies = getproxies()
    return ("https" in proxies or "all" in proxies) and not proxy_bypass(host)


def address_of(url: httpx.URL, networks: Sequence[Network]) -> Address:
    """Return the address that a URL's host has.

    :raises ValueError: one of its addresses is not allowed for calendars.
    """
    found = getaddrinfo(url.host, url.port or 443, proto=IPPROTO_TCP)
    addresses = [ip_address(str(one[4][0]).partition("%")[0]) for one in found]
    for address in addresses:
        if not may_be_asked(address, networks):
            raise ValueError(
                f"{url.host} is {address}, which is not allowed for calendars; allowed: the Internet, and the "
                f"networks that the platform engineer names in {NETWORKS}"
            )
    return addresses[0]


def _address_or_none(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def networks_of(environ: Mapping[str, str] | None = None) -> list[Network]:
    """Return the networks that calendars may be fetched from in addition to the Internet; default: none.

    :param environ: none: this process's own.
    :raises ValueError: what is said cannot be read.
    """
    said = (os.environ if environ is None else environ).get(NETWORKS, "")
    try:
        return networks_in(said)
    except ValueError as error:
        raise ValueError(f"{NETWORKS}: {error}") from None
