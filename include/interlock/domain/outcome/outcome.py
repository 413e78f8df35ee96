"""How a release ended: derived from the records of the stages, each of which may be missing.

A release is ``deployed`` (or ``rehearsed``) only if every record that proves it exists and says so, and every host says
so. A missing record never improves the outcome.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import AwareDatetime

from interlock.domain.canonical import Model, sha256_of
from interlock.domain.catalogue import PRODUCTION
from interlock.domain.permits.overtaking import Overtaking
from interlock.domain.permits.withdrawal import Withdrawal
from interlock.domain.records import (
    BackOutReport,
    Communication,
    Decision,
    EnvironmentPassed,
    Host,
    Outcome,
    PlannedStep,
    QualityReport,
    ReleaseOutcome,
    RolloutPlan,
    StepReport,
    VerificationReport,
    WaveReport,
)
from interlock.domain.rollout.pace import tolerated

AS_REQUESTED: frozenset[ReleaseOutcome] = frozenset({"deployed", "rehearsed"})
"""The outcomes of a release that did what was requested; every other is a failure of its run."""

STAGE_TITLES = {
    "policy": "Release policy",
    "planning": "Release planning",
    "design": "Hardware and software design",
    "build": "Build and configure",
    "quality": "Quality review",
    "acceptance": "Release accepted",
    "rollout": "Rollout plan and CAB",
    "communication": "Communicate and train",
    "implementation": "Implement release",
    "verification": "Verify implementation",
    "closure": "Closure",
}
"""The titles of the stages of a release, in their order; the last one decides the outcome."""
STAGES = tuple(STAGE_TITLES)

GATES = {"plan": "planning", "acceptance": "acceptance", "board": "rollout"}
"""The subject of each decision of a release, and its stage."""
_STAGES_OF_DECISIONS = {**GATES, "sign_off": "quality", "record": "rollout"}


class FailedTask(Model):
    """A failed task, and its recorded reason.

    :param held: it did nothing, because the release was withdrawn or overtaken.
    """

    stage: str
    task: str
    reason: str
    held: bool = False
    ended: AwareDatetime | None = None


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a release ended by one finding, and the stage that the finding comes from.

    :param proven: something is on record; otherwise something is not, which is often the consequence of the former.
    """

    stage: str
    verdict: ReleaseOutcome
    reason: str
    proven: bool = True

    @property
    def order(self) -> tuple[bool, int]:
        """A recorded fact decides before a missing record, and an earlier stage before a later stage."""
        return not self.proven, _rank(self.stage)


def decide_outcome(
    *,
    service: str,
    version: str,
    failed: Sequence[FailedTask],
    decisions: Sequence[Decision],
    quality: QualityReport | None,
    rollout: RolloutPlan | None,
    communication: Communication | None,
    waves: Sequence[WaveReport],
    verification: VerificationReport | None,
    back_out: BackOutReport | None,
    running: Mapping[str, str | None],
    called_off: Withdrawal | Overtaking | None = None,
    steps: Sequence[StepReport] = (),
    environments: Sequence[EnvironmentPassed] = (),
) -> Outcome:
    """Decide how a release ended, and which stage decided it.

    :param version: the requested version.
    :param failed: the tasks that failed; those of one stage in the order in which they did.
    :param decisions: on the plan, on the acceptance, and the board's; also decisions without a vote.
    :param running: host, by name or address: the version it answers with now.
    :param steps: how the steps of the runbook ended, and their ways back.
    :param environments: how the release passed those between test and production, by the ledger.
    :param called_off: who withdrew it, or what overtook it; of a release that had no permit to change anything.
    """
    of_decisions = list(_of_decisions(decisions, rollout, changed=bool(waves) or back_out is not None))
    if back_out is not None:
        ending = _breached(of_decisions, _taken_back(back_out, failed, rollout, running, steps))
    elif called_off is not None and not waves and not _failed_before(called_off, of_decisions, failed):
        how: ReleaseOutcome = "overtaken" if isinstance(called_off, Overtaking) else "withdrawn"
        ending = _Ending(failed[0].stage if failed else STAGES[0], how, called_off.sentence)
    else:
        findings = (
            *of_decisions,
            *_of_tasks(failed),
            *_of_quality(quality, rollout),
            *_of_environments(environments, rollout),
            *_of_plan(service, version, rollout),
            *_of_communication(communication),
            *_of_waves(rollout, waves),
            *_of_steps(rollout, steps),
            *_of_verification(verification),
            *_of_hosts(version, rollout, waves, running),
        )
        ending = min(findings, key=lambda finding: finding.order, default=_arrived(version, rollout, waves))
    return Outcome(
        outcome=ending.verdict,
        stage=ending.stage,
        reason=ending.reason,
        service=service,
        version=version,
        running=dict(running),
    )


