"""Calls to another system's API over HTTP: what an answer means for a delivery, quotas, and limits on what is read."""

from __future__ import annotations

import json as json_format
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from interlock.domain.errors import DeliveryRefused, SystemBusy, TransientError

MAX_ANSWER = 5 * 1024 * 1024
"""Bytes of an answer that are read."""
TIMEOUT = httpx.Timeout(30, connect=10)
"""Seconds; far less than the time after which a request without an answer is taken to be lost."""
READS = 4
"""How often something is read before that counts as a failure: reading twice does no harm."""
MAX_RETRY_AFTER = timedelta(hours=1)
_RETRY_AFTER = timedelta(seconds=30)
"""The wait if a system is busy and does not say how long."""

M = TypeVar("M", bound=BaseModel)


class NotThere(DeliveryRefused):
    """The system answers that there is no such thing, or none that the account may see."""


class WebApi:
    """An HTTP API of a system, with an account.

    :param shown: how errors name the system.
    :param client: with the base URL and the account; it follows no redirects.
    :param calls_per_second: at most, over all threads; None: no limit of ours.
    """

    def __init__(self, shown: str, client: httpx.Client, *, calls_per_second: float | None = None) -> None:
        self.shown, self._client = shown, client
        self._every = 1 / calls_per_second if calls_per_second else 0.0
        self._lock, self._next = threading.Lock(), 0.0
        self.calls = 0

    @property
    def base_url(self) -> str:
        """Where it is, without a slash at the end."""
        return str(self._client.base_url).rstrip("/")

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def read(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """Return the JSON of a GET. It is repeated if there is no answer."""
        for attempt in range(READS):
            try:
                return self.send("GET", path, params=params)
            except SystemBusy:
                raise
            except TransientError:
                if attempt == READS - 1:
                    raise
        raise AssertionError("unreachable")

    def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Return the JSON of an answer, None of an empty one. It is sent once.

        :param path: below the base URL; its parts are quoted by the caller.
        :raises TransientError: there is no answer, or none that says whether it was done.
        :raises SystemBusy: the system did not do it, and says when to ask again.
        :raises DeliveryRefused: the system did not do it.
        """
        self._take_turn()
        asked = f"{method} {path}"
        try:
            with self._client.stream(
                method, path, params=params, json=json, content=content, headers=headers
            ) as response:
                body = b""
                for piece in response.iter_bytes():
                    body += piece
                    if len(body) > MAX_ANSWER:
                        raise DeliveryRefused(
                            f"{self.shown} answered {asked} with more than {MAX_ANSWER} bytes.",
                            who="the platform engineer",
                        )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise TransientError(
                f"{self.shown} did not answer {asked}: {type(error).__name__}.",
                who="the operators of the system",
                next_step="Interlock tries again by itself",
            ) from error
        return self._meaning(asked, response, body)

    def parsed(self, model: type[M], value: Any, asked: str) -> M:
        """Return an answer as a model. DeliveryRefused if it is not what the API promises."""
        try:
            return model.model_validate(value)
        except ValidationError as error:
            problem = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(map(str, problem["loc"]))
            raise DeliveryRefused(
                f"{self.shown} answered {asked} with something else than its API promises: {place}: {problem['msg']}.",
                who="the administrator of the system",
                next_step="compare the version of the system's API with docs/change-records.md",
            ) from None

    def _take_turn(self) -> None:
        with self._lock:
            self.calls += 1
            at = max(self._next, time.monotonic())
            self._next = at + self._every
        if (wait := at - time.monotonic()) > 0:
            time.sleep(wait)

    def _meaning(self, asked: str, response: httpx.Response, body: bytes) -> Any:
        code = response.status_code
        if code == httpx.codes.TOO_MANY_REQUESTS or (
            code == httpx.codes.SERVICE_UNAVAILABLE and "retry-after" in response.headers
        ):
            until = datetime.now(UTC) + retry_after(response.headers.get("retry-after"), datetime.now(UTC))
            raise SystemBusy(
                f"{self.shown} answered {asked} with {code}: it is busy until {until:%H:%M:%S} UTC.", until=until
            )
        if code >= 500 or code in (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_EARLY):
            raise TransientError(
                f"{self.shown} answered {asked} with {code}.", next_step="Interlock tries again by itself"
            )
        if not 200 <= code < 300:
            error = NotThere if code in (httpx.codes.NOT_FOUND, httpx.codes.GONE) else DeliveryRefused
            raise error(
                f"{self.shown} refused {asked} with {code}: {_said(body)}",
                rule="the rights, rules and mandatory fields of that system",
                who="the administrator of the system",
                next_step="correct it there or in systems.yaml, then trigger the Dag retry_deliveries",
            )
        if not body:
            return None
        try:
            return json_format.loads(body)
        except ValueError:
            # An answer that was cut may be of something that was done.
            raise TransientError(f"{self.shown} answered {asked} with {code}, but not with JSON.") from None


def retry_after(value: str | None, now: datetime) -> timedelta:
    """Return how long to wait by a Retry-After header: seconds, or a date; at most an hour."""
    wait = _RETRY_AFTER
    if value and value.strip().isdecimal():
        wait = timedelta(seconds=min(int(value.strip()), int(MAX_RETRY_AFTER.total_seconds())))
    elif value:
        try:
            wait = parsedate_to_datetime(value).astimezone(UTC) - now
        except ValueError:
            wait = _RETRY_AFTER
    return min(MAX_RETRY_AFTER, max(timedelta(seconds=1), wait))


def _said(body: bytes) -> str:
    """Return what a refusal says, as one line; systems put it into several fields."""
    try:
        found = json_format.loads(body)
    except ValueError:
        found = None
    error = found.get("error", found) if isinstance(found, dict) else found
    if isinstance(error, dict):
        error = "; ".join(str(value) for value in error.values() if value)
    text = str(error) if error else body.decode("utf-8", "replace")
    return " ".join(text.split())[:500]
