"""Stage 8, communicate and train: release notes, announcements, and training that support acknowledges."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, NoReturn

from airflow.sdk import XComArg, chain, get_current_context

from interlock.adapters import mail
from interlock.adapters.templates import render
from interlock.domain.board.forms import ACKNOWLEDGE, NOT_READY
from interlock.domain.board.questions import ASK_SUPPORT
from interlock.domain.calendars.calendar import Answer
from interlock.domain.catalogue import Audience, Policy, Service, Training
from interlock.domain.change.policy import time_limits_of
from interlock.domain.dag_names import is_rollback
from interlock.domain.errors import GateRejected, PolicyViolation
from interlock.domain.ledger.kinds import COMMUNICATION_RECORDED, NOTES_WRITTEN, RELEASE_ANNOUNCED
from interlock.domain.outcome.notes import announcement, release_notes
from interlock.domain.records import Communication, Decision, ReleasePlan
from interlock.stages.approvals.in_force import before_asking
from interlock.stages.approvals.people import ask, persons, question, votes_on
from interlock.stages.runtime import calendars, resources
from interlock.stages.runtime.evidence import chain_entries, record
from interlock.stages.runtime.permits import refuse_stopped_release
from interlock.stages.runtime.taskflow import stage_group, stage_task, this_run

MAX_FREEZE_WAIT = timedelta(days=3)
"""How long a release waits for the end of a freeze before it is announced; its run has a week for everything."""


@stage_task(task_display_name="Write the release notes", evidence=NOTES_WRITTEN)
def write_notes(service: str, plan: ReleasePlan, decision: Decision) -> Communication:
    """Write the release notes from the commits and tickets since the version that production runs."""
    notes = release_notes(plan, resources.catalogue_of(service).service).encode()
    return Communication(notes=resources.store().put_bytes(notes, "release-notes.md"), sent={}, acknowledged={})


@stage_task(task_display_name="Announce the release", evidence=RELEASE_ANNOUNCED)
def announce(service: str, plan: ReleasePlan, notes: Communication) -> Communication:
    """E-mail the announcement to each audience. A retry of the task does not send an announcement twice.

    During an emergency stop nothing is announced, and the release ends. During a freeze the task waits, without a
    worker, until the freeze is over or overridden, for three days at most.
    """
    catalogue = resources.catalogue_of(service)
    described = catalogue.service
    refuse_stopped_release(described, plan)
    if plan.rehearsal or not described.audiences:
        return notes
    done = get_current_context()["task_state_store"]
    began = any(done.get(f"sent:{audience.name}") for audience in described.audiences)  # the others are told, too
    if not began and (frozen := calendars.closed_at_start(catalogue, plan.target, plan.not_before)):
        _wait_or_refuse(frozen)
    text = resources.store().get_bytes(notes.notes).decode()
    sent: dict[str, tuple[str, ...]] = {}
    try:
        with resources.mail_server() as smtp:
            for audience in described.audiences:
                if not done.get(f"sent:{audience.name}"):
                    _send(smtp, plan, described, audience, text)
                    done.set(f"sent:{audience.name}", True)
                sent[audience.name] = audience.email
    except Exception:
        if sent:  # audiences that got the announcement also get the outcome
            record(RELEASE_ANNOUNCED, notes.model_copy(update={"sent": sent}))
        raise
    return notes.model_copy(update={"sent": sent})


def _wait_or_refuse(frozen: Answer) -> NoReturn:
    """Wait for the end of a freeze: nobody is told of a release before the way is clear.

    :raises PolicyViolation: it has waited too long; or it is a rollback, which a freeze refuses at once.
    """
    written = [entry.at for entry in chain_entries() if entry.kind == NOTES_WRITTEN]
    if not is_rollback(this_run()[0]) and datetime.now(UTC) < written[-1] + MAX_FREEZE_WAIT:
        calendars.wait_for_opening(frozen)
    raise PolicyViolation(
        f"Nobody was told of the release, because it cannot begin. {frozen}",
        rule=f"a release is announced when no freeze keeps it from its target, and waits {MAX_FREEZE_WAIT.days} days",
        who="people whose role is in override_by of the calendar's entry, with the Dag override_freeze",
        next_step="trigger the release again when the freeze is over or overridden",
    )


def _send(smtp: Any, plan: ReleasePlan, described: Service, audience: Audience, text: str) -> None:
    subject, body = announcement(plan, described, audience, text, rollback=is_rollback(this_run()[0]))
    same = mail.message_id(*this_run(), audience.name)
    mail.send(smtp, to=audience.email, subject=subject, text=body, message_id=same)


def _training(plan: ReleasePlan, described: Service) -> Training | None:
    return None if plan.rehearsal else described.training


def _material(described: Service, training: Training, commit: str) -> tuple[str, str]:
    with resources.repository(described) as repository:
        material = repository.read(commit, training.material)
    return material.decode("utf-8", errors="replace"), sha256(material).hexdigest()


@stage_task(task_display_name="Prepare the training questions", words=ASK_SUPPORT)
def prepare_training(service: str, plan: ReleasePlan) -> list[dict[str, Any]]:
    """Prepare the training material for each support role that the service names."""
    catalogue = resources.catalogue_of(service)
    policy, board, described = catalogue
    if (training := _training(plan, described)) is None:
        return []
    material, digest = _material(described, training, plan.commit.sha)
    answer_by = datetime.now(UTC) + time_limits_of(policy, described).acknowledgement
    in_force = before_asking(catalogue, plan)
    told = {
        "plan": plan,
        "service": described,
        "material": material,
        "digest": digest,
        "names": board.names,
        "answer_by": answer_by,
    }
    return [
        question(
            f"Training for {described.title} {plan.version}: {role.replace('-', ' ')}",
            in_force + render("acknowledgement.md.j2", role=role, **told),
            _role_digest(digest, role),
            persons(board, users),
            answer_by=answer_by,
        )
        for role, users in training.acknowledge.items()
    ]


def _role_digest(material: str, role: str) -> str:
    return sha256(f"{material} {role}".encode()).hexdigest()


@stage_task(task_display_name="Record the communication", evidence=COMMUNICATION_RECORDED)
def record_communication(service: str, plan: ReleasePlan, announced: Communication) -> Communication:
    """Read from Airflow who acknowledged the training. The release ends unless each support role acknowledged it."""
    described = resources.catalogue_of(service).service
    if (training := _training(plan, described)) is None:
        return announced
    _, digest = _material(described, training, plan.commit.sha)
    acknowledged = {}
    for role, users in training.acknowledge.items():
        votes = [vote for vote in votes_on(ASK_SUPPORT, _role_digest(digest, role)) if vote.user in users]
        if not votes or votes[0].choice != ACKNOWLEDGE or votes[0].user is None:
            raise GateRejected(
                f"{role} has not acknowledged the training material {training.material}."
                + (
                    f" {votes[0].user}: {votes[0].comment or votes[0].choice}."
                    if votes
                    else " No answer was given in time."
                ),
                rule=f"training.acknowledge of services/{service}.yaml",
                who="the service's team",
                next_step=f"clear up the open points with {', '.join(users)} and trigger the release again",
            )
        acknowledged[role] = votes[0].user
    return announced.model_copy(update={"acknowledged": acknowledged})


@stage_group("communication", "release notes, announcements, acknowledged training")
def communication_stage(service: Service, policy: Policy, plan: XComArg, decision: XComArg) -> XComArg:
    """Write the notes, announce, train, and record it."""
    notes = write_notes(service.name, plan, decision)
    announced = announce(service.name, plan, notes)
    training = prepare_training(service.name, plan)
    asked = ask(
        training,
        task_id="acknowledge_training",
        title="Acknowledge the training (support)",
        options=[ACKNOWLEDGE, NOT_READY],
        default=NOT_READY,
        within=time_limits_of(policy, service).acknowledgement,
        doc_md="Each support role confirms that it has read the training material. No answer in time ends the release.",
    )
    told = record_communication(service.name, plan, announced)
    chain(notes, training)
    chain([training, asked], told)
    return told
