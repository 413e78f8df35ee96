"""Passwords that are guessed at the API."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import HTTPException
from limits import parse

from interlock.console.auth import guesses
from interlock.console.auth.roles import SERVICE_ACCOUNTS

RIGHT = "right"


@pytest.fixture
def log_in() -> Any:
    """Log in at an API where three log-ins of a user may fail in an hour."""
    known = guesses.Guesses(parse("3 per hour"))
    return lambda user, password: known.log_in(user, lambda: user if password == RIGHT else None)


def test_who_fails_too_often_waits_whatever_comes_next(log_in: Any) -> None:
    assert [log_in("rita", guess) for guess in ("a", "b", "c")] == [None] * 3
    for password in ("d", RIGHT):
        with pytest.raises(HTTPException) as refused:
            log_in("Rita", password)
        assert refused.value.status_code == 429
        assert "Too many failed logins of this user (3 per 1 hour)." in refused.value.detail
        assert 0 < int((refused.value.headers or {})["Retry-After"]) <= 3601
    assert log_in("ben", RIGHT) == "ben"


def test_who_knows_the_password_may_log_in_as_often_as_needed(log_in: Any) -> None:
    assert [log_in("ben", RIGHT) for _ in range(10)] == ["ben"] * 10


@pytest.mark.parametrize("account", SERVICE_ACCOUNTS)
def test_nobody_can_shut_a_service_account_out(log_in: Any, account: str) -> None:
    assert [log_in(account, "guess") for _ in range(10)] == [None] * 10
    assert log_in(account, RIGHT) == account


def test_the_limit_is_that_of_fabs_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__FAB__AUTH_RATE_LIMITED", "False")
    guesses.guesses.cache_clear()
    assert guesses.guesses() is None
    monkeypatch.setenv("AIRFLOW__FAB__AUTH_RATE_LIMITED", "True")
    monkeypatch.setenv("AIRFLOW__FAB__AUTH_RATE_LIMIT", "1 per hour")
    guesses.guesses.cache_clear()
    known = guesses.guesses()
    assert known
    assert known.log_in("rita", lambda: None) is None
    with pytest.raises(HTTPException):
        known.log_in("rita", lambda: "rita")
    guesses.guesses.cache_clear()
