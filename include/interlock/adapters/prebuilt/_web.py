"""Files of web servers: bytes as they are sent, no more than allowed, and logins only for the server they are for."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import IO, Any, Self
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import httpx

from interlock.domain.errors import AssetMissing, TransientError

from .places import Fetched, Wanted, checked, missing, too_big

_MAX_REDIRECTS = 5
_TIMEOUT = httpx.Timeout(60, connect=15)
_RETRIED = (408, 425, 429)


@dataclass(frozen=True, slots=True)
class Web:
    """A web server that an Airflow connection names: the address in its host, login and password, or only a token.

    :param name: the connection.
    :param url: without a slash at its end.
    :param ca: file of the certificates of the authority that counts; empty: those of the machine.
    """

    name: str
    url: str
    login: str = ""
    password: str = ""
    ca: str = ""

    @classmethod
    def of(cls, connection: Any) -> Self:
        """Read a connection; AssetMissing if it names no such server."""
        url = str(connection.host or "").strip()
        port = f":{connection.port}" if connection.port else ""
        url = url if "://" in url else f"{connection.schema or 'https'}://{url}{port}"
        made = cls(
            name=str(connection.conn_id),
            url=url.rstrip("/"),
            login=connection.login or "",
            password=connection.password or "",
            ca=str(connection.extra_dejson.get("ca", "")),
        )
        if problem := _problem(urlsplit(made.url)):
            raise AssetMissing(
                f"The connection {made.name} is not a place of artifacts: {problem}.",
                rule="its host is an https URL; http only leads to this machine itself",
                who="the platform engineer",
                next_step="correct the connection",
            )
        return made

    def at(self, path: str) -> str:
        """Return the URL of a path below the server's address."""
        return f"{self.url}/{quote(path, safe='/@:+~%')}"

    def get(self, url: str, limit: int, *, headers: Mapping[str, str] | None = None) -> bytes | None:
        """Return what is at a URL; None: nothing."""
        with self.answer(url, headers=headers) as answer:
            return None if answer is None else b"".join(_chunks(answer, url, limit))

    def save(self, url: str, destination: Path, limit: int, *, headers: Mapping[str, str] | None = None) -> bool:
        """Write what is at a URL into a file; False: there is nothing."""
        with self.answer(url, headers=headers) as answer:
            if answer is None:
                return False
            with open(destination, "xb") as file:
                _copy(answer, file, url, limit)
            return True

    @contextmanager
    def answer(self, url: str, *, headers: Mapping[str, str] | None = None) -> Iterator[httpx.Response | None]:
        """Ask a URL, or where it leads to; None: the server says that there is nothing.

        Redirects lead to https, or stay on the same server. The login is for the server of the connection alone.
        """
        asked = {"Accept-Encoding": "identity", **(headers or {})}  # the digest is of the bytes as they are
        try:
            with httpx.Client(verify=self.trust(), timeout=_TIMEOUT) as client:
                for _ in range(_MAX_REDIRECTS + 1):
                    self._refuse_other_schemes(url)
                    with client.stream("GET", url, headers=asked, auth=self._auth(url, asked)) as answer:
                        if answer.is_redirect and answer.headers.get("location"):
                            url = urljoin(url, answer.headers["location"])
                            continue
                        yield self._judged(answer, url)
                        return
        except httpx.HTTPError as error:
            raise TransientError(f"{_shown(url)} does not answer: {error}", next_step="try again") from error
        raise missing(f"{_shown(url)} leads on more than {_MAX_REDIRECTS} times", self.name)

    def trust(self) -> ssl.SSLContext:
        """Return whose certificates count, for a client."""
        try:
            return _trust(self.ca)
        except OSError as error:
            what = f"{self.ca}, the ca of the connection {self.name}, cannot be read: {error}"
            raise missing(what, self.name) from error

    def _auth(self, url: str, headers: Mapping[str, str]) -> httpx.Auth | None:
        if "Authorization" in headers or not self.password or _origin(url) != _origin(self.url):
            return None
        return httpx.BasicAuth(self.login, self.password) if self.login else _Token(self.password)

    def _refuse_other_schemes(self, url: str) -> None:
        if urlsplit(url).scheme != "https" and _origin(url) != _origin(self.url):
            raise missing(f"{_shown(self.url)} leads to {_shown(url)}, which is not https", self.name)

    def _judged(self, answer: httpx.Response, url: str) -> httpx.Response | None:
        status = answer.status_code
        if status == 200:
            return answer
        if status in (404, 410):
            return None
        if status >= 500 or status in _RETRIED:
            raise TransientError(f"{_shown(url)} answers with status {status}.", next_step="try again")
        raise missing(
            f"{_shown(url)} answers with status {status}",
            self.name,
            next_step=f"check login and password of the connection {self.name}" if status in (401, 403) else "",
        )


@cache  # reading the certificates takes longer than most requests
def _trust(ca: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca) if ca else httpx.create_ssl_context()


class WebFiles:
    """Files at paths of a web server: Artifactory, Nexus, releases of GitHub, and any other."""

    def __init__(self, web: Web) -> None:
        self._web = web

    def fetch(self, artifact: str, wanted: Wanted, folder: Path) -> Fetched:
        """Bring an artifact from its path."""
        return fetch_file(self._web, self._web.at(wanted.filled(artifact)), wanted, folder)

    def read(self, path: str, limit: int) -> bytes | None:
        """Return a file by its path."""
        return self._web.get(self._web.at(path), limit)


def fetch_file(web: Web, url: str, wanted: Wanted, folder: Path, *, name: str = "", around: int = 0) -> Fetched:
    """Bring the file at a URL and check its digest."""
    path = folder / "artifact"
    if not web.save(url, path, wanted.limit):
        raise missing(f"There is no artifact at {_shown(url)}", web.name)
    checked(path, wanted.sha256, _shown(url))
    return Fetched(path, name or urlsplit(url).path.rpartition("/")[2], _shown(url), (wanted.sha256,), around)


class _Token(httpx.Auth):
    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


def _chunks(answer: httpx.Response, url: str, limit: int) -> Iterator[bytes]:
    total = 0
    for chunk in answer.iter_raw(1024 * 1024):
        total += len(chunk)
        if total > limit:
            raise too_big(_shown(url), limit)
        yield chunk


def _copy(answer: httpx.Response, file: IO[bytes], url: str, limit: int) -> None:
    for chunk in _chunks(answer, url, limit):
        file.write(chunk)


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    usual = {"https": 443, "http": 80}.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or usual


def may_have_logins(url: str, of: str) -> bool:
    """Tell whether a server may be given the login of another: over TLS, or if both are this machine itself."""
    theirs, ours = urlsplit(url), urlsplit(of)
    here = all(_is_this_machine(one.hostname or "") for one in (theirs, ours))
    return "@" not in theirs.netloc and (theirs.scheme == "https" or (theirs.scheme == "http" and here))


def _problem(parts: SplitResult) -> str:
    if "@" in parts.netloc:
        return "its URL contains credentials, which belong in login and password"
    if parts.scheme == "https" and parts.hostname:
        return ""
    if parts.scheme == "http" and _is_this_machine(parts.hostname or ""):
        return ""
    return f"{parts.scheme}://{parts.netloc} is not https"


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(url: str) -> str:
    """Return a URL without its query, which may hold a signature."""
    return url.partition("?")[0].partition("#")[0]
