"""What Airflow believes was done: task states, written straight into its database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from interlock.domain.ledger.chain import release_chain
from interlock.domain.records import Waiver
from tests.end_to_end.people import Release, until
from tests.end_to_end.stack import Stack

from . import wave
from .databases import AirflowDatabase
from .people import APPROVER, BALLOT, BOARD, BROKEN, NEW, TAMPERED, accepted, at_the_training, go, reason_of, vote
from .suite import LEDGER_WRITER, OWNER, attack

pytestmark = pytest.mark.timeout(1800)
GATE = "quality.pass_gate"
UP_TO_THE_WAVE = (
    "communication.write_notes",
    "communication.announce",
    "communication.prepare_training",
    "communication.acknowledge_training",
    "communication.acknowledge_training_over",
    "communication.record_communication",
    "implementation.await_start",
    "implementation.book_environment",
    "implementation.measure_baseline",
)


@attack(
    "have a release that one asked for oneself be somebody else's, to vote on it",
    by=OWNER,
    way="database",
    stopped="a run is whose it was when it came in at Airflow's API, which is on record in the ledger",
)
def test_a_release_stays_whose_it_was(stack: Stack, database: AirflowDatabase) -> None:
    release = stack.person("rita").release(NEW)
    database.run(
        "UPDATE dag_run SET triggering_user_name = 'maya' WHERE dag_id = %s AND run_id = %s",
        *(release.dag_id, release.id),
    )
    assert release.finish() == "failed"
    reason = release.outcome()["reason"]
    assert "the ledger names rita as its requester, but Airflow names maya" in reason, reason


@pytest.fixture(scope="module")
def unvoted(stack: Stack, database: AirflowDatabase) -> Release:
    """A release on which nobody voted, and of which Airflow believes that everything before the wave succeeded."""
    release = accepted(stack)
    database.set_state(release, "success", *UP_TO_THE_WAVE)
    database.set_state(release, "success", BALLOT, f"{BALLOT}_over", BOARD)
    TAMPERED["states"] = release
    release.finish()
    return release


@attack(
    "write that ballots, counting and everything up to the first wave succeeded",
    by=OWNER,
    way="database",
    stopped="no permit: the votes are counted again from who answered what, and nobody did",
)
def test_states_are_no_votes(unvoted: Release) -> None:
    assert unvoted.state == "failed"
    outcome = unvoted.outcome()
    assert outcome["outcome"] in ("failed", "rejected", "expired")
    reason = reason_of(unvoted, "implementation.wave_1")
    assert "A recount of the votes does not approve the plan." in reason
    assert "does not approve the plan" in outcome["reason"] or "decided" in outcome["reason"], outcome["reason"]
    assert {one.payload["permit"]["purpose"] for one in wave.entries(unvoted, "permit.issued")} == {"inspect"}


@attack(
    "write a decision for a board that did not decide",
    by=OWNER,
    way="database",
    stopped="the next task compares it with what the stage left in the ledger, and leaves a finding",
)
def test_a_decision_that_nobody_made_is_void(unvoted: Release, database: AirflowDatabase) -> None:
    decision = {
        **{"schema_version": 1, "subject": "board", "digest": wave.plan_of(unvoted).digest, "approved": True},
        **{"required": True, "expired": False, "reason": "Everybody is in favour.", "votes": []},
    }
    database.write_xcom(unvoted, BOARD, decision)
    database.run_again(unvoted, "communication.write_notes")
    until("it to be refused", lambda: unvoted.states()["communication.write_notes"] == "failed")
    unvoted.finish()
    reason = reason_of(unvoted, "communication.write_notes")
    assert "received a Decision that differs from the record in the ledger" in reason
    assert any("Decision" in what for what in wave.findings(unvoted))


@pytest.fixture(scope="module")
def unfit(stack: Stack, database: AirflowDatabase) -> Release:
    """A release that failed quality review, whose gate never ran; people approved it, and support is asked."""
    release = stack.person("rita").release(BROKEN)
    until("the run's tasks", lambda: GATE in release.states())
    database.set_state(release, "success", GATE)
    database.write_xcom(release, GATE, [])
    TAMPERED["the gate's state"] = release
    stack.person("fay").decide(release, APPROVER, "Approve", "Works as we asked")
    vote(stack, release, "ben", "Approve")
    vote(stack, release, "cora", "Approve")
    at_the_training(release)
    return release


@attack(
    "record a waiver of what failed, in nobody's name",
    by=LEDGER_WRITER,
    way="ledger",
    stopped="no permit: a waiver counts if the board saw it in the plan",
)
def test_a_waiver_that_the_board_did_not_see_is_none(unfit: Release) -> None:
    quality = wave.entries(unfit, "quality.judged")[-1].payload
    waived = [waiver(failure) for failure in quality["failures"]]
    chain = release_chain(unfit.dag_id, unfit.id)
    with wave.ledger() as ledger:
        for number, one in enumerate(waived):
            ledger.append(chain, "quality.waived", one, actor="cora", key=f"quality.waived/{number}")
    assert "failed without a waiver in force" in wave.refusal(unfit)


def waiver(failure: dict[str, Any]) -> dict[str, Any]:
    """Return a waiver of a failed expectation, as the gate records one."""
    now = datetime.now(UTC)
    return Waiver(
        expectation=failure["expected"],
        suite=failure["suite"],
        reason="It does not matter",
        by="cora",
        at=now,
        until=now + timedelta(days=3),
    ).to_xcom()


@attack(
    "write that the quality gate succeeded, before it runs",
    by=OWNER,
    way="database",
    stopped="no permit: the quality report in the ledger has what failed, and nobody waived it",
)
def test_a_gate_that_never_ran_lets_nothing_pass(stack: Stack, unfit: Release) -> None:
    go(stack, unfit)
    assert unfit.finish() == "failed"
    outcome = unfit.outcome()
    assert outcome["outcome"] == "failed"
    assert "The quality review failed without a waiver in force" in reason_of(unfit, "implementation.measure_baseline")
    assert "basket" in outcome["reason"], outcome["reason"]
