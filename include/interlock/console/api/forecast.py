"""When a release will be through, and how ready a release or a train is, with the reader's own rights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import HTTPException, Query, Request, status
from pydantic import Field

from interlock.adapters.catalogue.kept import kept_service, kept_train
from interlock.domain.calendars.conflicts import conflicts_in
from interlock.domain.canonical import Model
from interlock.domain.catalogue import ServiceCatalogue
from interlock.domain.change.amended import rule_in_force
from interlock.domain.dag_names import TRAINS
from interlock.domain.errors import CatalogueError
from interlock.domain.forecast.forecast import Asked, Forecast, History, outlook_of
from interlock.domain.forecast.readiness import Readiness, of_release, of_train
from interlock.domain.forecast.trains import Passenger, forecast_of_train
from interlock.domain.ledger.chain import Entry, release_chain
from interlock.domain.ledger.kinds import (
    FINDING,
    PASSENGER_ARRIVED,
    PASSENGER_DEPARTED,
    PLAN_MADE,
    QUALITY_JUDGED,
    TRAIN_OPENED,
)
from interlock.domain.ledger.reading import last_in, plan_in
from interlock.domain.measures.facts import MeasuredRelease, measured
from interlock.domain.permits.withdrawal import called_off
from interlock.domain.records import QualityReport, ReleasePlan
from interlock.domain.trains.manifest import PlannedRun, manifest_in
from interlock.locations import catalogue_folder

from .measures import MeasuredOverview
from .questions import readable_dags

CHECKS = 5
"""So many demands of a release are looked at: quality, back-out, conflicts, findings, that it is not called off."""


class Expected(Model):
    """What is to be expected of a release or a train."""

    dag_id: str
    run_id: str
    forecast: Forecast | None = Field(description="null: of a train whose passengers are not known")
    readiness: Readiness
    at: datetime = Field(description="The time of this answer")


def forecast(
    request: Request,
    user: GetUserDep,
    dag_id: Annotated[str, Query(max_length=250)],
    run_id: Annotated[str, Query(max_length=250)],
) -> Expected:
    """Return when a release or a train will be through, in half of the cases and in nine of ten, and how ready it is.

    Earlier releases count that the reader may read.
    """
    now = datetime.now(UTC)
    with request.app.state.open_ledger() as ledger:
        entries = ledger.entries(release_chain(dag_id, run_id))
    if not entries:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"The ledger has nothing of the run {run_id} of {dag_id}.")
    overview: MeasuredOverview = request.app.state.measured
    known = overview.releases(readable_dags(user))
    about = {"dag_id": dag_id, "run_id": run_id, "at": now}
    if dag_id.startswith(TRAINS):
        return Expected(**about, forecast=train_forecast(entries, known, now), readiness=_of_train(entries, now))
    one = measured(release_chain(dag_id, run_id), entries, None)
    if one is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"The ledger has no request of the run {run_id} of {dag_id}.")
    return Expected(
        **about,
        forecast=release_forecast(History([each for each in known if each.run != one.run]), entries, one, now),
        readiness=of_release([*one.milestones], list(_unmet(entries)), date=one.not_before, now=now, checks=CHECKS),
    )


def release_forecast(history: History, entries: Sequence[Entry], one: MeasuredRelease, now: datetime) -> Forecast:
    """Return when a release under way will be through.

    :param entries: its chain.
    """
    return history.forecast(outlook_of(one, now).model_copy(update={"asked": dict(_asked(entries, one))}), now)


def train_forecast(entries: Sequence[Entry], known: Sequence[MeasuredRelease], now: datetime) -> Forecast | None:
    """Return when all passengers of a train will be through; None: it is not known who they are.

    :param entries: the train's chain.
    """
    manifest = manifest_in(entries)
    if manifest is None:
        return None
    runs = {str(one.payload["service"]): one.payload.get("run") for one in entries if one.kind == PASSENGER_DEPARTED}
    back = {str(one.payload["service"]): one.at for one in entries if one.kind == PASSENGER_ARRIVED}
    of_run = {one.run: one for one in known}
    passengers = []
    for one in manifest.passengers:
        release = of_run.get(str(runs.get(one.service)))
        passengers.append(
            Passenger(
                service=one.service,
                after=one.after,
                outlook=outlook_of(release, now) if release else None,
                ended_at=back.get(one.service),
            )
        )
    return forecast_of_train(History(known), passengers, manifest.change_type, manifest.departure, now)


def _unmet(entries: Sequence[Entry]) -> Iterator[str]:
    """Yield what the policy demands of a release and is not so."""
    report, plan = last_in(entries, QUALITY_JUDGED, QualityReport), plan_in(entries)
    failed = {(one.suite, one.expected) for one in report.failures} if report else set()
    waived = {(one.suite, one.expectation) for one in plan.waivers} if plan else set()
    if missing := failed - waived:
        yield f"Expectations of the quality review that failed and are not waived: {len(missing)}."
    if plan and not plan.back_out.on_hosts:
        yield "Not every host has the release that it would return to."
    if severe := [one for one in conflicts_in(entries) if one.severity == "severe"]:
        yield f"It has severe conflicts: {len(severe)}."
    if findings := [one for one in entries if one.kind == FINDING]:
        yield f"It has findings, so it gets no permit: {len(findings)}."
    if ended := called_off(entries):
        yield ended.sentence


def _asked(entries: Sequence[Entry], one: MeasuredRelease) -> Iterator[tuple[str, Asked]]:
    """Yield the people whose answers a release still waits for, or will; nothing, if the catalogue cannot be read."""
    plan = last_in(entries, PLAN_MADE, ReleasePlan)
    try:
        catalogue = kept_service(catalogue_folder(), one.service)
        described = ServiceCatalogue(catalogue.policy, catalogue.board, catalogue.services[one.service])
        rule = rule_in_force(described, plan, entries, irreversible=False) if plan else None
    except (CatalogueError, KeyError):
        return
    requester = plan.requested_by if plan else ""
    if approvers := tuple(user for user in described.service.functional_approvers if user != requester):
        yield "accepted", Asked(users=approvers)
    if rule and (seats := tuple(seat.user for seat in rule.seats if seat.user != requester)):
        yield "approved", Asked(users=seats, answers=min(rule.approvals, len(seats)))


def _of_train(entries: Sequence[Entry], now: datetime) -> Readiness:
    opened: Any = last_in(entries, TRAIN_OPENED, PlannedRun)
    services: tuple[str, ...] = ()
    if opened is not None:
        try:
            services = kept_train(catalogue_folder(), opened.train)[1].services
        except CatalogueError:
            services = ()
    return of_train(entries, services, date=opened.departure if opened else None, now=now)