def _failed_before(
    called_off: Withdrawal | Overtaking, of_decisions: Sequence[_Ending], failed: Sequence[FailedTask]
) -> bool:
    """Say whether people had decided against a release, or a task of it had failed, before it was called off."""
    return any(decided.proven for decided in of_decisions) or any(
        task.ended is not None and task.ended < called_off.at and not task.held for task in failed
    )


def _arrived(version: str, rollout: RolloutPlan | None, waves: Sequence[WaveReport]) -> _Ending:
    if rollout is None:
        return _Ending("rollout", "failed", "No rollout plan is recorded.", proven=False)
    number, left = len(rollout.hosts), _left_behind(rollout, waves)
    hosts = f"{number - len(left)} of {number} hosts" if left else f"All {number} hosts"
    hosts = "The one host" if number == 1 else hosts
    answer = f"{hosts} of {rollout.environment} {'answers' if number == 1 else 'answer'} with {version}"
    if left:
        answer += f" ({', '.join(left)} failed, within the error budget of the plan)"
    if rollout.rehearsal:
        return _Ending("verification", "rehearsed", f"{answer}; production was not touched.")
    return _Ending("verification", "deployed", f"{answer}, and the verification passed.")


def _left_behind(rollout: RolloutPlan, waves: Sequence[WaveReport]) -> list[str]:
    borne = tolerated(rollout, waves)
    return [host.name for host in rollout.hosts if host.instance_id in borne]


def _taken_back(
    back_out: BackOutReport,
    failed: Sequence[FailedTask],
    rollout: RolloutPlan | None,
    running: Mapping[str, str | None],
    steps: Sequence[StepReport],
) -> _Ending:
    stage = "implementation" if any(task.stage == "implementation" for task in failed) else "verification"
    because = back_out.because.rstrip(".")
    if trouble := _not_back(back_out, rollout, running) or _steps_not_back(rollout, steps):
        return _Ending(stage, "failed", f"The back-out failed: {trouble}. Reason for the back-out: {because}.")
    stays = [f"“{step.title}”" for step in (rollout.irreversible if rollout else ()) if _was_begun(step, steps)]
    rest = f" What cannot be taken back stays: {', '.join(stays)}." if stays else ""
    return _Ending(
        stage,
        "backed_out",
        f"The release was backed out, and every host reports its previous version. Reason: {because}.{rest}",
    )


def _was_begun(step: PlannedStep, steps: Sequence[StepReport]) -> bool:
    """Tell whether a step was begun, by how it or its way back ended; what failed may have been done in part."""
    return any(one.number == step.number and one.outcome != "left_out" for one in steps)


def _steps_not_back(rollout: RolloutPlan | None, steps: Sequence[StepReport]) -> str:
    """Return which steps of the runbook were done, and not taken back."""
    back = {one.number for one in steps if one.direction == "back" and one.outcome == "done"}
    left = [
        f"“{step.title}” was not taken back"
        for step in (rollout.steps if rollout else ())
        if step.way_back is not None and _was_begun(step, steps) and step.number not in back
    ]
    return "; ".join(left)


