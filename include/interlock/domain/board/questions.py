"""The tasks that ask people, defined once: who is asked which question, in a release, a rollback or a train.

A question has the digest of what it is about in its text, and its task ends as success whatever was answered. What the
answer comes to is decided by the task after it, from Airflow's record of the answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from interlock.domain.catalogue import MAX_WAVES
from interlock.domain.catalogue.environment_path import FIRST
from interlock.domain.catalogue.runbook_file import MAX_STEPS


@dataclass(frozen=True, slots=True)
class AskingTask:
    """A task that asks people.

    :param task: its id in the Dag; that of a wave or a step has ``{number}`` in it, and that of an environment between
        test and production ``{environment}``.
    :param title: what is asked, for people.
    :param who: who answers.
    """

    task: str
    title: str
    who: str


ASK_ROLLBACK = "planning.choose_release"
ASK_MANAGEMENT = "planning.approve_plan"
ASK_TESTERS = "quality.run_case"
ASK_WAIVERS = "quality.waive_expectation"
ASK_PATH_TESTERS = "quality.{environment}.run_case"
ASK_PATH_WAIVERS = "quality.{environment}.waive_expectation"
ASK_SIGN_OFF = "quality.{environment}.sign_off"
ASK_APPROVERS = "acceptance.ask_approver"
ASK_BOARD = "rollout.cast_ballot"
ASK_SUPPORT = "communication.acknowledge_training"
ASK_WAVE = "implementation.ask_wave_{number}"
ASK_CANARY = "implementation.ask_canary"
ASK_STEP = "implementation.ask_step_{number}"
ASK_WAY_BACK = "verification.ask_back_step_{number}"
ASK_TRAIN_BOARD = "board.cast_ballot"

TABLE = (
    AskingTask(ASK_ROLLBACK, "To which release shall the environment go back?", "the requester of the rollback"),
    AskingTask(ASK_MANAGEMENT, "Is this plan approved?", "senior management"),
    AskingTask(ASK_TESTERS, "Did this test case pass?", "the testers that the service names for the role of the case"),
    AskingTask(
        ASK_PATH_TESTERS, "Did this test case pass?", "the testers that the service names for the role of the case"
    ),
    AskingTask(ASK_WAIVERS, "Is this failed expectation waived?", "the roles that the policy names for the suite"),
    AskingTask(ASK_PATH_WAIVERS, "Is this failed expectation waived?", "the roles that the policy names for the suite"),
    AskingTask(ASK_SIGN_OFF, "Is this environment signed off?", "the people under sign_off of the environment"),
    AskingTask(ASK_APPROVERS, "Is this artifact accepted?", "the functional approvers of the service"),
    AskingTask(ASK_BOARD, "Shall this release be rolled out?", "each member of the Change Advisory Board"),
    AskingTask(ASK_SUPPORT, "Do you acknowledge the training material?", "each support role that the service names"),
    AskingTask(ASK_WAVE, "What shall be done about the hosts that failed?", "the requester of the release"),
    AskingTask(ASK_CANARY, "Shall the release go on after a marginal canary?", "the requester of the release"),
    AskingTask(ASK_STEP, "Is this step of the runbook done?", "the people whom the step names"),
    AskingTask(ASK_WAY_BACK, "Is this step of the runbook taken back?", "the people whom its way back names"),
    AskingTask(ASK_TRAIN_BOARD, "Shall this train depart?", "each member of the Change Advisory Board"),
)


def ask_wave(number: int) -> str:
    """Return the task that asks about the hosts of a wave that failed."""
    return ASK_WAVE.format(number=number)


def of_environment(task: str, environment: str) -> str:
    """Return the task of an environment between test and production, such as of :data:`ASK_SIGN_OFF`."""
    return task.format(environment=environment)


def ask_testers(environment: str) -> str:
    """Return the task that asks the testers of an environment."""
    return ASK_TESTERS if environment == FIRST else of_environment(ASK_PATH_TESTERS, environment)


_NUMBERED = {ASK_WAVE: MAX_WAVES, ASK_STEP: MAX_STEPS, ASK_WAY_BACK: MAX_STEPS}


def _tasks(asked: AskingTask) -> tuple[str, ...]:
    if "{environment}" in asked.task:
        return ()  # as many as a service has environments: see asks_people
    most = _NUMBERED.get(asked.task)
    return tuple(asked.task.format(number=number) for number in range(1, most + 1)) if most else (asked.task,)


ASKING = frozenset(task for asked in TABLE for task in _tasks(asked))
"""All tasks that ask people, except for those of environments between test and production."""
QUESTIONS = ASKING - {ASK_TRAIN_BOARD}
"""Those of releases and rollbacks. The state of such a task is not the decision: see ``stages/approvals/people.py``."""


def _of_any_environment(task: str) -> re.Pattern[str]:
    return re.compile(re.escape(task).replace(r"\{environment\}", r"[a-z][a-z0-9-]*"))


_OF_ENVIRONMENTS = tuple(_of_any_environment(asked.task) for asked in TABLE if "{environment}" in asked.task)
_PATH_WAIVERS = _of_any_environment(ASK_PATH_WAIVERS)
_SIGN_OFF = _of_any_environment(ASK_SIGN_OFF)


def asks_people(task: str) -> bool:
    """Tell whether a task of a release, a rollback or a train asks people."""
    return task in ASKING or any(pattern.fullmatch(task) for pattern in _OF_ENVIRONMENTS)


def decides_on_release(task: str) -> bool:
    """Tell whether a task asks people to decide whether a release, or a train, goes on."""
    return task in (ASK_MANAGEMENT, ASK_APPROVERS, ASK_BOARD, ASK_TRAIN_BOARD) or _SIGN_OFF.fullmatch(task) is not None


def title_of(task: str) -> str:
    """Return what a task asks, for people; empty: it asks nothing."""
    return next((asked.title for asked, pattern in _PATTERNS if pattern.fullmatch(task)), "")


_PATTERNS = tuple((asked, re.compile(re.sub(r"\\{\w+\\}", "[a-z0-9-]+", re.escape(asked.task)))) for asked in TABLE)


def asks_for_waiver(task: str) -> bool:
    """Tell whether a task asks people to waive a failed expectation."""
    return task == ASK_WAIVERS or _PATH_WAIVERS.fullmatch(task) is not None
