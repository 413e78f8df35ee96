"""The steps of a service's runbook as they are frozen in a rollout plan, and what a board is told of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import ChangeType, Service
from interlock.domain.catalogue.runbook_file import Action, Step, moment_in_words
from interlock.domain.catalogue.values import in_words
from interlock.domain.errors import AssetMissing, PolicyViolation
from interlock.domain.records import Host, PlannedStep, RolloutPlan, StepDirection

_ONLY_IN_PRODUCTION = "a rehearsal runs only the commands of a runbook, on a test host, and takes nothing away"
_ON_THE_COPY = "in a rehearsal, quality review has changed the database of test already"


def planned_steps(service: Service, hosts: Sequence[Host], *, rehearsal: bool) -> tuple[PlannedStep, ...]:
    """Return the steps of a service's runbook for a release to some hosts.

    :raises AssetMissing: a command is to run on a host that the environment does not have.
    """
    return tuple(
        _planned(number, step, hosts, rehearsal=rehearsal) for number, step in enumerate(service.runbook, start=1)
    )


def _planned(number: int, step: Step, hosts: Sequence[Host], *, rehearsal: bool) -> PlannedStep:
    others = any(one.command is None for _, one in step.actions)
    left_out = _ONLY_IN_PRODUCTION if rehearsal and (others or step.works_from) else ""
    if rehearsal and step.migrates:
        left_out = _ON_THE_COPY
    on_hosts = [one.on_host for _, one in step.actions if one.on_host is not None]
    wanted = next((one.host for one in on_hosts if one.host), None)
    return PlannedStep(
        number=number,
        name=step.name,
        title=step.title,
        when=step.when,
        needs=step.needs,
        estimate=step.estimate,
        do=step.do,
        way_back=step.way_back if isinstance(step.way_back, Action) else None,
        host=_chosen(step, None if rehearsal else wanted, hosts) if on_hosts and not left_out else None,
        works_from=step.works_from,
        migrates=step.migrates,
        left_out=left_out,
    )


def _chosen(step: Step, name: str | None, hosts: Sequence[Host]) -> Host:
    found = [host for host in hosts if name in (None, host.name)]
    if found:
        return found[0]
    raise AssetMissing(
        f"The step {step.name} of the runbook is to run on {name}, which is not a host of the environment: "
        f"{', '.join(host.name for host in hosts) or 'it has none'}.",
        rule="a command of a runbook runs on a host of the environment (runbook in the service's YAML)",
        who="the service's team",
        next_step="name one of these hosts, or leave host out, and trigger the release again",
    )


def refuse_missing_scripts(steps: Sequence[PlannedStep], there: Collection[str]) -> None:
    """Refuse commands that the bundle does not have as programs.

    :param there: the names of all programs of the bundle.
    """
    lacking = [
        f"{step.name} needs {action.command.script}"
        for step in steps
        for action in (step.do, step.way_back)
        if action is not None and action.command is not None and not step.left_out
        if action.command.script not in there
    ]
    if lacking:
        raise AssetMissing(
            f"The bundle does not have programs of the runbook: {'; '.join(lacking)}.",
            rule="a command of a runbook is an executable file of the bundle (runbook in the service's YAML)",
            who="the service's team",
            next_step="add them to the output of the build with chmod +x, or correct the runbook",
        )


def refuse_unvoted(steps: Sequence[PlannedStep], change_type: ChangeType, *, asked: bool) -> None:
    """Refuse to do what cannot be taken back without a vote.

    :param asked: a board or a rule votes on the release.
    """
    names = [step.title for step in steps if step.is_irreversible]
    if names and not asked:
        raise PolicyViolation(
            f"No board votes on this {change_type} change, but it cannot be taken back: {'; '.join(names)}.",
            rule="a release with an irreversible step needs a vote (way_back: none, in the runbook of the service)",
            who="the owner of policy.yaml and board.yaml (rules with when: irreversible)",
            next_step="request it as a change type on which a board votes, or give the step a way back",
        )


def step_id(plan: str, step: PlannedStep, direction: StepDirection) -> str:
    """Return the name of a step of a plan wherever it leaves a trace: the same in every try, and of no other plan.

    :param plan: the digest of the frozen plan.
    """
    return sha256_of({"plan": plan, "step": step.number, "direction": direction})[:32]


def describe_action(step: PlannedStep, action: Action | None, names: Mapping[str, str]) -> str:
    """Describe what is done, for people.

    :param names: the name of each person, by user name.
    """
    if action is None:
        return "none: it cannot be taken back" if step.do.snapshot is None else "none: it changes nothing"
    if action.manual is not None:
        who, within = _named(action.manual.who, names), in_words(action.manual.within)
        return f"by hand: {who}, within {within}; to show: {action.manual.evidence}"
    where = f" on {step.host.name}" if step.host and action.on_host is not None else ""
    asked = f"; asked if in doubt: {_named(action.question.who, names)}" if action.question else ""
    return f"{action}{where}{asked}"


def _named(users: Iterable[str], names: Mapping[str, str]) -> str:
    return " or ".join(names.get(user, user) for user in users)


def describe_steps(steps: Sequence[PlannedStep], names: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """Return a row for each step: when, title, what is done, what takes it back, what it needs, how long it takes."""
    numbers = {step.name: str(step.number) for step in steps}
    return tuple(
        (
            moment_in_words(step.when),
            f"{step.number}. {step.title}",
            f"left out: {step.left_out}" if step.left_out else describe_action(step, step.do, names) + _from(step),
            describe_action(step, step.way_back, names),
            f"step {' and '.join(numbers[name] for name in step.needs)}" if step.needs else "nothing",
            in_words(step.estimate),
        )
        for step in steps
    )


def _from(step: PlannedStep) -> str:
    changes = f"; changes the database {step.migrates}" if step.migrates else ""
    return changes + (f"; versions before {step.works_from} do not work after it" if step.works_from else "")


def describe_irreversible(plan: RolloutPlan) -> tuple[str, ...]:
    """Say of each step that cannot be taken back what that means, a sentence for each."""
    return tuple(_irreversible(plan))


def _irreversible(plan: RolloutPlan) -> Iterator[str]:
    for step in plan.irreversible:
        yield (
            f"“{step.title}” cannot be taken back. A back-out returns the hosts to their releases; what this step "
            "did stays."
        )
