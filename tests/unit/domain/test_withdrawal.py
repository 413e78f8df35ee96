from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from interlock.domain.errors import HeldBack, PolicyViolation, RequestRefused
from interlock.domain.ledger.chain import Entry, next_entry
from interlock.domain.ledger.kinds import (
    RELEASE_OVERTAKEN,
    RELEASE_REQUESTED,
    RELEASE_WITHDRAWN,
    RUN_ASKED,
    VERIFICATION_JUDGED,
)
from interlock.domain.permits.withdrawal import (
    ReleaseUnderWay,
    Withdrawal,
    WithdrawalRequest,
    called_off,
    describe_release,
    find_release,
    parse_withdrawal,
    refuse_called_off,
    refuse_too_late,
    role_of,
    withdrawal_in,
)
from tests.factories.releases import OVERTAKING

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
FORM = {"service": "bike-shop", "run": "", "reason": "The tag is wrong"}
WITHDRAWAL = Withdrawal(
    release="release_bike_shop/one",
    by="rita",
    role="requester",
    reason="The tag is wrong",
    run="withdraw_release/two",
    at=NOW,
)
WITHDRAWN = (RELEASE_WITHDRAWN, WITHDRAWAL.model_dump(mode="json"))
VERIFIED = (VERIFICATION_JUDGED, {"success": True})
NOT_VERIFIED = (VERIFICATION_JUDGED, {"success": False})


def chained(*things: tuple[str, dict[str, Any]]) -> list[Entry]:
    entries: list[Entry] = []
    for number, (kind, payload) in enumerate(things):
        about: dict[str, Any] = {"at": NOW + timedelta(seconds=number), "actor": "rita", "key": f"{number}"}
        last = entries[-1] if entries else None
        entries.append(next_entry(last, chain="release/release_bike_shop/one", kind=kind, payload=payload, **about))
    return entries


def under_way(run: str = "one", **changes: Any) -> ReleaseUnderWay:
    return ReleaseUnderWay(**{"dag_id": "release_bike_shop", "run_id": run, "requested_by": "rita", **changes})


# --- the form


def test_a_form_is_read_with_or_without_the_run() -> None:
    asked = parse_withdrawal({**FORM, "run": " one ", "reason": " Too early "}, ["bike-shop"])
    assert asked == WithdrawalRequest(service="bike-shop", run="one", reason="Too early")
    assert parse_withdrawal({**FORM, "run": None}, ["bike-shop"]).run == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reason": "no"}, "reason: "),
        ({"reason": "      "}, "reason: "),
        ({"reason": None}, "reason: "),
        ({"run": 7}, "run: "),
        ({"run": "x" * 301}, "run: "),
        ({"service": "car-shop"}, "There is no service 'car-shop': there is bike-shop, till"),
        ({"service": None}, "service: "),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestRefused, match=said):
        parse_withdrawal({**FORM, **changes}, ["till", "bike-shop"])


# --- which release


def test_a_chain_says_who_requested_the_release_and_how_far_it_is() -> None:
    queued = describe_release("release_bike_shop", "one", chained((RUN_ASKED, {"user": "rita"})))
    assert queued == under_way()
    asked = (RELEASE_REQUESTED, {"requested_by": "mallory", "version": "1.1.0"})
    later = describe_release("release_bike_shop", "one", chained((RUN_ASKED, {"user": "rita"}), asked, VERIFIED))
    assert (later.requested_by, later.version, later.verified) == ("rita", "1.1.0", True)
    assert describe_release("release_bike_shop", "one", chained(WITHDRAWN)).withdrawn == WITHDRAWAL


@pytest.mark.parametrize("run", ["two", "release_bike_shop/two", "1.2.0"])
def test_a_release_is_found_by_its_run_or_its_version(run: str) -> None:
    both = [under_way(version="1.1.0"), under_way("two", version="1.2.0")]
    assert find_release(WithdrawalRequest(service="bike-shop", run=run, reason="Too early"), both) == both[1]


