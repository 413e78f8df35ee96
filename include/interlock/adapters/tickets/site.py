"""JSON of a system's API: an Airflow connection, limits on size and time, and errors that say what to do."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from interlock.domain.errors import ReleaseError, TransientError

Scheme = Literal["bearer", "basic"]
"""How a token without a login is sent."""
Answer = TypeVar("Answer", bound=BaseModel)
MAX_BYTES = 2 * 1024 * 1024
"""Of one answer."""
_TIMEOUT = httpx.Timeout(15, connect=10)
_LONGEST_ANSWER = 60
"""Seconds for one answer, however it trickles in."""
_TRIES = 3
_LONGEST_WAIT = 10.0
"""Seconds that Interlock waits if a system asks for it (Retry-After); a longer wait is an answer: not now."""
_PASSING = (408, 425, 429, 502, 503, 504)


class Site:
    """A system's API, as an Airflow connection of any type names it; use it as a context manager.

    The host is the URL of the API. Login and password are sent as basic authentication, a password without a login as a
    token. Redirects are not followed: a login is for the server that the connection names.

    :param scheme: how a token without a login is sent.
    """

    def __init__(self, connection: Any, scheme: Scheme = "bearer") -> None:
        self.name = str(connection.conn_id)
        self.url = url_of(connection)
        login, password = connection.login or "", connection.password or ""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if password and not login and scheme == "bearer":
            headers["Authorization"] = f"Bearer {password}"
        auth = httpx.BasicAuth(login, password) if password and "Authorization" not in headers else None
        self._client = httpx.Client(auth=auth, headers=headers, timeout=_TIMEOUT, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(
        self,
        model: type[Answer],
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer | None:
        """Return what is at a path, read by a model; None: there is nothing, or the account may not see it.

        :param path: below the connection's host, with a slash at its beginning, quoted where it has to be.
        :raises TransientError: no answer now. :raises ReleaseError: an answer of no use, such as a refused login.
        """
        return self._read(model, "GET", path, query, headers, None)

    def post(self, model: type[Answer], path: str, body: Mapping[str, Any]) -> Answer | None:
        """Send JSON once, and return the answer; parameters and errors as in :meth:`get`."""
        return self._read(model, "POST", path, None, None, body)

    def _read(
        self,
        model: type[Answer],
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
    ) -> Answer | None:
        place = f"{self.url}{path}"
        for left in reversed(range(_TRIES if method == "GET" else 1)):
            try:
                with self._client.stream(method, place, params=query, headers=headers, json=body) as answer:
                    if answer.status_code in _PASSING and left and (wait := _wait_of(answer)) is not None:
                        time.sleep(wait)
                        continue
                    return self._judged(model, answer, path)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                if not left:
                    raise TransientError(f"{place} does not answer: {type(error).__name__}") from error
        raise AssertionError("the last try has returned or raised")

    def _judged(self, model: type[Answer], answer: httpx.Response, path: str) -> Answer | None:
        place, status = f"{self.url}{path}", answer.status_code
        if status in (404, 410):
            return None
        if status in _PASSING or status >= 500:
            raise TransientError(f"{place} answers with status {status}")
        if status not in (200, 201):
            step = f"check address, login and rights of the connection {self.name}"
            raise ReleaseError(f"{place} answers with status {status}", who="the platform engineer", next_step=step)
        body, until = bytearray(), time.monotonic() + _LONGEST_ANSWER
        for chunk in answer.iter_bytes():
            body += chunk
            if len(body) > MAX_BYTES:
                raise ReleaseError(f"{place} answers with more than {MAX_BYTES:,} bytes")
            if time.monotonic() > until:
                raise TransientError(f"{place} has not answered in full within {_LONGEST_ANSWER} seconds")
        try:
            return model.model_validate(json.loads(bytes(body)))
        except (ValidationError, ValueError, RecursionError) as error:  # its text may hold what the answer says
            raise ReleaseError(f"{place} answers with something else than expected") from error


def quoted(part: str) -> str:
    """Return a name as one part of a path."""
    return quote(part, safe="")


def _wait_of(answer: httpx.Response) -> float | None:
    """Return the seconds to wait before the next try; None: longer than Interlock waits."""
    told = answer.headers.get("retry-after", "1")
    seconds = float(told) if told.isascii() and told.isdigit() else 1.0
    return seconds if seconds <= _LONGEST_WAIT else None


def url_of(connection: Any) -> str:
    """Return the address of an API: an https URL without a login; http only to this machine.

    :raises ReleaseError: the host of the connection is none.
    """
    url = str(connection.host or "").strip()
    port = f":{connection.port}" if connection.port else ""
    url = (url if "://" in url else f"{connection.schema or 'https'}://{url}{port}").rstrip("/")
    parts = urlsplit(url)
    plain = parts.scheme == "http" and _is_this_machine(parts.hostname or "")
    if not parts.hostname or "@" in parts.netloc or not (parts.scheme == "https" or plain):
        raise ReleaseError(
            f"The host of the connection {connection.conn_id} is no address of an API",
            rule="it is an https URL without a login; http only leads to this machine itself",
            who="the platform engineer",
            next_step="correct the connection",
        )
    return url


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