def _not_back(back_out: BackOutReport, rollout: RolloutPlan | None, running: Mapping[str, str | None]) -> str:
    """Return why a back-out failed: by its own report, or by the answers of the hosts now."""
    if broken := [result.host for result in back_out.results if result.outcome == "failed"]:
        return f"{', '.join(broken)} failed"
    if not back_out.verified:
        return "some hosts do not report their previous version"
    if rollout is None:
        return "no rollout plan is recorded that names the previous versions of the hosts"
    if wrong := [host.name for host in rollout.hosts if not _is_back(host, rollout, running)]:
        return f"{', '.join(wrong)} does not report its previous version"
    return ""


def _is_back(host: Host, rollout: RolloutPlan, running: Mapping[str, str | None]) -> bool:
    """Tell whether a host answers with its previous version; without one, any answer but the release is accepted."""
    if host.name not in running and host.address not in running:
        return False
    before, found = rollout.back_out.versions.get(host.address), _answer(host, running)
    return found == before if before else found != rollout.version


def _answer(host: Host, running: Mapping[str, str | None]) -> str | None:
    return running.get(host.name, running.get(host.address))


def _breached(of_decisions: Sequence[_Ending], taken_back: _Ending) -> _Ending:
    """Return how a back-out ended; a change without an approval is the more serious finding."""
    if not of_decisions:
        return taken_back
    first = min(of_decisions, key=lambda finding: finding.order)
    return _Ending(first.stage, "failed", f"{first.reason} {taken_back.reason}")


def _of_decisions(decisions: Sequence[Decision], rollout: RolloutPlan | None, *, changed: bool) -> Iterator[_Ending]:
    """Yield what is wrong with the decisions.

    :param changed: whether hosts were changed.
    """
    for decision in decisions:
        stage = _STAGES_OF_DECISIONS[decision.subject]
        if not decision.approved and changed:
            yield _Ending(stage, "failed", f"Hosts were changed without an approval: {decision.reason}")
        elif not decision.approved:
            yield _Ending(stage, "expired" if decision.expired else "rejected", decision.reason)
        elif rollout is not None:
            yield from _of_approval(decision, rollout)
    for subject in GATES.keys() - {decision.subject for decision in decisions}:
        reason = f"No decision of the stage {GATES[subject]} is recorded."
        yield _Ending(GATES[subject], "failed", reason, proven=False)


def _of_approval(decision: Decision, rollout: RolloutPlan) -> Iterator[_Ending]:
    """Compare an approval with the plan that was rolled out: it may be for another plan."""
    stage = _STAGES_OF_DECISIONS[decision.subject]
    if decision.subject == "board" and decision.digest != rollout.digest:
        which = f"{decision.digest[:12]}, but the recorded plan is {rollout.digest[:12]}"
        yield _Ending(stage, "failed", f"The board decided on the rollout plan {which}.")
    elif decision.subject == "board" and rollout.decide_by is not None and not decision.required:
        reason = "The rollout plan needs the vote of a board, but the recorded decision says that no vote is required."
        yield _Ending(stage, "failed", reason)
    elif decision.subject == "acceptance" and decision.digest != rollout.acceptance_digest:
        which = f"{decision.digest[:12]}, but the recorded plan names the acceptance"
        yield _Ending(stage, "failed", f"The acceptance is {which} {rollout.acceptance_digest[:12]}.")


def _of_tasks(failed: Sequence[FailedTask]) -> Iterator[_Ending]:
    """Return the reason of the first failed task, and of the tasks that failed after it."""
    if not failed:
        return
    first, *others = sorted(failed, key=lambda task: _rank(task.stage))
    then = [f"After that, {task.task} failed: {_reason(task)}" for task in others]
    yield _Ending(first.stage, "failed", " ".join([_reason(first), *then]))


def _reason(task: FailedTask) -> str:
    return task.reason or f"{task.task} gave no reason."


def _rank(stage: str) -> int:
    return STAGES.index(stage) if stage in STAGES else len(STAGES)


def _of_quality(quality: QualityReport | None, rollout: RolloutPlan | None) -> Iterator[_Ending]:
    if quality is None:
        yield _Ending("quality", "failed", "No quality report is recorded.", proven=False)
        return
    waived = {(waiver.suite, waiver.expectation) for waiver in rollout.waivers} if rollout else set()
    standing = [failure for failure in quality.failures if (failure.suite, failure.expected) not in waived]
    if standing or not (quality.success or quality.failures):
        yield _Ending("quality", "failed", quality.reason() or "The quality review failed.")
    elif rollout is not None and sha256_of(quality) != rollout.quality_digest:
        yield _Ending("quality", "failed", "The recorded quality report is not the one that the rollout plan names.")


