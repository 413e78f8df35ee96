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
from interlock.domain.dag_names import TRAINS, dag_of_train
from interlock.domain.errors import CatalogueError
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

Releases several services to production together:

1. **Boarding**: stays open until the cut-off. Then the manifest is frozen: it names the commit of each service.
2. **One decision**: the boards of all passengers vote once, on the digest of the manifest.
3. **Departure**: starts the releases of the passengers, each after the passengers that it depends on.
4. **Arrival**: records the outcome of each passenger.

If the release of a passenger fails, only the passengers that depend on it stay behind.

## When it runs

{when} A release manager can trigger it manually at any time; that does not change its schedule.

## Parameters

- **Departure**: the departure time of a train that is triggered manually. If empty, it departs as soon as its board
  has decided.

## What it asks people

Each member of the boards votes on the frozen manifest. A person does not vote who named a version in the file of the
train, who triggered the train manually, or (if the policy says so) who wrote one of the commits.

## What it will not do

- Release commits other than the ones in the manifest.
- Replace anything but the board vote of a release: build, quality review, acceptance, permits and freezes still apply.
- Depart during a freeze or an emergency stop.

## If it fails

Its last task names the passengers that did not arrive, and why. A passenger that stayed behind takes the next train, or
is released on its own.

## Owner

{owner}. The train is described in `include/catalogue/trains/{name}.yaml`.
"""
NAMED = {"title", "description", "owner", "name"}
WHEN = {
    True: "On its schedule, because its file does not say `on_schedule: false`.",
    False: "Not on its schedule, because its file says `on_schedule: false`.",
}


def train_dag(train: Train) -> DAG:
    """Compose the Dag of a train."""
    with DAG(
        dag_id=dag_of_train(train.name),
        dag_display_name=train.title,
        description="Release several services to production together, with one decision",
        doc_md=DOC.format(when=WHEN[train.on_schedule], **train.model_dump(include=NAMED)),
        schedule=TrainTimetable(train),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=4,
        dagrun_timeout=timedelta(days=60),
        is_paused_upon_creation=False,
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

        # The records order most tasks; this is the rest.
        chain(sent, arrived)
        if ballots:
            chain(ballots, arrived)
    # Only now: see release.py.
    dag.params = train_params()
    return dag


def train_dags() -> dict[str, DAG]:
    """Compose the Dags of all trains, or only the Dag of the task that is about to run.

    dags/catalogue.py shows the errors of files.
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
