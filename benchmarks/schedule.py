"""Measure how long trains and calendars take to answer, for an organisation of some size.

  python -m benchmarks.schedule [--services 1000] [--trains 50] [--calendars 200] [--rounds 3] [--write PAGE]

It makes a catalogue: services, trains of up to twenty of them, and calendars of every kind (freezes and change windows
that recur, public holidays, iCalendar files). Each figure is taken in a process of its own, as Airflow's processes do;
what is cold reads every file for the first time, what is warm asks again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.table import machine, medians, publish
from interlock.adapters.catalogue.catalogue import calendars_of, load_catalogue
from interlock.adapters.catalogue.trains import load_trains
from interlock.domain.calendars.calendar import may_change
from interlock.domain.catalogue import Service
from interlock.domain.trains.departures import departures_between, opens
from interlock.locations import CATALOGUE

ROOT = Path(__file__).parents[1]
NOW = datetime(2026, 12, 1, tzinfo=UTC)
YEAR = timedelta(days=365)
ON_A_TRAIN = 20
CADENCES = ("0 20 * * TUE", "30 6 * * MON-FRI", "0 22 1 * *", "0 4 * * SUN", "15 18 * * WED,THU")
RULES = (
    ("freeze", "from: 2026-03-06T18:00\n    until: 2026-03-06T22:00", "FREQ=WEEKLY;BYDAY=FR"),
    ("freeze", "from: 2026-12-20\n    until: 2027-01-02", "FREQ=YEARLY"),
    ("maintenance", "from: 2026-01-04T02:00\n    until: 2026-01-04T05:00", "FREQ=MONTHLY;BYDAY=1SU"),
    ("event", "from: 2026-02-28T09:00\n    until: 2026-02-28T17:00", "FREQ=MONTHLY;BYMONTHDAY=-1"),
)


# --- the catalogue ---------------------------------------------------------------------------------------------------


def make_catalogue(folder: Path, services: int, trains: int, calendars: int) -> None:
    """Write a catalogue of some size into a folder."""
    for name in ("policy.yaml", "board.yaml"):
        (folder / name).write_bytes((CATALOGUE / name).read_bytes())
    for name in ("services", "trains", "calendars"):
        (folder / name).mkdir()
    text = (CATALOGUE / "services" / "bike-shop.yaml").read_text()
    for number in range(services):
        named = text.replace("name: bike-shop\n", f"name: {service(number)}\n").replace(
            "title: Bike shop\n", f"title: Service {number}\n"
        )
        (folder / "services" / f"{service(number)}.yaml").write_text(named)
    for number in range(trains):
        passengers = {service((number * ON_A_TRAIN + one) % services) for one in range(ON_A_TRAIN)}
        rows = "".join(f'  - {{ service: {one}, tags: "1.*" }}\n' for one in sorted(passengers))
        (folder / "trains" / f"train-{number}.yaml").write_text(
            f"name: train-{number}\ntitle: Train {number}\nowner: the office\ntime_zone: Europe/Berlin\n"
            f'cadence: {{ cron: "{CADENCES[number % len(CADENCES)]}" }}\n'
            f"freeze: {{ then: {('move', 'drop')[number % 2]} }}\npassengers:\n{rows}"
        )
    for number in range(calendars):
        _calendar(folder / "calendars", number, services)


def service(number: int) -> str:
    """Return the name of a service."""
    return f"service-{number}"


def _calendar(folder: Path, number: int, services: int) -> None:
    if number % 10 == 9:
        (folder / f"calendar-{number}.ics").write_text(
            "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//benchmark//\r\nBEGIN:VEVENT\r\n"
            f"UID:{number}@benchmark\r\nSUMMARY:Meeting {number}\r\nCATEGORIES:EVENT\r\nDTSTAMP:20260101T000000Z\r\n"
            "DTSTART:20260105T090000Z\r\nDTEND:20260105T100000Z\r\nRRULE:FREQ=WEEKLY\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
        )
        return
    kind, when, rule = RULES[number % len(RULES)]
    scope = f"{{ services: [{service(number % services)}] }}" if kind == "freeze" else "{ environments: [production] }"
    (folder / f"calendar-{number}.yaml").write_text(
        f"title: Calendar {number}\nowner: the office\ntime_zone: Europe/Berlin\nentries:\n"
        f"  - name: entry-{number}\n    title: Entry {number}\n    kind: {kind}\n    scope: {scope}\n"
        f"    {when}\n    repeat: {rule}\n"
        f"  - name: holidays-{number}\n    title: Holidays\n    kind: holiday\n"
        "    holidays: { country: DE, region: BY }\n"
    )


# --- what is measured, each in a process of its own ------------------------------------------------------------------


def the_one_question(folder: Path) -> dict[str, float]:
    """Ask whether a service may change production, by the files as they are now: at first, and of each again."""
    catalogue = load_catalogue(folder)

    def ask(one: Service) -> float:
        began = time.perf_counter()
        may_change(calendars_of(folder, catalogue.policy, None), one, "production", NOW)
        return time.perf_counter() - began

    services = list(catalogue.services.values())
    cold, *_ = (ask(one) for one in services)
    warm = statistics.median(ask(one) for one in services)
    return {"The one question, cold (s)": cold, "The one question, warm (ms)": warm * 1e3}


def a_year_of_departures(folder: Path) -> dict[str, float]:
    """Compute the departures of a year of all trains: at first, and again."""
    catalogue = load_catalogue(folder)
    trains = load_trains(folder, catalogue.policy, catalogue.board).trains
    found = 0

    def compute() -> float:
        nonlocal found
        began, found = time.perf_counter(), 0
        held = calendars_of(folder, catalogue.policy, None)
        for train in trains.values():
            opening = opens(held, [catalogue.services[name] for name in train.services], train.environment)
            found += len(departures_between(train, opening, NOW, NOW + YEAR))
        return time.perf_counter() - began

    return {
        "A year of departures of all trains, cold (s)": compute(),
        "A year of departures of all trains, warm (s)": compute(),
        "Departures in it": found,
    }


def reading(folder: Path) -> dict[str, float]:
    """Read and check every file."""
    began = time.perf_counter()
    catalogue = load_catalogue(folder)
    broken = load_trains(folder, catalogue.policy, catalogue.board).broken
    faults = calendars_of(folder, catalogue.policy, None).faults
    seconds = time.perf_counter() - began
    if broken or faults:
        raise ValueError(f"the catalogue that was made is broken: {[*broken.values(), *faults][0]}")
    return {"Reading and checking all files (s)": seconds}


def _dag_file(name: str) -> Callable[[Path], dict[str, float]]:
    def parse(folder: Path) -> dict[str, float]:
        os.environ["INTERLOCK_CATALOGUE"] = str(folder)
        import importlib.util

        import airflow.sdk  # noqa: F401  what every process of Airflow has loaded

        began = time.perf_counter()
        spec = importlib.util.spec_from_file_location(f"dag_file_{name}", ROOT / "dags" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return {f"Parsing dags/{name}.py (s)": time.perf_counter() - began}

    return parse


MEASURES: dict[str, Callable[[Path], dict[str, float]]] = {
    "reading": reading,
    "question": the_one_question,
    "departures": a_year_of_departures,
    "trains": _dag_file("trains"),
    "release": _dag_file("release"),
}


def main() -> int:
    """Measure, print the table, and write it down if asked to."""
    options = _options()
    if options.only:
        folder = Path(options.only[1])
        sys.stdout.write(json.dumps(MEASURES[options.only[0]](folder)))
        return 0
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="interlock-bench-") as name:
        make_catalogue(Path(name), options.services, options.trains, options.calendars)
        for _ in range(options.rounds):
            for measure in MEASURES:
                for what, value in _measured(measure, name).items():
                    found.setdefault(what, []).append(value)
    sizes = f"{options.services:,} services, {options.trains} trains, {options.calendars} calendars"
    text = f"{sizes}; each figure in a process of its own, median of {options.rounds}. {machine()}\n\n" + medians(found)
    publish(text, options.write, "schedule")
    return 0


def _measured(measure: str, folder: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.schedule", "--only", measure, folder]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"{measure} could not be measured:\n{ran.stderr[-3000:]}")
    measured: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return measured


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.schedule", description=__doc__)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--trains", type=int, default=50)
    parser.add_argument("--calendars", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path, help="a page with the marks between which the table goes")
    parser.add_argument("--only", nargs=2, metavar=("MEASURE", "FOLDER"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
