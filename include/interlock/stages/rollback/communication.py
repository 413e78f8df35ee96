"""The eighth stage of a rollback: notify people which version production returns to, and why."""

from __future__ import annotations

from airflow.sdk import XComArg

from interlock.domain.catalogue import Service
from interlock.domain.ledger.kinds import COMMUNICATION_RECORDED, NOTES_WRITTEN
from interlock.domain.outcome import rollback
from interlock.domain.records import Communication, Decision, ReleasePlan
from interlock.stages.release.communication import announce
from interlock.stages.runtime import resources
from interlock.stages.runtime.taskflow import stage_group, stage_task

from .earlier_release import read_earlier_release


@stage_task(task_display_name="Write the rollback notes", evidence=NOTES_WRITTEN)
def write_rollback_notes(service: str, plan: ReleasePlan, decision: Decision) -> Communication:
    """Write the notes for the audiences: which version production returns to, and why."""
    _, _, described = resources.catalogue_of(service)
    notes = rollback.rollback_notes(described, plan, read_earlier_release())
    return Communication(notes=resources.store().put_bytes(notes.encode(), "rollback.md"), sent={}, acknowledged={})


@stage_task(task_display_name="Record the communication", evidence=COMMUNICATION_RECORDED)
def record_told(announced: Communication) -> Communication:
    """Record who was notified. A rollback needs no new training."""
    return announced


@stage_group("communication", "send notifications while the rollback is in progress")
def communication_stage(service: Service, plan: XComArg, decision: XComArg) -> XComArg:
    """Write the notes, send them, and record who got them."""
    notes = write_rollback_notes(service.name, plan, decision)
    return record_told(announce(service.name, plan, notes))
