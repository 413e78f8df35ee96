"""Airflow's API server with our auth manager and our plugin, on a database of its own: what the console tests talk to.

``python -m tests.integration.console_airflow HOME PORT`` serves until it is stopped. There are accounts (their
password is their name), a release Dag and a Dag that is nobody's business, each with a run. In the release, a ballot
asks ben by user name and another asks cora; nothing is scheduled.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from include.interlock.domain.paths import docs_prefix, quality_page
from include.interlock.domain.records import Record
from tests.factories import releases

ROOT = Path(__file__).parents[2]
RUN_ID = "manual__2026-11-23T06:17:00+00:00"
RELEASE, OTHER = "release_bike_shop", "nightly"
BALLOT = "rollout.cast_ballot"
PEOPLE = {
    "rita": ("release_manager",),
    "ben": ("board_member",),
    "cora": ("board_member",),
    "fay": ("functional_approver",),
    "audrey": ("auditor",),
    "olga": ("operator",),
    "opal": ("Op",),
    "admin": ("Admin",),
    "gus": ("Admin", "break_glass"),
    "gil": ("break_glass",),
    "interlock_reader": ("interlock_reader",),
    "board_clerk": ("board_clerk",),
    "nora": (),
}
DAGS = '''
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TaskGroup
from include.interlock.console.roles import dag_access

TASKS = {
    "policy": ["resolve_policy"], "planning": ["plan_release", "decide_plan"], "design": ["check_assets"],
    "build": ["build_artifact"], "quality": ["deploy_to_test", "judge_quality"],
    "acceptance": ["ask_approver", "decide_acceptance"], "rollout": ["freeze_plan", "cast_ballot", "await_board"],
    "communication": ["record_communication"], "implementation": ["wave_1", "wave_2"],
    "verification": ["judge_verification", "back_out"], "closure": ["close_release"],
}
with DAG("release_bike_shop", schedule=None, access_control=dag_access(), dag_display_name="Release Bike shop"):
    last = None
    for stage, tasks in TASKS.items():
        with TaskGroup(stage):
            for name in tasks:
                task = EmptyOperator(task_id=name, outlets=[])
                last = last >> task if last else task
with DAG("nightly", schedule=None):
    EmptyOperator(task_id="sweep")
'''


def configure(home: Path, port: int) -> None:
    os.environ.update(
        {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__AUTH_MANAGER": "include.interlock.console.auth.InterlockFabAuthManager",
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
            "AIRFLOW__API__SECRET_KEY": "for tests only, and long enough",
            "AIRFLOW__API_AUTH__JWT_SECRET": "for tests only, and long enough, for tests only, and long enough",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "AIRFLOW_CONN_INTERLOCK_ARTIFACTS": f'{{"conn_type": "fs", "extra": {{"path": "{home}/artifacts"}}}}',
            "_AIRFLOW_PROCESS_CONTEXT": "server",
        }
    )


def make_people() -> None:
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    from include.interlock.console.roles import sync_roles

    with get_application_builder() as appbuilder:
        manager = appbuilder.sm
        manager.sync_roles()
        sync_roles(manager)
        sync_roles(manager)  # again: nothing changes
        for name, roles in PEOPLE.items():
            manager.add_user(name, name, name, f"{name}@shop.example", [manager.find_role(role) for role in roles], name)


def make_dags(folder: Path) -> None:
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    folder.mkdir()
    (folder / "dags.py").write_text(DAGS)
    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(dag_folder=str(folder), bundle_path=folder, bundle_name="dags-folder")
    if bag.import_errors:
        raise SystemExit(bag.import_errors)
    sync_bag_to_db(bag, "dags-folder", None)


def make_run(dag_id: str, session: Any) -> None:
    from airflow.models.dagbag import DBDagBag
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    dag = DBDagBag().get_latest_version_of_dag(dag_id, session=session)
    dag.create_dagrun(
        run_id=RUN_ID,
        run_after=datetime(2026, 11, 23, 6, 17, tzinfo=UTC),
        run_type=DagRunType.MANUAL,
        triggered_by=DagRunTriggeredByType.REST_API,
        triggering_user_name="rita",
        state=DagRunState.RUNNING,
        conf={"version": "1.1.0"},
        session=session,
    )


def ask(session: Any, assigned: list[str]) -> None:
    """Turn the ballot's task into a mapped one: one request for each member."""
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select

    from include.interlock.adapters.templates import render

    rollout = releases.rollout()
    body = render(
        "ballot.md.j2",
        plan=releases.plan(),
        service=releases.service(),
        artifact=releases.artifact(),
        report=releases.quality(),
        rollout=rollout,
        board=releases.board(),
        in_force=releases.policy(),
        digest=rollout.digest,
        quality_page=quality_page(RELEASE, RUN_ID),
    )
    first = session.scalar(select(TaskInstance).where(TaskInstance.dag_id == RELEASE, TaskInstance.task_id == BALLOT))
    for number, user in enumerate(assigned):
        one = first if number == 0 else clone(session, first, number)
        one.map_index, one.state = number, "awaiting_input"
        one.start_date = datetime.now(UTC) - timedelta(minutes=3)
        session.flush()
        people = [{"id": user, "name": user.capitalize()}, {"id": "board_clerk", "name": "Board clerk"}]
        session.add(
            HITLDetail(
                ti_id=one.id,
                subject=f"CAB: release Bike shop 1.1.0 to production? ({user})",
                body=body,
                options=["Approve", "Reject", "Abstain"],
                defaults=["Abstain"],
                params={"comment": {"value": "", "description": None, "schema": {"type": "string"}}},
                assignees=people,
            )
        )


