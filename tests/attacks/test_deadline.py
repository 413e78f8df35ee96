"""After the deadline: an emergency whose board says nothing in time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.end_to_end.people import Release, until
from tests.end_to_end.stack import Stack

from . import wave
from .databases import AirflowDatabase
from .people import APPROVER, BALLOT, NEW, TAMPERED, answer, at_the_board, ballot_of, reason_of
from .suite import MEMBER, OWNER, WRITTEN, attack

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def expired(stack: Stack) -> Release:
    """An emergency release whose board let its 20 seconds pass."""
    release = stack.person("rita").release(NEW, change_type="emergency")
    stack.person("fay").decide(release, APPROVER, "Approve", "Works as we asked")
    at_the_board(release)
    assert release.finish() == "failed"
    return release


@attack(
    "answer after the deadline",
    by=MEMBER,
    way="API",
    stopped="the decision closes what is open; no decision in time is a rejection",
)
def test_who_is_late_has_not_voted(stack: Stack, expired: Release) -> None:
    outcome = expired.outcome()
    assert (outcome["outcome"], outcome["stage"]) == ("expired", "rollout")
    assert "did not answer" in outcome["reason"]
    for member in ("ben", "cora"):
        reply = answer(stack, expired, member, ballot_of(expired, member))
        assert reply.status_code == 409, reply.text


@attack(
    "answer late, have the answer dated back, and have the votes counted again",
    by=OWNER,
    way="database",
    stopped=WRITTEN,
)
def test_a_date_in_airflows_database_brings_no_release_back(expired: Release, database: AirflowDatabase) -> None:
    in_time = (wave.plan_of(expired).decide_by or datetime.now(UTC)) - timedelta(seconds=10)
    database.write_answer(expired, BALLOT, "ben", "Approve", in_time)
    TAMPERED["the date of a vote"] = expired
    database.set_state(expired, "success", "implementation.await_start", "implementation.measure_baseline")
    database.run_again(expired, "implementation.wave_1")
    until("the wave to be refused", lambda: expired.states()["implementation.wave_1"] == "failed")
    assert "the release is closed" in reason_of(expired, "implementation.wave_1")
    reason = wave.refusal(expired)
    assert "ben's answer “Approve” to rollout.cast_ballot[" in reason
    assert "was not submitted through Airflow's API" in reason
    expired.finish()
