"""How a release ended: decided from what the stages left, none of which is trusted to be there.

A release is ``deployed`` (or ``rehearsed``) only if every record that proves it is there and says so, and every host
says so itself. Losing a record never makes an outcome better.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from .canonical import Model
from .records import BackOutReport, Decision, Outcome, RolloutPlan, VerificationReport, WaveReport

Verdict = Literal["deployed", "rehearsed", "rejected", "expired", "backed_out", "failed"]

STAGES = (
    "policy",
    "planning",
    "design",
    "build",
    "quality",
    "acceptance",
    "rollout",
    "communication",
    "implementation",
    "verification",
    "closure",
)
"""The stages of a release, in their order; the last one decides the outcome."""

GATES = {"plan": "planning", "acceptance": "acceptance", "board": "rollout"}
"""What people decide on: the stage in which they do."""


class FailedTask(Model):
    """A task that failed, and the reason that it left."""

    stage: str
    task: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a release ended by one finding, and the stage that the finding comes from.

    :param proven: something is on record; otherwise something is not, which is often the consequence of the former.
    """

    stage: str
    verdict: Verdict
    reason: str
    proven: bool = True

    @property
    def order(self) -> tuple[bool, int]:
        """What is on record decides before what is not, an earlier stage before a later one."""
        return not self.proven, _rank(self.stage)


def decide_outcome(
    *,
    service: str,
    version: str,
    failed: Sequence[FailedTask],
    decisions: Sequence[Decision],
    rollout: RolloutPlan | None,
    waves: Sequence[WaveReport],
    verification: VerificationReport | None,
    back_out: BackOutReport | None,
    running: Mapping[str, str | None],
) -> Outcome:
    """Decide how a release ended, and which stage decided it.

    :param failed: the tasks that failed.
    :param decisions: on the plan, on the acceptance, and the board's; also those where nobody had to be asked.
    :param running: host, by name or address: the version it answers with now.
    """
    if back_out is not None:
        ending = _taken_back(back_out, failed)
    else:
        findings = (
            *_of_decisions(decisions, rollout, waves),
            *_of_tasks(failed),
            *_of_plan(service, version, rollout),
            *_of_waves(rollout, waves),
            *_of_verification(verification),
            *_of_hosts(version, rollout, running),
        )
        ending = min(findings, key=lambda finding: finding.order, default=_arrived(version, rollout))
    return Outcome(
        outcome=ending.verdict,
        stage=ending.stage,
        reason=ending.reason,
        service=service,
        version=version,
        running=dict(running),
    )


def _arrived(version: str, rollout: RolloutPlan | None) -> _Ending:
    if rollout is None:
        return _Ending("rollout", "failed", "There is no rollout plan on record.", proven=False)
    number = len(rollout.hosts)
    hosts = "The one host" if number == 1 else f"All {number} hosts"
    answer = f"{hosts} of {rollout.environment} {'answers' if number == 1 else 'answer'} with {version}"
    if rollout.rehearsal:
        return _Ending("verification", "rehearsed", f"{answer}; production was not touched.")
    return _Ending("verification", "deployed", f"{answer}, and the verification found nothing against it.")


def _taken_back(back_out: BackOutReport, failed: Sequence[FailedTask]) -> _Ending:
    stage = "implementation" if any(task.stage == "implementation" for task in failed) else "verification"
    because = back_out.because.rstrip(".")
    if back_out.verified:
        return _Ending(stage, "backed_out", f"Backed out, and every host answers as before the release: {because}.")
    broken = ", ".join(result.host for result in back_out.results if result.outcome == "failed")
    trouble = f"{broken} failed" if broken else "not every host answers as before the release"
    return _Ending(stage, "failed", f"The back-out did not succeed: {trouble}. It was begun because: {because}.")


def _of_decisions(
    decisions: Sequence[Decision], rollout: RolloutPlan | None, waves: Sequence[WaveReport]
) -> Iterator[_Ending]:
    for decision in decisions:
        stage = GATES[decision.subject]
        if not decision.approved and waves:
            yield _Ending(stage, "failed", f"Hosts were changed although this was not approved: {decision.reason}")
        elif not decision.approved:
            yield _Ending(stage, "expired" if decision.expired else "rejected", decision.reason)
        elif decision.subject == "board" and rollout is not None and decision.digest != rollout.digest:
            which = f"{decision.digest[:12]}, and the plan on record is {rollout.digest[:12]}"
            yield _Ending(stage, "failed", f"The board decided on the rollout plan {which}.")
    for subject in GATES.keys() - {decision.subject for decision in decisions}:
        reason = f"There is no record of what was decided in the stage {GATES[subject]}."
        yield _Ending(GATES[subject], "failed", reason, proven=False)


def _of_tasks(failed: Sequence[FailedTask]) -> Iterator[_Ending]:
    """Give the reason of the task that failed first, and of those that failed after it."""
    if not failed:
        return
    first, *others = sorted(failed, key=lambda task: _rank(task.stage))
    then = [f"Then {task.task} failed: {_reason(task)}" for task in others]
    yield _Ending(first.stage, "failed", " ".join([_reason(first), *then]))


def _reason(task: FailedTask) -> str:
    return task.reason or f"{task.task} did not say why."


def _rank(stage: str) -> int:
    return STAGES.index(stage) if stage in STAGES else len(STAGES)


def _of_plan(service: str, version: str, rollout: RolloutPlan | None) -> Iterator[_Ending]:
    if rollout is None:
        yield _Ending("rollout", "failed", "There is no rollout plan on record.", proven=False)
    elif (rollout.service, rollout.version) != (service, version):
        found = f"{rollout.service} {rollout.version}"
        yield _Ending("rollout", "failed", f"The rollout plan on record is of {found}, not of {service} {version}.")
    elif not rollout.hosts:
        yield _Ending("rollout", "failed", "The rollout plan on record names no host.")


def _of_waves(rollout: RolloutPlan | None, waves: Sequence[WaveReport]) -> Iterator[_Ending]:
    if rollout is None:
        return
    brought = {
        result.instance_id
        for wave in waves
        for result in wave.results
        if wave.release == rollout.release and result.outcome in ("deployed", "unchanged")
    }
    if lacking := [host.name for host in rollout.hosts if host.instance_id not in brought]:
        reason = f"There is no record that {', '.join(lacking)} came to {rollout.release}."
        yield _Ending("implementation", "failed", reason, proven=False)


def _of_verification(verification: VerificationReport | None) -> Iterator[_Ending]:
    if verification is None:
        yield _Ending("verification", "failed", "There is no verification report on record.", proven=False)
    elif not verification.success or verification.failures:
        yield _Ending("verification", "failed", verification.reason() or "The verification did not succeed.")


def _of_hosts(version: str, rollout: RolloutPlan | None, running: Mapping[str, str | None]) -> Iterator[_Ending]:
    for host in rollout.hosts if rollout else ():
        found = running.get(host.name, running.get(host.address))
        if found != version:
            answer = f"answers with {found}" if found else "does not say which version it runs"
            yield _Ending("verification", "failed", f"{host.name} {answer}; it should run {version}.", proven=False)
