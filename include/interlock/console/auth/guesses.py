"""The limit of failed log-ins at the API: FAB limits its log-in form, but not the tokens of the API.

Failures are counted by user name, in this process. The service accounts have no limit: their passwords are random and
long, and an attacker who could lock them out could stop every release.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from airflow.configuration import conf
from fastapi import HTTPException, status
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from .roles import SERVICE_ACCOUNTS

USUAL = "5 per 40 second"
"""FAB's own default."""


User = TypeVar("User")


class Guesses:
    """Counts recent failed log-ins."""

    def __init__(self, limit: RateLimitItem) -> None:
        """Allow so many failures of each user."""
        self._limit = limit
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def log_in(self, user: str, ask: Callable[[], User | None]) -> User | None:
        """Log a user in, and count it if that fails.

        :raises HTTPException: 429: too many log-ins of this user have failed.
        """
        self._refuse(user)
        found = ask()
        if found is None:
            self._limiter.hit(self._limit, _key(user))
        return found

    def _refuse(self, user: str) -> None:
        if user in SERVICE_ACCOUNTS or self._limiter.test(self._limit, _key(user)):
            return
        again = max(int(self._limiter.get_window_stats(self._limit, _key(user)).reset_time - time.time()) + 1, 1)
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
    return Guesses(parse(conf.get("fab", "auth_rate_limit", fallback=USUAL)))
