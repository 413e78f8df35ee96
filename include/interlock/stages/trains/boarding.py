"""Boarding: the departure time, the passengers that are ready, and the frozen manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import reduce
from typing import Any

from airflow.sdk import BaseHook, Param, XComArg, chain, get_current_context, task_group
from airflow.sdk.exceptions import AirflowNotFoundException

from interlock.adapters.catalogue.systems import load_systems
from interlock.adapters.trains.boarding import Platform
from interlock.domain.board import voting
from interlock.domain.board.voting import VotingRule
from interlock.domain.calendars.overrides import overridden
from interlock.domain.catalogue import PRODUCTION, Catalogue
from interlock.domain.catalogue.policy_file import RecordMode
from interlock.domain.catalogue.train_file import Train
from interlock.domain.change.policy import flows_of
from interlock.domain.errors import HostUnreachable, PolicyViolation, RequestRefused, TransientError
from interlock.domain.ledger.chain import INSTALLATION
from interlock.domain.ledger.kinds import FREEZE_OVERRIDDEN, MANIFEST_FROZEN, TRAIN_OPENED
from interlock.domain.outbox.systems_file import ServiceNow
from interlock.domain.trains.ballots import train_rule
from interlock.domain.trains.departures import TrainRequest, closed_for
from interlock.domain.trains.manifest import (
    Boarded,
    Found,
    LeftBehind,
    Manifest,
    PlannedRun,
    boarding,
    manifest_in,
    resolve_lateness,
)
from interlock.domain.trigger_form import fields_of, read_form
from interlock.locations import catalogue_folder
from interlock.stages.runtime import calendars, resources
from interlock.stages.runtime.conflicts import note_of_train
from interlock.stages.runtime.evidence import chain_entries, record
from interlock.stages.runtime.requests import entered, form_params, requester
from interlock.stages.runtime.taskflow import WaitUntil, stage_task

from .common import POLL_INTERVAL, catalogue_now, look_again, refuse_changed, train_now


def train_params() -> dict[str, Param]:
    """Return the form of a train that is triggered manually."""
    return form_params(fields_of(TrainRequest))


@stage_task(task_display_name="Open boarding")
def open_train(name: str) -> PlannedRun:
    """Determine the departure time and the cut-off, at which the manifest is frozen."""
    known = next((one.payload for one in chain_entries() if one.kind == TRAIN_OPENED), None)
    if known is not None:
        return PlannedRun.from_xcom(known)  # by an earlier try of this task
    resources.refuse_unguarded()
    catalogue = catalogue_now()
    train = train_now(name, catalogue)
    now = datetime.now(UTC)
    dag_run: Any = get_current_context()["dag_run"]
    by_hand = _is_by_hand(name, dag_run.run_type)
    if by_hand:
        departure = read_form(TrainRequest, entered(), f"the train {name}").departure or now
    else:
        departure = dag_run.data_interval_end
    planned_run = PlannedRun(
        train=name,
        departure=departure,
        cut_off=max(now, departure - train.boarding.cut_off),
        asked_by=requester() if by_hand else "",
        file=train.digest,
    )
    rule = _likely_rule(catalogue, train)
    found = note_of_train(train, planned_run, rule, _likely_authors(catalogue, train) if rule else ())
    planned_run = planned_run.model_copy(update={"conflicts": tuple(map(str, found))})
    record(TRAIN_OPENED, planned_run)
    return planned_run


def _is_by_hand(name: str, run_type: Any) -> bool:
    """Tell whether the train was triggered manually. Refuse a run that is neither manual nor scheduled."""
    if run_type not in ("scheduled", "manual"):  # an enumeration, whose str() differs
        raise RequestRefused(
            f"The train {name} cannot be started by a run of the type {run_type.value}.",
            rule="a train departs on its schedule, or a person triggers it with its form",
            who="the release manager, who may trigger the train",
            next_step="trigger the train with its form, and enter a departure",
        )
    return bool(run_type == "manual")


def _likely_rule(catalogue: Catalogue, train: Train) -> VotingRule | None:
    """Return the rule of the boards if all passengers boarded, each with risk 0."""
    services = [catalogue.services[name] for name in train.services if name in catalogue.services]
    each = [
        voting.voting_rule(catalogue.policy, catalogue.board, service, change_type=train.change_type, risk=0)
        for service in services
        if train.change_type in catalogue.policy.trains.one_decision
    ]
    rules = [voting.board_rule(catalogue.board, train.board)] if train.board else []
    rules += [rule for rule in each if rule is not None]
    return reduce(voting.merge, rules) if rules else None


def _likely_authors(catalogue: Catalogue, train: Train) -> tuple[str, ...]:
    """Return the authors who would not vote if the manifest were frozen now, from the reachable repositories."""
    found = _look(catalogue, train, until=datetime.now(UTC)).values()
    return _authors(catalogue, train, [one for one in found if isinstance(one, Boarded)])


@stage_task(task_display_name="Freeze the manifest", evidence=MANIFEST_FROZEN, seal=True)
def freeze_manifest(name: str, planned_run: PlannedRun) -> Manifest:
    """Freeze the manifest: the commit of each service on board. The board votes on the digest of the manifest.

    Waits without a worker slot for late passengers, if the train waits for them, and for unreachable repositories.
    """
    if frozen := manifest_in(chain_entries()):
        return frozen  # by an earlier try of this task
    catalogue = catalogue_now()
    train = train_now(name, catalogue)
    if planned_run.file is not None:
        refuse_changed(train, planned_run.file, "boarding opened")
    found = _look(catalogue, train, until=planned_run.cut_off + train.patience)
    _wait_for_late(train, found, planned_run)
    found = _open_at(catalogue, train, found, planned_run.departure)
    boarded, left = boarding(train, found)
    one_decision = train.change_type in catalogue.policy.trains.one_decision
    rule = train_rule(catalogue, train, boarded) if boarded else None
    now = datetime.now(UTC)
    named = (one.by for one in boarded)
    return Manifest(
        train=name,
        title=train.title,
        departure=planned_run.departure,
        environment=train.environment,
        change_type=train.change_type,
        passengers=boarded,
        left=left,
        requested_by=tuple(dict.fromkeys(filter(None, (*named, planned_run.asked_by)))),
        excluded=_authors(catalogue, train, boarded),
        one_decision=one_decision,
        decide_by=_decide_by(rule, planned_run.departure, now),
        file=train.digest,
        records=_records(catalogue, train, boarded) if one_decision else {},
    )


def _records(catalogue: Catalogue, train: Train, boarded: Sequence[Boarded]) -> dict[str, RecordMode]:
    """Return the systems that have one change of the whole train: each passenger's policy has it follow there.

    Where a passenger's change has to be approved (authority), that is for its own plan, so it has a change of its own.
    """
    if train.environment != PRODUCTION or not boarded:
        return {}
    services = [catalogue.services[one.service] for one in boarded]
    of_each = [flows_of(catalogue.policy, one)[train.change_type].records for one in services]
    systems = load_systems(catalogue_folder()).systems
    return {
        name: "mirror"
        for name in sorted(of_each[0])
        if isinstance(systems.get(name), ServiceNow) and all(one.get(name) == "mirror" for one in of_each)
    }


def _look(catalogue: Catalogue, train: Train, *, until: datetime) -> dict[str, Found]:
    """Return for each service the version that would board now, or the reason why none would.

    A repository that does not answer is asked again until an instant. Then its passenger stays behind.
    """
    found: dict[str, Found] = {}
    with resources.ledger() as ledger:
        platform = Platform(catalogue, ledger, resources.repository, BaseHook.get_connection, catalogue_folder())
        for one in train.passengers:
            try:
                found[one.service] = platform.look_for(train, one)
            except (TransientError, HostUnreachable) as error:
                if datetime.now(UTC) < until:
                    look_again(str(error), until)
                found[one.service] = LeftBehind(service=one.service, late=True, why=error.what.rstrip("."))
            except AirflowNotFoundException as error:  # its repository's connection
                found[one.service] = LeftBehind(service=one.service, late=True, why=str(error))
    return found


def _open_at(catalogue: Catalogue, train: Train, found: Mapping[str, Found], at: datetime) -> dict[str, Found]:
    """Leave behind passengers that may not change the environment at departure. If none may, the train waits."""
    boarded = [catalogue.services[name] for name, one in found.items() if isinstance(one, Boarded)]
    with resources.ledger() as ledger:
        entries = ledger.entries(INSTALLATION, kind=FREEZE_OVERRIDDEN)

    def lifted(service: str) -> frozenset[str]:
        return overridden(entries, service, train.environment, at)

    closed = closed_for(calendars.calendars_now(catalogue.policy), boarded, train.environment, at, lifted)
    if len(closed) == len(boarded):
        return dict(found)
    behind = {name: LeftBehind(service=name, late=True, why=str(answer)) for name, answer in closed.items()}
    return {**found, **behind}


def _wait_for_late(train: Train, found: Mapping[str, Found], planned_run: PlannedRun) -> None:
    """Go on, check again in a minute, or fail, as the rules for the late passengers say."""
    late = resolve_lateness(train, tuple(found.values()))
    said = "; ".join(f"{one.service}: {one.why}" for one in late.because)
    if late.then == "stop":
        raise PolicyViolation(
            f"{train.title} does not depart without {said}.",
            rule=f"late: stop of trains/{train.name}.yaml",
            who=train.owner,
            next_step="prepare the late passengers and trigger the train manually, or let them take the next train",
        )
    latest = planned_run.cut_off + train.patience
    if late.then == "wait" and datetime.now(UTC) < latest:
        look_again(said, latest)


def _authors(catalogue: Catalogue, train: Train, boarded: Sequence[Boarded]) -> tuple[str, ...]:
    """Return the authors who do not vote, for the passengers whose flow excludes authors."""
    policy = catalogue.policy
    concerned = (
        one for one in boarded if flows_of(policy, catalogue.services[one.service])[train.change_type].exclude_authors
    )
    return tuple(sorted({author for one in concerned for author in one.authors}))


def _decide_by(rule: VotingRule | None, departure: datetime, now: datetime) -> datetime | None:
    """Return when silence becomes a rejection: the board's deadline, or departure if that comes first."""
    if rule is None:
        return None
    return min(now + rule.deadline, departure) if departure > now + POLL_INTERVAL else now + rule.deadline


@task_group(group_id="boarding", group_display_name="1 Boarding", tooltip="Boarding: open until the manifest is frozen")
def boarding_group(name: str) -> XComArg:
    """Open boarding, wait for the cut-off, freeze the manifest; return the manifest."""
    opened = open_train(name)
    wait = WaitUntil(
        task_id="await_cut_off",
        task_display_name="Wait for the cut-off",
        target_time="{{ ti.xcom_pull(task_ids='boarding.open_train')['cut_off'] }}",
        execution_timeout=None,
        doc_md="Wait for the cut-off without a worker slot. `make trains` shows which services would board now.",
    )
    manifest = freeze_manifest(name, opened)
    chain(opened, wait, manifest)
    return manifest