def clone(session: Any, first: Any, number: int) -> Any:
    from airflow.models.dagbag import DBDagBag
    from airflow.models.taskinstance import TaskInstance

    task = DBDagBag().get_latest_version_of_dag(RELEASE, session=session).get_task(BALLOT)
    made = TaskInstance(task, run_id=RUN_ID, map_index=number, dag_version_id=first.dag_version_id)
    session.add(made)
    return made


RECORDS: dict[str, Record] = {
    "policy.resolve_policy": releases.policy(),
    "planning.plan_release": releases.plan(),
    "planning.decide_plan": releases.decision("plan", required=False, reason="The policy asks nobody.", votes=()),
    "design.check_assets": releases.assets(),
    "build.build_artifact": releases.artifact(),
    "quality.deploy_to_test": releases.deployment(),
    "quality.judge_quality": releases.quality(releases.failure()),
    "acceptance.decide_acceptance": releases.decision("acceptance", reason="fay approves.", digest="e" * 64),
    "rollout.freeze_plan": releases.rollout(),
}


def leave_records(session: Any) -> None:
    """Leave each record as its task's result, and the task done; the rest is still to come."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from sqlalchemy import select

    tasks = session.scalars(select(TaskInstance).where(TaskInstance.dag_id == RELEASE, TaskInstance.run_id == RUN_ID))
    for number, task in enumerate(tasks):
        if task.task_id in RECORDS:
            task.state = "success"
            task.start_date = datetime.now(UTC) - timedelta(minutes=9, seconds=-number)
            task.end_date = task.start_date + timedelta(seconds=2.5)
    for task_id, record in RECORDS.items():
        XComModel.set(
            "return_value",
            record.to_xcom(),
            dag_id=RELEASE,
            task_id=task_id,
            run_id=RUN_ID,
            serialize=False,
            session=session,
        )


def leave_data_docs(store: Path) -> None:
    """Judge a table and leave its data docs where the quality stage would."""
    from include.interlock.adapters.artifacts import ArtifactStore, Folder
    from include.interlock.adapters.expectations import judge
    from include.interlock.domain.catalogue import Thresholds
    from include.interlock.domain.quality import TestRow

    failed = TestRow(suite="unit", classname="shop", name="<img src=x onerror=alert(1)>", status="failed", seconds=1)
    store.mkdir()
    folder = store.parent / "judged"
    folder.mkdir()
    judgement = judge({"tests": [failed]}, Thresholds(), folder=folder)
    ArtifactStore(Folder(store)).put_tree(judgement.docs, docs_prefix(RELEASE, RUN_ID, "quality"))


def fill() -> None:
    from airflow.utils.session import create_session

    with create_session() as session:
        for dag_id in (RELEASE, OTHER):
            make_run(dag_id, session)
        session.flush()
        ask(session, ["ben", "cora"])
        leave_records(session)


def main(home: Path, port: int) -> None:
    configure(home, port)
    from airflow.utils.db import initdb

    initdb()
    make_people()
    make_dags(home / "dags")
    fill()
    leave_data_docs(home / "artifacts")
    import uvicorn
    from airflow.api_fastapi.app import create_app

    uvicorn.run(create_app("core"), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
