"""What a wave does before it touches a host, and what a back-out does for a release that never touched one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException, AirflowSkipException

from interlock.adapters.permits.issuer import Admission
from interlock.domain.calendars.bookings import Entered
from interlock.domain.catalogue.policy_file import PermitRules
from interlock.domain.change.effective import digest_now
from interlock.domain.errors import DeployError, HostUnreachable, PolicyViolation
from interlock.domain.records import RolloutPlan, WaveReport
from interlock.stages.release import verification
from interlock.stages.runtime import bookings, calendars, permits, resources
from interlock.stages.strategies import rolling, traffic, waves
from tests.factories import releases
from tests.running_task import RunningTask

PLAN = releases.rollout()
ENTERED = Entered(place="booking/production/bike-shop", token=7)


class Refused(Admission):
    """An admission that gets no permit."""

    def __init__(self) -> None:
        super().__init__("test")

    def begin(self) -> None:
        raise PolicyViolation("No permit: Calendar: closed by Stocktaking.")


@pytest.fixture
def task(running: RunningTask, monkeypatch: pytest.MonkeyPatch) -> RunningTask:
    """A task of a release whose plan was frozen, and that gets no permit."""
    running.recorded.append(("rollout.frozen", {**PLAN.to_xcom(), "digest": PLAN.digest}))

    @contextmanager
    def admission(*_: Any) -> Iterator[Admission]:
        yield Refused()

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("something was touched")

    catalogue = resources.catalogue_of("bike-shop")._replace(service=releases.service())
    for room, name, value in (
        (resources, "catalogue_of", lambda _: catalogue),
        (bookings, "hold", lambda *_: None),
        (permits, "admission_to_deploy", admission),
        (traffic, "attach", never),
        (traffic, "restore", never),
        (waves, "deploy", never),
        (rolling, "back_out", never),
        (waves, "put_off", lambda *_: None),
        (waves, "wait_until_kept", lambda *_: None),
    ):
        monkeypatch.setattr(room, name, value)
    return running


def test_a_wave_without_a_permit_fails_with_the_reason_and_leaves_no_report(task: RunningTask) -> None:
    with pytest.raises(AirflowFailException, match="closed by Stocktaking"):
        waves.run_wave.function("bike-shop", 1, PLAN.to_xcom())
    assert [kind for kind, _ in task.recorded] == ["rollout.frozen"]


def test_the_catalogue_is_read_once_for_hosts_and_once_for_a_permit(monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = resources.catalogue_of("bike-shop")
    read: list[str] = []
    seen: list[Any] = []

    def catalogue_of(service: str) -> Any:
        read.append(service)
        return catalogue

    @contextmanager
    def office(*_: Any) -> Iterator[Any]:
        yield SimpleNamespace(issue=lambda **given: given)

    def count(*given: Any) -> None:
        seen.append(given)

    for room, name, value in (
        (resources, "catalogue_of", catalogue_of),
        (permits, "_office", office),
        (permits, "this_chain", lambda: "release/x"),
        (permits, "chain_entries", lambda: ()),
        (permits, "refuse_unproven", lambda *given, **_: seen.append(given[:2])),
        (bookings, "make_way", lambda *_: None),
        (calendars, "answer_now", lambda *given: seen.append(given[0])),
        (Admission, "by_permit", lambda *given, **_: given[2]()),
    ):
        monkeypatch.setattr(room, name, value)
    with permits.admission_to_deploy(PLAN, 1, count) as permit:
        pass
    assert read == ["bike-shop", "bike-shop"]
    assert seen == [(catalogue, PLAN), (catalogue, PLAN), catalogue]
    assert dict(permit)["catalogue"] == digest_now(PLAN.policy_digest, catalogue, PLAN.change_type)


def test_a_wave_that_only_the_calendars_keep_waits_until_they_open(
    task: RunningTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(*_: Any) -> None:
        raise AirflowRescheduleException(releases.AT + timedelta(hours=1))

    monkeypatch.setattr(waves, "put_off", wait)
    with pytest.raises(AirflowRescheduleException):
        waves.run_wave.function("bike-shop", 1, PLAN.to_xcom())


def test_a_release_that_never_had_a_permit_has_nothing_to_back_out(task: RunningTask) -> None:
    with pytest.raises(AirflowSkipException, match="did not change its target"):
        verification.back_out.function("bike-shop")


def test_a_rehearsal_is_backed_out_once_it_has_measured_its_target(
    running: RunningTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan: RolloutPlan = releases.rollout(environment="test", rehearsal=True)
    running.recorded.append(("rollout.frozen", {**plan.to_xcom(), "digest": plan.digest}))
    for came in (False, True):
        assert permits.came_to_its_target(plan) is came
        running.recorded.append(("baseline.measured", {}))


def test_a_wave_is_reported_when_its_hosts_were_changed(task: RunningTask, monkeypatch: pytest.MonkeyPatch) -> None:
    results = (releases.host_result(1),)

    @contextmanager
    def admission(*_: Any) -> Iterator[Any]:
        yield SimpleNamespace(begin=lambda: None, entered=ENTERED)

    for room, name, value in (
        (permits, "admission_to_deploy", admission),
        (traffic, "attach", lambda *_: None),
        (waves, "deploy", lambda *_, **__: results),
    ):
        monkeypatch.setattr(room, name, value)
    report = WaveReport.from_xcom(waves.run_wave.function("bike-shop", 1, PLAN.to_xcom()))
    assert report.results == results
    kind, payload = task.recorded[-1]
    assert (kind, payload["entered"]) == ("wave.deployed", {"place": "booking/production/bike-shop", "token": 7})


SILENT = {"outcome": "failed", "error": "192.0.2.1 does not answer.", "may_pass": True}
BROKEN = {"outcome": "failed", "error": "Its hook failed."}
NOT_BEGUN = {"outcome": "untouched", "before": None, "after": None}


@pytest.mark.parametrize(
    ("found", "tried_again"),
    [
        pytest.param([SILENT], True, id="no-host-answers"),
        pytest.param([{}, SILENT, NOT_BEGUN], True, id="one-host-does-not-answer"),
        pytest.param([SILENT, BROKEN], False, id="one-host-failed"),
        pytest.param([BROKEN], False, id="every-host-failed"),
        pytest.param([NOT_BEGUN], False, id="none-was-begun"),
    ],
)
def test_hosts_that_do_not_answer_are_tried_again_and_hosts_that_failed_are_not(
    found: list[dict[str, Any]], tried_again: bool
) -> None:
    results = [releases.host_result(number, **one) for number, one in enumerate(found, 1)]
    with pytest.raises(DeployError) as refused:
        rolling.refuse_failed_hosts(results, "production")
    assert isinstance(refused.value, HostUnreachable) is tried_again


def test_a_back_out_is_tried_again_while_hosts_do_not_answer(
    task: RunningTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    task.recorded.append(("permit.used", {}))
    for room, name, value in (
        (permits, "came_to_its_target", lambda _: True),
        (traffic, "restore", lambda *_: None),
        (rolling, "back_out", lambda *_: (releases.host_result(1, **SILENT),)),
        (rolling, "answered_versions", lambda *_: {}),
        (verification, "reason_of_back_out", lambda _: "wave 1 failed"),
    ):
        monkeypatch.setattr(room, name, value)
    with pytest.raises(HostUnreachable, match="did not restore every host"):
        verification.back_out.function("bike-shop")
    assert task.recorded[-1][0] == "back_out.done"


@pytest.mark.parametrize(("says", "insists"), [("mark", False), ("refuse", True)])
def test_hosts_without_keys_are_refused_if_the_policy_says_so_but_never_a_back_out(
    running: RunningTask, monkeypatch: pytest.MonkeyPatch, says: str, insists: bool
) -> None:
    catalogue = resources.catalogue_of("bike-shop")
    policy = catalogue.policy.model_copy(update={"permits": PermitRules.model_validate({"hosts_without_keys": says})})
    monkeypatch.setattr(resources, "catalogue_of", lambda _: catalogue._replace(policy=policy))
    monkeypatch.setattr(permits, "_office", lambda *_: nullcontext())
    plan = releases.rollout()
    with (
        permits.admission_to_deploy(plan, 1, lambda *_: None) as deploys,
        permits.admission_to_back_out(plan) as backs_out,
    ):
        assert (deploys._must_verify, backs_out._must_verify) == (insists, False)
