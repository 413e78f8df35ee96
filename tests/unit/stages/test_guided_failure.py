"""Hosts that failed: who is asked what, and what becomes of each answer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from interlock.domain.catalogue import Person
from interlock.domain.records import (
    Decision,
    GuidancePlan,
    HostResult,
    RolloutPlan,
    Strategy,
    Vote,
    WaveReport,
)
from interlock.stages.runtime import resources
from interlock.stages.strategies import waves
from tests.factories import releases
from tests.running_task import RunningTask, running_task

RITA = Person(user="rita", name="Rita Reyes", email="rita@example.com", role="release")
BOOK = SimpleNamespace(names={"rita": "Rita Reyes"}, person=lambda _: RITA)


def failed(number: int, outcome: str = "failed") -> HostResult:
    return releases.host_result(number, outcome=outcome, after="1.0.0-0123456789ab", error="The disk | is full.")


def plan(budget: int = 1, unanswered: str = "back_out") -> RolloutPlan:
    return releases.rollout(
        strategy=Strategy(window=3, max_failed=budget, min_healthy=0, by_zone=False),
        guidance=GuidancePlan.model_validate({"answer_within": timedelta(minutes=5), "unanswered": unanswered}),
    )


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningTask]:
    catalogue = resources.catalogue_of("bike-shop")._replace(board=BOOK, service=releases.service())
    monkeypatch.setattr(resources, "catalogue_of", lambda _: catalogue)
    with running_task("implementation.settle_wave_2", monkeypatch) as left:
        yield left


class Wave:
    """Wave 2 of a release, as it ended."""

    def __init__(
        self, task: RunningTask, patch: pytest.MonkeyPatch, rollout: RolloutPlan, *results: HostResult
    ) -> None:
        self.rollout, self.again = rollout, 0
        self.report = releases.wave(2, *results)
        self.then = releases.wave(2, releases.host_result(2), releases.host_result(3))
        task.recorded.append(("rollout.frozen", {**rollout.to_xcom(), "digest": rollout.digest}))
        task.knows("wave.deployed", self.report)
        self.patch = patch
        patch.setattr(waves, "deploy_wave", self.deploy)
        self.said()

    def deploy(self, *_: Any) -> WaveReport:
        self.again += 1
        return self.then

    def said(self, *votes: Vote) -> None:
        self.patch.setattr(waves, "votes_on", lambda *_: votes)

    def answer(self, choice: str, user: str = "rita") -> None:
        self.said(Vote(user=user, assigned="rita", choice=choice))

    def asked(self) -> list[dict[str, Any]]:
        found = waves.prepare_guidance.function("bike-shop", 2, self.rollout.to_xcom(), self.report.to_xcom())
        return list(found)

    def settle(self) -> Decision:
        found = waves.settle_wave.function("bike-shop", 2, self.rollout.to_xcom(), self.report.to_xcom())
        return Decision.from_xcom(found)


def test_a_wave_without_failures_asks_nobody(task: RunningTask, monkeypatch: pytest.MonkeyPatch) -> None:
    wave = Wave(task, monkeypatch, plan(), releases.host_result(2), releases.host_result(3))
    assert wave.asked() == []
    assert (wave.settle().approved, wave.settle().required, wave.again) == (True, False, 0)


def test_who_asked_for_the_release_is_asked_with_what_each_answer_means(
    task: RunningTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave = Wave(task, monkeypatch, plan(), failed(2), releases.host_result(3))
    (question,) = wave.asked()
    assert question["options"] == [waves.RETRY, waves.EXCLUDE, waves.BACK_OUT]
    assert question["assigned_users"][0]["id"] == "rita"
    assert "127.20.0.12 | failed | The disk &#124; is full." in question["body"]
    assert "the rollout continues without them; the error budget is 1" in question["body"]
    assert f"If you do not answer in time: *{waves.BACK_OUT}*" in question["body"]


@pytest.mark.parametrize(
    ("budget", "results"),
    [(0, (failed(2), releases.host_result(3))), (1, (failed(2), failed(3))), (1, (failed(2), failed(3, "untouched")))],
)
def test_no_more_hosts_can_be_left_out_than_the_board_agreed_to(
    task: RunningTask, monkeypatch: pytest.MonkeyPatch, budget: int, results: tuple[HostResult, ...]
) -> None:
    wave = Wave(task, monkeypatch, plan(budget), *results)
    assert wave.asked()[0]["options"] == [waves.RETRY, waves.BACK_OUT]
    wave.answer(waves.EXCLUDE)  # which the form does not offer
    with pytest.raises(AirflowFailException, match="did not get the release"):
        wave.settle()


def test_hosts_are_left_out_if_the_release_manager_says_so(task: RunningTask, monkeypatch: pytest.MonkeyPatch) -> None:
    wave = Wave(task, monkeypatch, plan(), failed(2), releases.host_result(3))
    wave.answer(waves.EXCLUDE)
    decision = wave.settle()
    assert (decision.reason, decision.votes[0].user, wave.again) == (f"rita answered: {waves.EXCLUDE}.", "rita", 0)
    assert [kind for kind, _ in task.recorded].count("failure.decided") >= 1


def test_hosts_are_tried_again_once_and_then_the_budget_decides(
    task: RunningTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave = Wave(task, monkeypatch, plan(0), failed(2), releases.host_result(3))
    wave.answer(waves.RETRY)
    assert wave.settle().approved
    assert wave.again == 1
    wave.then = wave.report
    with pytest.raises(AirflowFailException, match="1 of 2 hosts of production did not get the release"):
        wave.settle()


@pytest.mark.parametrize("user", ["rita", "ben"])
def test_the_release_is_backed_out_if_the_release_manager_says_so_or_nobody_does(
    task: RunningTask, monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    wave = Wave(task, monkeypatch, plan(), failed(2), releases.host_result(3))
    wave.answer(waves.BACK_OUT if user == "rita" else waves.EXCLUDE, user)
    with pytest.raises(AirflowFailException, match="Back the release out"):
        wave.settle()
    said = [payload for kind, payload in task.recorded if kind == "failure.decided"]
    assert (said[0]["approved"], said[0]["expired"]) == (False, user == "ben")


def test_without_an_answer_the_plan_may_say_to_leave_them_out(
    task: RunningTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave = Wave(task, monkeypatch, plan(unanswered="exclude"), failed(2), releases.host_result(3))
    assert f"If you do not answer in time: *{waves.EXCLUDE}*" in wave.asked()[0]["body"]
    assert wave.settle().expired
    assert wave.again == 0
