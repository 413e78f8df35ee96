"""A release that an earlier version of Interlock began goes on with this one: results, ledger, votes and rules."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from interlock.adapters.catalogue.catalogue import load_service
from interlock.adapters.ledger.ledger import open_ledger
from interlock.adapters.signing.signing import generate_key, load_signer
from interlock.domain import records
from interlock.domain.board.decision import count_votes
from interlock.domain.board.voting import both, rule_on_record, voting_rule
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import ServiceCatalogue
from interlock.domain.change.amended import amendments_of, what_voids
from interlock.domain.ledger.chain import Entry, release_chain
from interlock.domain.ledger.integrity import unsigned_since
from interlock.domain.ledger.reading import last_in, plan_in
from interlock.domain.records import PolicyInForce, QualityReport, Vote
from interlock.estate.settings import Settings
from interlock.estate.stack import postgres
from tests.integration.ledger_server import ledger_connection, wait_until_ready
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
CHAIN = release_chain("release_bike_shop", "manual__upgrade")
EARLIER = {
    "before the last change of records": "39cf07b38fc16b62e75e998dd8d53f75f1a478fb",
    "before environments between test and production": "f0e3d49~1",
}
"""Commits of the version before: what is installed while releases wait for their boards."""
RESULTS = {
    "policy.resolve_policy": records.PolicyInForce,
    "planning.plan_release": records.ReleasePlan,
    "design.check_assets": records.AssetReport,
    "build.build_artifact": records.Artifact,
    "quality.judge_quality": records.QualityReport,
    "acceptance.decide_acceptance": records.Decision,
    "rollout.freeze_plan": records.RolloutPlan,
}


class Upgraded(NamedTuple):
    """What the version before left, and its ledger, which this version has migrated."""

    left: dict[str, Any]
    settings: Settings
    key: str
    catalogue: ServiceCatalogue

    @property
    def entries(self) -> tuple[Entry, ...]:
        with open_ledger(ledger_connection(self.settings)) as ledger:
            return ledger.entries(CHAIN)


@pytest.fixture(scope="module", params=EARLIER.values(), ids=EARLIER.keys())
def upgraded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgraded]:
    folder = tmp_path_factory.mktemp("upgrade")
    archive = subprocess.run(
        ["git", "archive", request.param, "include", "tests"], cwd=ROOT, capture_output=True, check=False
    )
    assert archive.returncode == 0, f"The test needs the history of the repository: {archive.stderr.decode()}"
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(folder / "before", filter="data")
    generate_key(folder / "key.pem")
    key = (folder / "key.pem").as_uri()
    settings = Settings(state=folder / "state", postgres_port=free_port())
    settings.state.mkdir()
    postgres.prepare(settings)
    with (folder / "log").open("ab") as log:
        server = subprocess.Popen(postgres.server_command(settings), stdout=log, stderr=log, cwd="/")
    try:
        wait_until_ready(settings)
        before, catalogue = folder / "before", folder / "before" / "include" / "catalogue"
        given = [settings.state, settings.postgres_port, key, catalogue, datetime.now(UTC).isoformat()]
        done = subprocess.run(
            [sys.executable, ROOT / "tests" / "upgrade_writer.py", *map(str, given)],
            env={**os.environ, "PYTHONPATH": f"{before / 'include'}{os.pathsep}{before}"},
            cwd=before,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        postgres.migrate_ledger(settings)  # as interlock setup does, with the new wheel
        (line,) = (line for line in done.stdout.splitlines() if line.startswith("RESULT"))
        left = json.loads(line.removeprefix("RESULT"))
        yield Upgraded(left, settings, key, load_service(catalogue, "bike-shop").of("bike-shop"))
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(20)


def test_results_that_travel_in_airflow_are_read_and_mean_the_same(upgraded: Upgraded) -> None:
    read = {task: RESULTS[task].from_xcom(value) for task, value in upgraded.left["results"].items()}
    assert {task: record.to_xcom() for task, record in read.items()} == upgraded.left["results"]
    plan = records.RolloutPlan.from_xcom(upgraded.left["results"]["rollout.freeze_plan"])
    assert plan.digest == upgraded.left["digests"]["plan"]
    assert sha256_of(read["quality.judge_quality"]) == upgraded.left["digests"]["quality"]


def test_the_ledger_is_intact_and_a_release_goes_on_in_it(upgraded: Upgraded) -> None:
    signer = load_signer(upgraded.key)
    with open_ledger(ledger_connection(upgraded.settings)) as ledger:
        assert ledger.check(CHAIN, [signer.public_key]) is None
        assert ledger.weaknesses() == ()
        assert unsigned_since(CHAIN, ledger.entries(CHAIN), ledger.heads(CHAIN)) is None
        entry = ledger.append(CHAIN, "board.reminded", {"to": ["dan"]}, actor="a task", key="board.reminded/1")
        assert ledger.entries(CHAIN)[-1] == entry


def test_the_rules_with_which_it_began_are_those_of_the_same_catalogue_now(upgraded: Upgraded) -> None:
    began = last_in(upgraded.entries, "policy.resolved", PolicyInForce)
    assert began is not None
    assert began.digest == upgraded.left["digests"]["policy"] == sha256_of(began.rules or {})
    assert what_voids(began, upgraded.catalogue) == ()
    assert amendments_of(began, upgraded.catalogue) == (), "an upgrade alone changes no rule"


def test_what_was_voted_before_counts_after(upgraded: Upgraded) -> None:
    began, plan = last_in(upgraded.entries, "policy.resolved", PolicyInForce), plan_in(upgraded.entries)
    quality = last_in(upgraded.entries, "quality.judged", QualityReport)
    assert began is not None
    assert plan is not None
    assert plan.quality_digest == sha256_of(quality)
    about: dict[str, Any] = {"change_type": plan.change_type, "risk": plan.risk, "irreversible": False}
    rule = both(rule_on_record(began.rules or {}, **about), voting_rule(*upgraded.catalogue, **about))
    assert rule is not None
    (cast,) = (entry for entry in upgraded.entries if entry.kind == "answer.given")
    said = cast.payload.get("answer") or cast.payload
    votes = [Vote(user=cast.actor, assigned=cast.actor, choice=str(said["choice"]), at=cast.at)]
    about_votes: dict[str, Any] = {"digest": plan.digest, "requester": plan.requested_by, "expired": False}
    assert count_votes(rule, votes, **about_votes) is None, "one of two approvals"
    votes.append(Vote(user="dan", assigned="dan", choice="Approve", at=datetime.now(UTC)))
    decided = count_votes(rule, votes, **about_votes)
    assert decided is not None
    assert decided.approved