def _of_environments(environments: Sequence[EnvironmentPassed], rollout: RolloutPlan | None) -> Iterator[_Ending]:
    if rollout is None or rollout.rolls_back:
        return
    recorded = {one.environment: one for one in environments}
    for one in rollout.environments or ():
        if recorded.get(one.environment) != one:
            reason = f"{one.environment}: what is recorded of its tests is not what the rollout plan names."
            yield _Ending("quality", "failed", reason)


def _of_plan(service: str, version: str, rollout: RolloutPlan | None) -> Iterator[_Ending]:
    if rollout is None:
        yield _Ending("rollout", "failed", "No rollout plan is recorded.", proven=False)
    elif (rollout.service, rollout.version) != (service, version):
        found = f"{rollout.service} {rollout.version}"
        yield _Ending("rollout", "failed", f"The recorded rollout plan is for {found}, not for {service} {version}.")
    elif rollout.rehearsal == (rollout.environment == PRODUCTION):
        what = "a rehearsal" if rollout.rehearsal else "a release"
        yield _Ending("rollout", "failed", f"The recorded rollout plan is {what}, but for {rollout.environment}.")
    elif not rollout.hosts:
        yield _Ending("rollout", "failed", "The recorded rollout plan names no host.")


def _of_communication(communication: Communication | None) -> Iterator[_Ending]:
    if communication is None:
        reason = "No communication of the release is recorded."
        yield _Ending("communication", "failed", reason, proven=False)


def _of_waves(rollout: RolloutPlan | None, waves: Sequence[WaveReport]) -> Iterator[_Ending]:
    if rollout is None:
        return
    brought = {
        result.instance_id
        for wave in waves
        for result in wave.results
        if wave.release == rollout.release
        and result.after == rollout.release
        and result.outcome in ("deployed", "unchanged")
    }
    brought -= {result.instance_id for wave in waves for result in wave.results if result.outcome == "failed"}
    brought |= tolerated(rollout, waves)
    if lacking := [host.name for host in rollout.hosts if host.instance_id not in brought]:
        reason = f"No deployment of {rollout.release} to {', '.join(lacking)} is recorded."
        yield _Ending("implementation", "failed", reason, proven=False)


def _of_steps(rollout: RolloutPlan | None, steps: Sequence[StepReport]) -> Iterator[_Ending]:
    ended = {one.number for one in steps if one.direction == "forward" and one.outcome != "failed"}
    if lacking := [f"“{step.title}”" for step in (rollout.steps if rollout else ()) if step.number not in ended]:
        reason = f"No record says that steps of the runbook are done: {', '.join(lacking)}."
        yield _Ending("implementation", "failed", reason, proven=False)


def _of_verification(verification: VerificationReport | None) -> Iterator[_Ending]:
    if verification is None:
        yield _Ending("verification", "failed", "No verification report is recorded.", proven=False)
    elif not verification.success or verification.failures:
        yield _Ending("verification", "failed", verification.reason() or "The verification failed.")
    elif wrong := [result for result in verification.smoke if not result.passed]:
        asked = ", ".join(f"{result.path} on {result.host} ({result.found})" for result in wrong)
        yield _Ending("verification", "failed", f"Smoke requests failed: {asked}.")


def _of_hosts(
    version: str, rollout: RolloutPlan | None, waves: Sequence[WaveReport], running: Mapping[str, str | None]
) -> Iterator[_Ending]:
    borne = tolerated(rollout, waves) if rollout else frozenset()
    for host in rollout.hosts if rollout else ():
        if host.instance_id in borne:
            continue
        found = _answer(host, running)
        if found != version:
            answer = f"answers with {found}" if found else "does not report a version"
            yield _Ending("verification", "failed", f"{host.name} {answer}; it should run {version}.", proven=False)
