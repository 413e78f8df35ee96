from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest

from interlock.adapters.webhooks.signatures import TOLERANCE, secrets_in, signed_headers, verified_id
from interlock.domain.errors import ReleaseError, RequestRefused

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = datetime(2026, 11, 29, 9, tzinfo=UTC)
BODY = b'{"a": 1}'


def test_the_signature_is_that_of_the_standard() -> None:
    """The example of the libraries of Standard Webhooks."""
    at = datetime.fromtimestamp(1614265330, UTC)
    headers = signed_headers(secrets_in(SECRET, "c"), "msg_p5jXN8AQM9LWM0D4loKWxJek", at, b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_what_is_signed_is_verified() -> None:
    secrets = secrets_in(SECRET, "c")
    assert verified_id(secrets, signed_headers(secrets, "one", NOW, BODY), BODY, NOW + TOLERANCE) == "one"


def test_a_secret_can_be_changed_without_a_gap() -> None:
    new = "whsec_" + base64.b64encode(b"n" * 32).decode()
    both = secrets_in(f"{new} {SECRET}", "c")
    old = secrets_in(SECRET, "c")
    assert verified_id(both, signed_headers(old, "one", NOW, BODY), BODY, NOW) == "one"
    assert verified_id(old, signed_headers(both, "one", NOW, BODY), BODY, NOW) == "one"


@pytest.mark.parametrize(
    ("changed", "body", "later"),
    [
        ({"webhook-id": "two"}, BODY, timedelta()),
        ({"webhook-timestamp": str(int(NOW.timestamp()) + 1)}, BODY, timedelta()),
        ({"webhook-signature": ""}, BODY, timedelta()),
        ({"webhook-signature": "v1,"}, BODY, timedelta()),
        ({"webhook-signature": "v1a,AAAA"}, BODY, timedelta()),
        ({"webhook-signature": "v1,\N{SNOWMAN}"}, BODY, timedelta()),
        ({}, b'{"a": 2}', timedelta()),
        ({}, BODY, TOLERANCE + timedelta(seconds=1)),
        ({}, BODY, -TOLERANCE - timedelta(seconds=1)),
    ],
    ids=["id", "time", "none", "empty", "version", "letters", "body", "late", "early"],
)
def test_anything_else_is_refused(changed: dict[str, str], body: bytes, later: timedelta) -> None:
    secrets = secrets_in(SECRET, "c")
    headers = {**signed_headers(secrets, "one", NOW, BODY), **changed}
    with pytest.raises(RequestRefused):
        verified_id(secrets, headers, body, NOW + later)


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_AAAA", "open sesame", SECRET.removeprefix("whsec_"), "whsec_*"])
def test_a_weak_secret_is_refused_without_being_named(text: str) -> None:
    with pytest.raises(ReleaseError, match="The password of the connection c is no secret") as refused:
        secrets_in(text, "c")
    assert not text or text not in str(refused.value) or text == "whsec_"
