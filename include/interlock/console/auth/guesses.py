"""The limit of failed log-ins at the API: FAB limits its log-in form, but not the tokens of the API.

Failures are counted by user name: in this process, and, if several API servers name one Redis or Valkey in
:data:`STORAGE_FILE`, by all of them together. If that does not answer, each counts for itself. The service accounts
have no limit: their passwords are random and long, and an attacker who could lock them out could stop every release.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

from airflow.configuration import conf
from fastapi import HTTPException, status
from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import MemoryStorage, Storage, storage_from_string
from limits.strategies import MovingWindowRateLimiter

from .roles import SERVICE_ACCOUNTS

log = logging.getLogger(__name__)

STORAGE_FILE = "INTERLOCK_LOGIN_LIMITS_URL_FILE"
"""Environment variable: the file with the URL where failures are counted: ``redis://:password@host:6379/1``."""
USUAL = "5 per 40 second"
"""FAB's own default."""


User = TypeVar("User")


class Guesses:
    """Counts recent failed log-ins."""

    def __init__(self, limit: RateLimitItem, shared: Storage | None = None) -> None:
        """Allow so many failures of each user.

        :param shared: where several processes count together.
        """
        self._limit = limit
        self._own = MovingWindowRateLimiter(MemoryStorage())
        self._shared = shared and MovingWindowRateLimiter(shared)

    def log_in(self, user: str, ask: Callable[[], User | None]) -> User | None:
        """Log a user in, and count it if that fails.

        :raises HTTPException: 429: too many log-ins of this user have failed.
        """
        self._refuse(user)
        found = ask()
        if found is None:
            for limiter in self._limiters():
                self._told(limiter, lambda one: one.hit(self._limit, _key(user)))
        return found

    def _limiters(self) -> list[MovingWindowRateLimiter]:
        return [self._own, *([self._shared] if self._shared else [])]

    def _told(self, limiter: MovingWindowRateLimiter, ask: Callable[[MovingWindowRateLimiter], bool]) -> bool:
        """Return a limiter's answer; True if what several processes share does not answer."""
        try:
            return ask(limiter)
        except StorageError as error:
            log.warning("Failed log-ins are counted by this API server alone: %s", error)
            return True

    def _refuse(self, user: str) -> None:
        if user in SERVICE_ACCOUNTS:
            return
        limiters = self._limiters()
        full = [one for one in limiters if not self._told(one, lambda each: each.test(self._limit, _key(user)))]
        if not full:
            return
        again = max(int(full[0].get_window_stats(self._limit, _key(user)).reset_time - time.time()) + 1, 1)
        raise HTTPException(
            status.HTTP_429_TOO_MANY_REQUESTS,
            f"Too many failed logins of this user ({self._limit}). Rule: [fab] auth_rate_limit in Airflow's "
            f"configuration. Next: try again in {again} seconds.",
            headers={"Retry-After": str(again)},
        )


def _key(user: str) -> str:
    return user.casefold()[:256]


@cache
def guesses() -> Guesses | None:
    """Return the failed log-ins of this process; none if Airflow's configuration limits none."""
    if not conf.getboolean("fab", "auth_rate_limited", fallback=True):
        return None
    return Guesses(parse(conf.get("fab", "auth_rate_limit", fallback=USUAL)), shared_storage())


def shared_storage() -> Storage | None:
    """Return where the API servers of this installation count together; none: nothing is named."""
    file = os.environ.get(STORAGE_FILE)
    if not file:
        return None
    url = Path(file).read_text().strip()
    storage = storage_from_string(url, wrap_exceptions=True, socket_timeout=2, socket_connect_timeout=2)
    return cast(Storage, storage)  # one for asyncio has another scheme
