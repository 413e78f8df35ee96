"""The measures of releases: as JSON, as CSV, and as Prometheus reads them; with the reader's own rights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import HTTPException, Query, Request, Response
from pydantic import AwareDatetime, Field, StringConstraints

from interlock.adapters.catalogue.kept import kept_catalogue
from interlock.adapters.overview.measured import MeasuredReleases
from interlock.domain.canonical import Model
from interlock.domain.measures.facts import MeasuredRelease
from interlock.domain.measures.measures import Measures, Seat, Span, Unit, measure
from interlock.domain.measures.weeks import Week, weeks
from interlock.locations import catalogue_folder

from .tables import as_csv, as_metrics

LONGEST = timedelta(days=3660)
DEFAULT_SPAN = timedelta(days=90)


class Asked(Model):
    """Which releases are measured."""

    since: AwareDatetime | None = Field(None, description="With a time zone; by default 90 days before until")
    until: AwareDatetime | None = Field(None, description="With a time zone; by default now")
    service: tuple[Annotated[str, StringConstraints(max_length=200)], ...] = Field((), max_length=50)
    owner: str = Field("", max_length=200, description="The services of this owner, by the catalogue")


class AskedPage(Asked):
    """Which of them are shown."""

    limit: int = Field(50, ge=1, le=100)
    offset: int = Field(0, ge=0, le=1_000_000)


class FigureSummary(Model):
    """A measure; the releases that it counts are at ``measures/{key}/releases``."""

    key: str
    title: str
    group: str = Field(description="Whose measure it is: DORA, ITIL or Interlock, with the source")
    definition: str
    unit: Unit
    value: float | None = Field(description="null: nothing to measure; of seconds, the median")
    p90: float | None = Field(description="Of seconds: nine of ten took no longer")
    counted: int = Field(description="Number of releases that count")
    among: int = Field(description="Of a share: the number of releases among which they count")


class MeasuresSummary(Model):
    """Everything that is measured of some releases."""

    since: AwareDatetime
    until: AwareDatetime
    figures: tuple[FigureSummary, ...]
    seats: tuple[Seat, ...] = Field(description="How long each person takes to answer, by stage")
    weeks: tuple[Week, ...] = Field(description="Each week of the time, the first one first; at most the last 60")
    services: tuple[str, ...] = Field(description="What can be filtered by: each service that had a release")


class MeasuredCollection(Model):
    """A page of the releases that a measure counts."""

    releases: tuple[MeasuredRelease, ...] = Field(description="The first one that ended first")
    total_entries: int


Wanted = Annotated[Asked, Query()]
WantedPage = Annotated[AskedPage, Query()]


class MeasuredOverview:
    """What is measured, for all requests of a process.

    :param open_ledger: opens the ledger.
    """

    def __init__(self, open_ledger: Callable[[], Any]) -> None:
        self._open_ledger, self._releases = open_ledger, MeasuredReleases()

    def releases(self, readable: frozenset[str]) -> list[MeasuredRelease]:
        """Return what is measured of the releases that a reader may read.

        :param readable: the Dags that the reader may read.
        :raises ReleaseError: the ledger cannot be read.
        """
        return [one for one in self._releases.read(self._open_ledger()) if one.run.partition("/")[0] in readable]


def measures(request: Request, user: GetUserDep, asked: Wanted) -> MeasuresSummary:
    """Return how well the releases went that ended in a span of time."""
    known = _readable(request, user)
    span, found, chosen = _measured(known, asked)
    figures = (
        one.model_dump(exclude={"counted", "among"}) | {"counted": len(one.counted), "among": len(one.among)}
        for one in found.figures
    )
    return MeasuresSummary(
        since=span.since,
        until=span.until,
        figures=tuple(FigureSummary.model_validate(one) for one in figures),
        seats=found.seats,
        weeks=weeks(chosen, span),
        services=tuple(sorted({one.service for one in known})),
    )


def releases_of_measure(request: Request, user: GetUserDep, key: str, asked: WantedPage) -> MeasuredCollection:
    """Return the releases that a measure counts, with the times and answers that it is made of."""
    known = {one.run: one for one in _readable(request, user)}
    _, found, _ = _measured(known.values(), asked)
    figure = next((one for one in found.figures if one.key == key), None)
    if figure is None:
        raise HTTPException(
            404, f"There is no measure {key!r}. Measures: {', '.join(one.key for one in found.figures)}."
        )
    shown = figure.counted[asked.offset : asked.offset + asked.limit]
    return MeasuredCollection(releases=tuple(known[run] for run in shown), total_entries=len(figure.counted))


def measures_as_csv(request: Request, user: GetUserDep, asked: Wanted) -> Response:
    """Return the measures as a table, a line for each figure and each seat."""
    _, found, _ = _measured(_readable(request, user), asked)
    name = {"Content-Disposition": 'attachment; filename="measures.csv"'}
    return Response(as_csv(found), media_type="text/csv; charset=utf-8", headers=name)


def metrics(request: Request, user: GetUserDep) -> Response:
    """Return the measures of the last 90 days, by service, as Prometheus reads them."""
    now = datetime.now(UTC)
    by_service: dict[str, list[MeasuredRelease]] = {}
    for one in _readable(request, user):
        by_service.setdefault(one.service, []).append(one)
    span = Span(since=now - DEFAULT_SPAN, until=now)
    text = as_metrics({name: measure(releases, span) for name, releases in sorted(by_service.items())})
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _measured(known: Iterable[MeasuredRelease], asked: Asked) -> tuple[Span, Measures, list[MeasuredRelease]]:
    """Return the time that is asked for, its measures, and the releases of the services that are asked for."""
    until = asked.until or datetime.now(UTC)
    since = asked.since or until - DEFAULT_SPAN
    if not timedelta() < until - since <= LONGEST:
        raise HTTPException(422, f"since must be before until, by at most {LONGEST.days} days.")
    if asked.service:
        known = [one for one in known if one.service in asked.service]
    if asked.owner:
        services = kept_catalogue(catalogue_folder()).services.values()
        owned = {one.name for one in services if one.owner == asked.owner}
        known = [one for one in known if one.service in owned]
    span = Span(since=since, until=until)
    chosen = list(known)
    return span, measure(chosen, span), chosen


def _readable(request: Request, user: Any) -> list[MeasuredRelease]:
    readable = frozenset(get_auth_manager().get_authorized_dag_ids(user=user, method="GET"))
    overview: MeasuredOverview = request.app.state.measured
    return overview.releases(readable)
