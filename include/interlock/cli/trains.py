"""Show the next departures of every train, which services would board now, and why a service would stay behind.

This needs the ledger and the services' repositories, so boarding is shown only where Airflow is configured.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from interlock.adapters.airflow.connections import stored_connection
from interlock.adapters.calendars.conflicts import conflicts_of_trains
from interlock.adapters.calendars.copies import CopiesThere
from interlock.adapters.calendars.holidays import public_holidays
from interlock.adapters.catalogue.catalogue import calendars_of, load_catalogue
from interlock.adapters.catalogue.trains import load_trains
from interlock.adapters.ledger.ledger import Ledger, open_ledger
from interlock.adapters.source import git
from interlock.adapters.trains.boarding import Platform
from interlock.adapters.trains.history import TrainHistory, train_histories
from interlock.console.control.lookups import runs_under_way, unpaused
from interlock.domain.calendars.calendar import Calendars
from interlock.domain.catalogue import Catalogue, Service
from interlock.domain.catalogue.train_file import Train
from interlock.domain.dag_names import dag_of_train
from interlock.domain.trains.departures import cadence_in_words, closed_for, next_departures, opens
from interlock.domain.trains.manifest import Boarded, Found, boarding, resolve_lateness
from interlock.domain.trains.milestones import milestones

SHOWN = 3
"""How many departures of each train are shown."""


def show(folder: Path, console: Console, *, with_ledger: bool, copies_in: Path) -> bool:
    """Show all trains; return whether all their files are valid.

    :param with_ledger: this runs in the environment of an Airflow, whose ledger can be asked.
    :param copies_in: the folder with the copies of calendars that are at URLs.
    """
    catalogue = load_catalogue(folder)
    table = load_trains(folder, catalogue.policy, catalogue.board)
    copies = CopiesThere(copies_in)
    calendars = calendars_of(folder, catalogue.policy, copies)
    for fault in (*calendars.faults, *table.broken.values()):
        console.print(f"[red]✗[/] {escape(fault)}", highlight=False)
    for note in copies.notes:
        console.print(f"[yellow]![/] {escape(note)}", highlight=False)
    if not table.trains:
        console.print("There is no train: each is a file include/catalogue/trains/<name>.yaml.")
    if not with_ledger:
        console.print("The stack does not run: without its ledger, boarding cannot be shown.", style="yellow")
        for train in table.trains.values():
            show_departures(train, catalogue, calendars, console)
        show_conflicts(catalogue, calendars, None, table.trains, console)
        return not table.broken
    makes_runs = unpaused([dag_of_train(name) for name in table.trains])
    with open_ledger(stored_connection("interlock_ledger")) as ledger:
        platform = Platform(catalogue, ledger, opened, stored_connection, folder)
        alive = runs_under_way()
        going = [one for one in train_histories(ledger) if one.arrival is None and one.run in alive]
        for train in table.trains.values():
            show_departures(train, catalogue, calendars, console)
            show_what_runs(train, going, console, is_paused=dag_of_train(train.name) not in makes_runs)
            show_boarding(train, platform.look(train), console)
        show_conflicts(catalogue, calendars, ledger, table.trains, console)
    return not table.broken


def show_departures(train: Train, catalogue: Catalogue, calendars: Calendars, console: Console) -> None:
    """Show when a train departs next, which calendars move it, and which services they keep from boarding."""
    services = [catalogue.services[name] for name in train.services if name in catalogue.services]
    console.print(
        f"\n[bold]{escape(train.title)}[/] ({train.name}): {escape(cadence_in_words(train))}", highlight=False
    )
    found = next_departures(train, opens(calendars, services, train.environment), datetime.now(UTC), SHOWN)
    if not train.on_schedule:
        said = f"  off schedule: it departs only when triggered (on_schedule: false in trains/{train.name}.yaml)"
        console.print(said, style="yellow", highlight=False)
    if not found:
        console.print(
            "  no departure: the timetable has no further one, or the calendars close them all", highlight=False
        )
    for one in found:
        moved = f"  (moved from {_local(one.planned, train)} by a calendar)" if one.is_moved else ""
        closing = _local(one.at - train.boarding.cut_off, train)
        console.print(f"  departs {_local(one.at, train)}, manifest frozen {closing}{moved}", highlight=False)
        for name, answer in closed_for(calendars, services, train.environment, one.at, lambda _: frozenset()).items():
            console.print(f"    without {name}: {escape(str(answer))}", highlight=False)
    for day, name, title in milestones(train.target, public_holidays) if train.target else ():
        console.print(f"  {day:%a %Y-%m-%d}  {escape(title)} ({name})", highlight=False)


def show_what_runs(train: Train, going: Iterable[TrainHistory], console: Console, *, is_paused: bool) -> None:
    """Show the departures that have their run already, and whether there will be others."""
    if is_paused:
        dag_id = dag_of_train(train.name)
        console.print(f"  paused: nothing departs until its Dag {dag_id} is unpaused", style="yellow")
    for one in going:
        if one.planned_run is not None and one.planned_run.train == train.name:
            does = "departed" if one.departed else "departs"
            sent = f", sent by {one.planned_run.asked_by}" if one.planned_run.asked_by else ""
            said = f"  under way: {does} {_local(one.departed or one.planned_run.departure, train)}{sent} ({one.run})"
            console.print(escape(said), highlight=False)


def show_conflicts(
    catalogue: Catalogue, calendars: Calendars, ledger: Ledger | None, trains: Mapping[str, Train], console: Console
) -> None:
    """Show where trains clash with each other."""
    for one in conflicts_of_trains(catalogue, calendars, ledger, trains, datetime.now(UTC)):
        console.print(f"[yellow]![/] {escape(str(one))}", highlight=False)


def show_boarding(train: Train, found: dict[str, Found], console: Console) -> None:
    """Show which services would board a train now, and why the others would stay behind."""
    boarded, left = boarding(train, found)
    shown = Table(title="If the manifest were frozen now", title_justify="left")
    for column in ("service", "boards", "replaces", "risk", "why"):
        shown.add_column(column, overflow="fold")
    for one in boarded:
        why = f"{one.why}; after {', '.join(one.after)}" if one.after else one.why
        shown.add_row(one.service, one.version, one.replaces or "", str(one.risk), escape(why))
    for missing in left:
        state = "[yellow]stays behind[/]" if missing.late else "nothing new"
        shown.add_row(missing.service, state, "", "", escape(missing.why))
    console.print(shown)
    late = resolve_lateness(train, tuple(found.values()))
    if late.then != "depart":
        who = ", ".join(one.service for one in late.because)
        console.print(f"  the train would {late.then}, for {who}", highlight=False)
    if not any(isinstance(one, Boarded) for one in found.values()):
        console.print("  no service would be on board", highlight=False)


@contextmanager
def opened(service: Service) -> Iterator[git.Repository]:
    """Open the repository of a service with its connection in Airflow."""
    connection = stored_connection(service.source.connection)
    with TemporaryDirectory(prefix="interlock-") as folder:
        yield git.open_repository(
            str(connection.host),
            Path(folder) / "repository.git",
            login=connection.login or None,
            password=connection.password or None,
        )


def _local(at: datetime, train: Train) -> str:
    return f"{at.astimezone(ZoneInfo(train.time_zone)):%a %Y-%m-%d %H:%M %Z}"
