"""Round the board's rejection: at Airflow's API, and in its database."""

from __future__ import annotations

import re

import pytest

from tests.end_to_end.people import DAG, Release, until
from tests.end_to_end.stack import Stack

from . import wave
from .databases import AirflowDatabase
from .people import BALLOT, BOARD, TAMPERED, answer, ballot_of, reason_of, refused
from .suite import ADMIN, GUARD, OWNER, WRITTEN, attack

pytestmark = pytest.mark.timeout(1800)


@attack("clear a ballot after the rejection, to vote anew", by=ADMIN, way="API", stopped=GUARD)
def test_a_rejection_is_not_cleared(stack: Stack, rejected: Release) -> None:
    outcome = rejected.outcome()
    assert (outcome["outcome"], outcome["stage"]) == ("rejected", "rollout")
    assert "The basket cookie is not marked secure" in outcome["reason"]
    content = {
        "dry_run": False,
        "only_failed": False,
        "dag_run_id": rejected.id,
        "task_ids": [BALLOT, BOARD],
        "include_downstream": True,
    }
    refused(stack.person("admin").send("POST", f"dags/{DAG}/clearTaskInstances", content), "admin")
    reply = answer(stack, rejected, "cora", ballot_of(rejected, "cora"))
    assert reply.status_code == 409, reply.text


@attack(
    "delete a rejecting ballot, and run a wave of the closed release",
    by=OWNER,
    way="database",
    stopped="no permit: the votes that are left approve nothing, and the release has ended",
)
def test_a_deleted_ballot_approves_nothing(rejected: Release, database: AirflowDatabase) -> None:
    instance = database.instance(rejected, BALLOT, ballot_of(rejected, "cora"))
    database.run("DELETE FROM hitl_detail WHERE ti_id = %s", instance)
    TAMPERED["a ballot"] = rejected
    refused_wave(rejected, database)
    assert "No permit: The release has ended." in wave.refusal(rejected)


@attack(
    "turn the rejection into an approval, and run a wave of the closed release",
    by=OWNER,
    way="database",
    stopped=WRITTEN,
)
def test_a_rejection_stands_whatever_airflows_database_says(rejected: Release, database: AirflowDatabase) -> None:
    for member in ("ben", "dan"):
        database.write_answer(rejected, BALLOT, member, "Approve")
    database.set_state(rejected, "success", BOARD, "implementation.await_start", "implementation.measure_baseline")
    refused_wave(rejected, database)
    counted = wave.refusal(rejected)
    assert "ben's answer “Approve” to rollout.cast_ballot[0] was not submitted through Airflow's API" in counted
    assert any("was not submitted" in what for what in wave.findings(rejected))


def refused_wave(release: Release, database: AirflowDatabase) -> None:
    """Have Airflow run the first wave of a release that has ended, and check that it does nothing."""
    wave_1 = "implementation.wave_1"
    database.set_state(release, "success", "implementation.await_start", "implementation.measure_baseline")
    database.run_again(release, wave_1)
    until("the wave to be refused", lambda: release.states()[wave_1] == "failed")
    reason = reason_of(release, wave_1)
    assert "the release is closed" in reason, reason
    assert re.search(r"Rule: .+ Who can change it: .+ Next: .+", reason), reason
    assert not wave.entries(release, "permit.issued") or all(
        one.payload["permit"]["purpose"] == "inspect" for one in wave.entries(release, "permit.issued")
    )
    release.finish()
