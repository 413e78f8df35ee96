"""One Dag per release train of the catalogue: ``train_<name>``.

Composition only: which tasks, in which order. What they do is in ``include/interlock/stages/trains/``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, chain, get_parsing_context

from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.adapters.catalogue.trains import load_trains
from interlock.console.auth.roles import dag_access
from interlock.domain.catalogue.train_file import Train
from interlock.domain.dag_names import TRAINS
from interlock.domain.errors import CatalogueError
from interlock.domain.trains.manifest import dag_of_train
from interlock.locations import catalogue_folder
from interlock.stages.runtime.taskflow import DEFAULT_ARGS
from interlock.stages.trains.arrival import arrival_group
from interlock.stages.trains.board import MAX_VOTING_TIME, board_group
from interlock.stages.trains.boarding import boarding_group, train_params
from interlock.stages.trains.departure import departure_group
from interlock.stages.trains.timetables import TrainTimetable

DOC = """
# {title}

{description}

## What it does

Takes the services that are ready to production together:

1. **Boarding**: until the cut-off. Then the manifest is frozen: exactly which commit of which service is on board.
2. **One decision**: the boards of all passengers vote once, on the manifest's digest.
3. **Departure**: the passengers' releases are asked for, each after what it depends on.
4. **Arrival**: what became of each passenger.

A passenger that fails leaves behind what depends on it, and nothing else.

## When it runs

By its timetable, once it is unpaused: a new train is paused. A release manager may send it by hand at any time.

## Parameters

- **Departure**: of a train that is sent by hand; empty: as soon as its board has decided.

## What it asks people

Each member of the boards: the frozen manifest. Who named a version in the train's file, sent the train by hand, or (by
the policy) wrote one of the commits, does not vote.

## What it will not do

- Release anything but the commits that the manifest names.
- Spare a release anything but its own board's vote: build, quality review, acceptance, permits and freezes hold.
- Depart in a freeze or during an emergency stop.

## If it fails

Its last task says who did not arrive, and why. Who stayed behind takes the next train, or is released by itself.

## Who keeps it

{owner}; what it is, is in `include/catalogue/trains/{name}.yaml`.
"""


def train_dag(train: Train) -> DAG:
    """Compose the Dag of a train."""
    with DAG(
        dag_id=dag_of_train(train.name),
        dag_display_name=train.title,
        description="Take the services that are ready to production together, by one decision",
        doc_md=DOC.format(**train.model_dump(include={"title", "description", "owner", "name"})),
        schedule=TrainTimetable(train),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=4,
        dagrun_timeout=timedelta(days=60),
        is_paused_upon_creation=True,
        tags=["train", *(f"service:{service}" for service in train.services)],
        default_args={**DEFAULT_ARGS, "owner": train.owner},
        access_control=dag_access(paused_by=("release_manager", "operator")),
        fail_fast=False,
        render_template_as_native_obj=True,  # records reach operators as JSON values, not as their text
    ) as dag:
        manifest = boarding_group(train.name)
        decision, ballots = board_group(train.name, manifest, MAX_VOTING_TIME)
        sent = departure_group(train, manifest, decision)
        arrived = arrival_group(train.name)

        # Records already order most of it; these are the orders that no record carries.
        chain(sent, arrived)
        if ballots:
            chain(ballots, arrived)
    # Only now: see release.py.
    dag.params = train_params()
    return dag


def train_dags() -> dict[str, DAG]:
    """Compose the Dags of all trains, or the one that a task of it is about to run.

    What is wrong with a file, dags/catalogue.py says.
    """
    folder = catalogue_folder()
    try:
        catalogue = load_catalogue(folder)
    except CatalogueError:
        return {}
    trains = load_trains(folder, catalogue.policy, catalogue.board).trains
    wanted = get_parsing_context().dag_id
    if wanted and wanted.startswith(TRAINS):
        name = wanted.removeprefix(TRAINS).replace("_", "-")
        trains = {name: trains[name]} if name in trains else {}
    dags = (train_dag(train) for train in trains.values())
    return {dag.dag_id: dag for dag in dags}


globals().update(train_dags())