def test_the_only_release_needs_no_name() -> None:
    assert find_release(WithdrawalRequest(**FORM), [under_way()]) == under_way()


@pytest.mark.parametrize(
    ("run", "releases", "said"),
    [
        ("", [], r"bike-shop has no release under way\. Rule.*there is nothing to withdraw"),
        ("", ["one", "two"], "has 2 releases under way.*run one of.*run two of release_bike_shop, requested by rita"),
        ("three", ["one"], "has no release with the run or version three under way.*run one of"),
    ],
)
def test_a_release_that_is_not_named_for_certain_is_refused(run: str, releases: Iterable[str], said: str) -> None:
    with pytest.raises(RequestRefused, match=said):
        find_release(WithdrawalRequest(**{**FORM, "run": run}), [under_way(one) for one in releases])


# --- who may, and until when


def test_the_requester_and_release_managers_withdraw_a_release_and_nobody_else_does() -> None:
    assert role_of(under_way(), "rita", manages=False) == "requester"
    assert role_of(under_way(), "rita", manages=True) == "requester"
    assert role_of(under_way(), "olga", manages=True) == "release_manager"
    with pytest.raises(PolicyViolation, match=r"ben cannot withdraw.*Who can change it: rita, and users with the role"):
        role_of(under_way(), "ben", manages=False)
    with pytest.raises(PolicyViolation, match="An unknown user cannot withdraw"):
        role_of(under_way(requested_by=""), "", manages=False)


def test_a_release_is_withdrawn_once_and_until_it_is_verified() -> None:
    refuse_too_late(under_way())
    with pytest.raises(PolicyViolation, match=r"withdrawn already.*rita, who requested it.*The tag is wrong\."):
        refuse_too_late(under_way(withdrawn=WITHDRAWAL))
    with pytest.raises(PolicyViolation, match=r"overtaken already.*emergency release 1\.1\.1.*Payments fail\."):
        refuse_too_late(under_way(overtaken=OVERTAKING))
    with pytest.raises(PolicyViolation, match=r"verification succeeded.*roll the service back"):
        refuse_too_late(under_way(verified=True))


@pytest.mark.parametrize(
    ("things", "counts"),
    [
        ((), False),
        ((WITHDRAWN,), True),
        ((NOT_VERIFIED, WITHDRAWN), True),
        ((WITHDRAWN, VERIFIED), True),
        ((VERIFIED, WITHDRAWN), False),
    ],
)
def test_the_order_of_the_chain_decides_whether_a_withdrawal_came_in_time(
    things: tuple[tuple[str, dict[str, Any]], ...], counts: bool
) -> None:
    entries = chained(*things)
    assert withdrawal_in(entries) == (WITHDRAWAL if counts else None)
    if not counts:
        refuse_called_off(entries)
        return
    with pytest.raises(HeldBack, match=r"rita, who requested it, withdrew the release: The tag is wrong\. Rule: "):
        refuse_called_off(entries)


def test_an_overtaken_release_is_called_off_and_a_withdrawal_counts_before_it() -> None:
    overtaken = (RELEASE_OVERTAKEN, OVERTAKING.model_dump(mode="json"))
    with pytest.raises(
        HeldBack, match=r"The emergency release 1\.1\.1 .*overtook this normal release.*a release that was"
    ):
        refuse_called_off(chained(overtaken))
    assert describe_release("release_bike_shop", "one", chained(overtaken)).overtaken == OVERTAKING
    assert called_off(chained(overtaken, WITHDRAWN)) == WITHDRAWAL


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "rita, who requested it, withdrew the release: The tag is wrong."),
        ({"role": "release_manager", "reason": "Enough!"}, "rita, a release manager, withdrew the release: Enough!"),
    ],
)
def test_a_withdrawal_is_a_sentence(changes: dict[str, Any], said: str) -> None:
    assert WITHDRAWAL.model_copy(update=changes).sentence == said
