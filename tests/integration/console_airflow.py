"""Airflow's API server with our plugin, on a database of its own: what the console tests talk to.

``python -m tests.integration.console_airflow HOME PORT [simple]`` serves until it is stopped, with our auth manager or
with Airflow's simple one. There are accounts (their password is their name), a release Dag, those that watch over
releases and a Dag that is nobody's business, each with a run. In the release, a ballot asks ben by user name and
another asks cora; nothing is scheduled. ``HOME/ledger.json`` says where the ledger is, ``HOME/catalogue`` is the
catalogue; ``HOME/known.json`` tells the tests what cannot be known before. With ``HOME/database``, Airflow's database
is the one at that URL; with ``HOME/testers.json``, the release asks these people to run test cases; with
``HOME/smtp.json``, mails go to the server of that connection.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from interlock.domain.paths import docs_prefix, matrix_page, quality_page
from interlock.domain.records import Record
from tests.factories import journeys, releases

ROOT = Path(__file__).parents[2]
RUN_ID = "manual__2026-11-23T06:17:00+00:00"
BACKED_OUT_ID = "manual__2026-11-22T06:17:00+00:00"
NUMBER_OF_BEN = "2"
RELEASE, OTHER = "release_bike_shop", "nightly"
PATH_RELEASE = "release_repair_shop"
"""A release that goes through four environments, and does the steps of a runbook: tests/factories/journeys.py."""
WATCHMEN = ("emergency_stop", "reconcile")
OURS = "interlock.console.auth.manager.InterlockFabAuthManager"
SIMPLE = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
BALLOT = "rollout.cast_ballot"
CASE = "quality.run_case"
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
IMPORTS = """
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, TaskGroup
from interlock.console.auth.roles import dag_access
"""
DAGS = {
    "release.py": """
TASKS = {
    "policy": ["resolve_policy"], "planning": ["plan_release", "decide_plan"], "design": ["check_assets"],
    "build": ["build_artifact"], "quality": ["deploy_to_test", "judge_quality"],
    "acceptance": ["ask_approver", "decide_acceptance"], "rollout": ["freeze_plan", "cast_ballot", "await_board"],
    "communication": ["write_notes", "record_communication"], "implementation": ["wave_1", "wave_2"],
    "verification": ["judge_verification", "back_out"], "closure": ["pack_evidence", "close_release"],
}
with DAG("release_bike_shop", schedule=None, access_control=dag_access(), dag_display_name="Release Bike shop"):
    last = None
    for stage, tasks in TASKS.items():
        with TaskGroup(stage):
            for name in tasks:
                outlets = [Asset("bike-shop@production")] if stage == "closure" else []
                task = EmptyOperator(task_id=name, outlets=outlets)
                last = last >> task if last else task
""",
    "path.py": """
TESTED = ["book", "deploy", "run_suites", "judge", "pass_gate", "close_tests"]
MORE = {"integration": [], "user-acceptance": ["sign_off", "await_sign_off"], "staging": ["await_soak"]}
STEPS = ["ask_step_1", "step_1", "wave_1", "step_2", "wave_2", "step_3"]
TASKS = {
    "policy": ["resolve_policy"], "planning": ["plan_release"], "build": ["build_artifact"],
    "quality": ["deploy_to_test", "run_case", "judge_quality", "pass_gate"],
    "acceptance": ["decide_acceptance"], "rollout": ["freeze_plan", "cast_ballot", "await_board"],
    "implementation": STEPS, "verification": ["judge_verification"], "closure": ["close_release"],
}
with DAG("release_repair_shop", schedule=None, access_control=dag_access(), dag_display_name="Release Repair shop"):
    for stage, tasks in TASKS.items():
        with TaskGroup(stage):
            for name in tasks:
                EmptyOperator(task_id=name)
            for environment in MORE if stage == "quality" else ():
                with TaskGroup(environment):
                    for name in [*TESTED, *MORE[environment], "conclude"]:
                        EmptyOperator(task_id=name)
""",
    **{
        f"{watchman}.py": f"""
with DAG("{watchman}", schedule=None, access_control=dag_access(("release_manager", "operator"))):
    EmptyOperator(task_id="watch")
"""
        for watchman in WATCHMEN
    },
    "others.py": """
with DAG("nightly", schedule=None):
    EmptyOperator(task_id="sweep", outlets=[Asset("nightly")])
for named_alike in ("train_model", "release_tables"):
    with DAG(named_alike, schedule=None):
        EmptyOperator(task_id="sweep")
with DAG("rollback_bike_shop", schedule=None, access_control=dag_access()):  # whoever wrote it, it is not Interlock
    EmptyOperator(task_id="planning.choose_release")
""",
}
OTHERS = ("nightly", "train_model", "release_tables")
STRANGER = "rollback_bike_shop"


def configure(home: Path, port: int, auth_manager: str) -> None:
    (home / "passwords.json").write_text(json.dumps({name: name for name in PEOPLE}))
    os.environ.update(settings_of(home, port, auth_manager))


AS_LONG_AS_TESTS = 86_400
JWT_SECRET = "for tests only, and long enough, for tests only, and long enough"


def settings_of(home: Path, port: int, auth_manager: str = OURS) -> dict[str, str]:
    """Return the environment of each of this Airflow's processes."""
    database, below, smtp = home / "database", home / "below", home / "smtp.json"
    return {
        **({"AIRFLOW_CONN_INTERLOCK_SMTP": smtp.read_text()} if smtp.exists() else {}),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__AUTH_MANAGER": auth_manager,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,opal:op,rita:user,audrey:viewer,gus:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__CORE__FERNET_KEY": "JPWZC4pCMVzYtC4pwgMsYrVaBBLNa0yLsTdCNVpiKV0=",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__XCOM_BACKEND": "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend",
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": f"file://{home}/results",
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": str(10**9),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database.read_text()
        if database.exists()
        else f"sqlite:///{home}/airflow.db",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}{below.read_text() if below.exists() else ''}",
        # No scheduler runs here: what `begin_processes` leaves lives for as long as the tests.
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": str(AS_LONG_AS_TESTS),
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": str(AS_LONG_AS_TESTS),
        "AIRFLOW__API__SECRET_KEY": "for tests only, and long enough",
        "AIRFLOW__API_AUTH__JWT_SECRET": JWT_SECRET,
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW_CONN_INTERLOCK_ARTIFACTS": f'{{"conn_type": "fs", "extra": {{"path": "{home}/artifacts"}}}}',
        "INTERLOCK_CATALOGUE": str(home / "catalogue"),
        "INTERLOCK_STATE": str(home / "state"),
        "_AIRFLOW_PROCESS_CONTEXT": "server",
    }


def make_people(testers: Sequence[str]) -> None:
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    from interlock.console.auth.roles import sync_roles

    with get_application_builder() as appbuilder:
        manager = appbuilder.sm
        manager.sync_roles()
        sync_roles(manager)
        sync_roles(manager)  # again: nothing changes
        for name, roles in {**PEOPLE, **dict.fromkeys(testers, ("tester",))}.items():
            manager.add_user(
                name, name, name, f"{name}@shop.example", [manager.find_role(role) for role in roles], name
            )


def make_dags(folder: Path, *, with_cases: bool) -> None:
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    folder.mkdir(exist_ok=True)  # a test may have put files there
    for name, text in DAGS.items():
        if with_cases and name == "release.py":
            text = text.replace('"judge_quality"]', '"run_case", "judge_quality"]')
        (folder / name).write_text(IMPORTS + text)
    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(dag_folder=str(folder), bundle_path=folder, bundle_name="dags-folder")
    if bag.import_errors:
        raise SystemExit(bag.import_errors)
    sync_bag_to_db(bag, "dags-folder", None)


@dataclass(frozen=True)
class Story:
    """How far a release has come: its tasks' results, states and reasons, and its ballots."""

    run_id: str
    state: str
    records: dict[str, Record]
    states: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    ballots: tuple[tuple[str, str, str], ...] = ()
    """Who is asked (by name or number), the state of the task, what was answered."""
    dag_id: str = RELEASE
    asks: tuple[str, ...] = ()
    """Tasks that wait for an answer: see ``questions_of_path``."""


UP_TO_THE_BOARD: dict[str, Record] = {
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
WAITS = Story(
    RUN_ID,
    "running",
    UP_TO_THE_BOARD,
    ballots=tuple((user, "awaiting_input", "") for user in ("ben", "cora", "dan", "fay", NUMBER_OF_BEN, "rita")),
)
BACKED_OUT = Story(
    BACKED_OUT_ID,
    "failed",
    {
        **UP_TO_THE_BOARD,
        "rollout.await_board": releases.decision(),
        "communication.write_notes": releases.communication(),
        "communication.record_communication": releases.communication(),
        "implementation.wave_1": releases.wave(1, releases.host_result(1)),
        "implementation.wave_2": releases.wave(2, releases.host_result(2), releases.host_result(3)),
        "verification.judge_verification": releases.verification(),
        "verification.back_out": releases.back_out(),
        "closure.close_release": releases.outcome(
            outcome="backed_out", reason="GET /bikes answers 500.", running=dict.fromkeys(releases.ADDRESSES, "1.0.0")
        ),
    },
    states={
        "acceptance.ask_approver": "success",
        "verification.judge_verification": "failed",
        "closure.close_release": "failed",
    },
    reasons={"verification.judge_verification": "bike-shop 1.1.0 does not work in production."},
    ballots=(("ben", "success", "Approve"), ("dan", "success", "Approve"), ("cora", "success", "")),
)


UNDER_WAY_ID, BOARD_ID = "manual__2026-11-23T07:17:00+00:00", "manual__2026-11-24T07:17:00+00:00"
PATH_STORIES = (
    Story(
        UNDER_WAY_ID,
        "running",
        {
            "policy.resolve_policy": journeys.policy(),
            "planning.plan_release": journeys.plan(),
            "build.build_artifact": releases.artifact(),
            "quality.judge_quality": journeys.report("test"),
        },
        states={"quality.integration.judge": "running"},
        dag_id=PATH_RELEASE,
        asks=("quality.run_case", "quality.user-acceptance.sign_off"),
    ),
    Story(
        BOARD_ID,
        "running",
        {
            "policy.resolve_policy": journeys.policy(),
            "planning.plan_release": journeys.plan(),
            "build.build_artifact": releases.artifact(),
            "quality.judge_quality": journeys.report("test"),
            "rollout.freeze_plan": journeys.rollout(),
        },
        dag_id=PATH_RELEASE,
        asks=("rollout.cast_ballot",),
    ),
)


def make_run(dag_id: str, session: Any, run_id: str = RUN_ID, state: str = "running") -> None:
    from airflow.models.dagbag import DBDagBag
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    dag = DBDagBag().get_latest_version_of_dag(dag_id, session=session)
    dag.create_dagrun(
        run_id=run_id,
        run_after=datetime.fromisoformat(run_id.removeprefix("manual__")),
        run_type=DagRunType.MANUAL,
        triggered_by=DagRunTriggeredByType.REST_API,
        triggering_user_name="rita",
        state=DagRunState(state),
        conf={"version": "1.1.0"},
        session=session,
    )
    session.flush()


def tell(story: Story, session: Any) -> None:
    make_run(story.dag_id, session, story.run_id, story.state)
    if story.ballots:
        ask(story, session)
    ask_on_path(story, session)
    leave_records(story, session)


def ask(story: Story, session: Any) -> None:
    """Turn the ballot's task into a mapped one: one request for each member."""
    from airflow.models.hitl import HITLDetail

    from interlock.stages.approvals.people import ANSWER_PARAMS

    first = tasks_of(story, session)[BALLOT]
    body = ballot(story)
    for number, (user, state, answer) in enumerate(story.ballots):
        one = first if number == 0 else clone(story, session, first, number)
        one.map_index, one.state = number, state
        one.start_date = datetime.now(UTC) - timedelta(minutes=3)
        session.flush()
        people = [{"id": user, "name": user.capitalize()}, {"id": "board_clerk", "name": "Board clerk"}]
        answered = {
            "responded_by": {"id": str(number), "name": user},
            "responded_at": datetime.now(UTC),
            "chosen_options": [answer],
            "params_input": {"comment": f"{answer}, says {user}"},
        }
        session.add(
            HITLDetail(
                ti_id=one.id,
                subject=f"CAB: release Bike shop 1.1.0 to production? ({user})",
                body=body,
                options=["Approve", "Reject", "Abstain"],
                params={name: field.serialize() for name, field in ANSWER_PARAMS.items()},
                assignees=people,
                **(answered if answer else {}),
            )
        )


def ask_on_path(story: Story, session: Any) -> None:
    """Ask each question of a release that goes through environments, with the words of the product."""
    from airflow.models.hitl import HITLDetail

    from interlock.domain.testing.results import VERDICTS
    from interlock.stages.approvals.people import ANSWER_PARAMS, CASE_PARAMS

    tasks = tasks_of(story, session)
    for task_id in story.asks:
        task, tests = tasks[task_id], task_id == "quality.run_case"
        task.state, task.start_date = "awaiting_input", datetime.now(UTC) - timedelta(minutes=3)
        task.map_index = 1 if tests else -1  # the second of the cases that testers are asked for
        session.flush()
        asked = question_on_path(task_id, story)
        params = CASE_PARAMS if tests else ANSWER_PARAMS
        session.add(
            HITLDetail(
                ti_id=task.id,
                subject=asked["subject"],
                body=asked["body"],
                options=list(VERDICTS) if tests else ["Approve", "Reject", "Abstain"],
                params={name: field.serialize() for name, field in params.items()},
                assignees=asked["assigned_users"],
            )
        )


def question_on_path(task_id: str, story: Story) -> dict[str, Any]:
    """Return a question of a release that goes through environments; to cora, who has one of the bike shop, none."""
    from interlock.adapters.templates import render
    from interlock.domain.board.voting import sign_off_rule
    from interlock.domain.catalogue import BoardBook, Person
    from interlock.domain.runbook.planning import describe_irreversible, describe_steps
    from interlock.stages.approvals.people import question

    people = [
        Person(user=user, name=name, email=f"{user}@x.example", role="it")
        for user, name in releases.NAMES.items()
        if user != "cora"
    ]
    service, journey = journeys.service(), journeys.Journey().through()
    common = {"service": service, "plan": journeys.plan(), "names": releases.NAMES}
    common |= {"report": journeys.report("test", defects=journeys.DEFECTS), "artifact": releases.artifact()}
    common |= {"quality_page": quality_page(PATH_RELEASE, story.run_id), "deployment": releases.deployment()}
    if task_id == "quality.run_case":
        planned, until = journeys.LONG_CASE, releases.AT + timedelta(days=3)
        tests = journeys.cases_planned("test", [planned])
        text = render(
            "case.md.j2",
            **{**common, "plan": tests},
            case=planned.case,
            because=planned.because,
            file=planned.file,
            defects=(),
            matrix_page=matrix_page(PATH_RELEASE, story.run_id),
            answer_by=until,
        )
        return question(f"{planned.case.title} ({planned.case.id}): Repair shop 2.0.0 in test", text, "c" * 64, people)
    if task_id == "quality.user-acceptance.sign_off":
        tested = journeys.Journey().planned().tested("user-acceptance").last
        book = BoardBook(people=tuple(people), boards={}, senior_management=())
        rule = sign_off_rule(book, service, "user-acceptance")
        text = render("sign_off.md.j2", **common, tested=tested, waivers=(), board=rule)
        return question("Sign off Repair shop 2.0.0 in user-acceptance", text, tested.digest, people)
    rollout = journey.rollout
    text = render(
        "ballot.md.j2",
        **common,
        rollout=rollout,
        strategy=(),
        board=releases.board(),
        acceptance=releases.decision("acceptance"),
        answered_yes=["Does it change something that going back does not undo?"],
        calendars=[],
        overrides=[],
        runbook=describe_steps(rollout.steps, releases.NAMES),
        irreversible=describe_irreversible(rollout),
    )
    return question("Vote: Repair shop 2.0.0 to production", text, rollout.digest, people)


def ballot(story: Story) -> str:
    from interlock.adapters.templates import render

    return render(
        "ballot.md.j2",
        plan=releases.plan(),
        service=releases.service(),
        report=releases.quality(),
        rollout=releases.rollout(),
        strategy=(),
        board=releases.board(),
        acceptance=releases.decision("acceptance"),
        answered_yes=[],
        calendars=[],
        overrides=[],
        names=releases.NAMES,
        quality_page=quality_page(RELEASE, story.run_id),
    )


def clone(story: Story, session: Any, first: Any, number: int) -> Any:
    from airflow.models.dagbag import DBDagBag
    from airflow.models.taskinstance import TaskInstance

    task = DBDagBag().get_latest_version_of_dag(RELEASE, session=session).get_task(BALLOT)
    made = TaskInstance(task, run_id=story.run_id, map_index=number, dag_version_id=first.dag_version_id)
    session.add(made)
    return made


def tasks_of(story: Story, session: Any) -> dict[str, Any]:
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select

    found = session.scalars(
        select(TaskInstance).where(TaskInstance.dag_id == story.dag_id, TaskInstance.run_id == story.run_id)
    )
    return {task.task_id: task for task in found}


def leave_records(story: Story, session: Any) -> None:
    """Leave each record as its task's result, and the task done; the rest is still to come."""
    from airflow.models.xcom import XComModel

    for number, (task_id, task) in enumerate(tasks_of(story, session).items()):
        if task_id in story.records or task_id in story.states:
            task.state = story.states.get(task_id, "success")
            task.start_date = datetime.now(UTC) - timedelta(minutes=9, seconds=-number)
            task.end_date = task.start_date + timedelta(seconds=2.5)
    results = {task_id: ("return_value", record.to_xcom()) for task_id, record in story.records.items()}
    reasons = {task_id: ("reason", reason) for task_id, reason in story.reasons.items()}
    for task_id, (key, value) in (*results.items(), *reasons.items()):
        where = {"dag_id": story.dag_id, "task_id": task_id, "run_id": story.run_id}
        XComModel.set(key, value, **where, serialize=False, session=session)


def leave_stored_results(home: Path, session: Any) -> None:
    """Leave a result that Airflow's XCom backend keeps in its folder, and one that somebody leads to another place."""
    from airflow.models.xcom import XComModel

    (home / "results").mkdir()
    kept, secret = home / "results" / "kept.json", home / "secret.json"
    kept.write_text('{"hosts": ["a", "b"]}')
    secret.write_text('"it is secret"')
    where = {"dag_id": RELEASE, "task_id": "rollout.freeze_plan", "run_id": RUN_ID}
    for key, path in (("kept", kept), ("led_astray", secret)):
        XComModel.set(key, f"file://{path}", **where, serialize=False, session=session)


def leave_data_docs(store: Path) -> None:
    """Judge a table and leave its data docs where the quality stage would."""
    from interlock.adapters.artifacts.store import ArtifactStore, Folder
    from interlock.adapters.quality.expectations import judge
    from interlock.domain.catalogue import Thresholds
    from interlock.domain.quality.rows import TestRow

    failed = TestRow(suite="unit", classname="shop", name="<img src=x onerror=alert(1)>", status="failed", seconds=1)
    store.mkdir()
    folder = store.parent / "judged"
    folder.mkdir()
    judgement = judge({"tests": [failed]}, Thresholds(), folder=folder)
    ArtifactStore(Folder(store)).put_tree(judgement.docs, docs_prefix(RELEASE, RUN_ID, "quality"))


def begin_processes(session: Any) -> None:
    """Leave a sign of life of a scheduler and a triggerer."""
    from airflow.jobs.job import Job

    for kind in ("SchedulerJob", "TriggererJob"):
        session.add(Job(job_type=kind, state="running", latest_heartbeat=datetime.now(UTC)))


def fill(home: Path) -> None:
    from airflow.utils.session import create_session

    with create_session() as session:
        begin_processes(session)
        for dag_id in (*OTHERS, STRANGER, *WATCHMEN):
            make_run(dag_id, session)
        for story in (BACKED_OUT, WAITS, *PATH_STORIES):
            tell(story, session)
        leave_stored_results(home, session)


def ask_testers(testers: Sequence[str], number: int) -> None:
    """Ask everybody for each test case of the release that waits."""
    from airflow.models.dagbag import DBDagBag
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    from interlock.domain.testing.results import VERDICTS
    from interlock.stages.approvals.people import CASE_PARAMS

    with create_session() as session:
        first = tasks_of(WAITS, session)[CASE]
        task = DBDagBag().get_latest_version_of_dag(RELEASE, session=session).get_task(CASE)
        for index in range(number):
            one = first
            if index:
                one = TaskInstance(task, run_id=RUN_ID, map_index=index, dag_version_id=first.dag_version_id)
                session.add(one)
            one.map_index, one.state, one.start_date = index, "awaiting_input", datetime.now(UTC)
            session.flush()
            session.add(
                HITLDetail(
                    ti_id=one.id,
                    subject=f"Case {index}",
                    body=f"Run the case {index}.",
                    options=list(VERDICTS),
                    params={name: field.serialize() for name, field in CASE_PARAMS.items()},
                    assignees=[{"id": name, "name": name} for name in testers],
                )
            )


def connect_ledger(file: Path) -> None:
    """Write the ledger's connection where a platform engineer does: into Airflow's own database."""
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session

    with create_session() as session:
        session.add(Connection(conn_id="interlock_ledger", conn_type="postgres", **json.loads(file.read_text())))


def tell_the_tests(file: Path) -> None:
    """Say what only this Airflow knows: its routes, and the numbers of what is named by number."""
    from airflow.api_fastapi.core_api.routes.public import public_router
    from airflow.api_fastapi.core_api.routes.ui import ui_router
    from airflow.models.asset import AssetModel
    from airflow.models.backfill import Backfill
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    routes = [*public_router.routes, *ui_router.routes]
    changing = [(method, one.path) for one in routes for method in one.methods - {"GET", "HEAD", "OPTIONS"}]
    with create_session() as session:
        begin = datetime(2026, 11, 1, tzinfo=UTC)
        backfill = Backfill(dag_id=RELEASE, from_date=begin, to_date=begin, dag_run_conf={})
        session.add(backfill)
        session.flush()
        wanted = select(TaskInstance.dag_id, TaskInstance.task_id, TaskInstance.id).where(
            TaskInstance.run_id == RUN_ID, TaskInstance.dag_id.in_([RELEASE, OTHER])
        )
        tasks = {dag_id if dag_id == OTHER else task_id: str(one) for dag_id, task_id, one in session.execute(wanted)}
        assets = dict(session.execute(select(AssetModel.name, AssetModel.id)).tuples().all())
        file.write_text(json.dumps({"routes": changing, "assets": assets, "backfill": backfill.id, "tasks": tasks}))


def main(home: Path, port: int, auth_manager: str) -> None:
    configure(home, port, auth_manager)
    from airflow.utils.db import initdb

    initdb()
    testers = home / "testers.json"
    testing = json.loads(testers.read_text()) if testers.exists() else {}
    if auth_manager == OURS:
        make_people(testing.get("testers", ()))
        leave_data_docs(home / "artifacts")
    make_dags(home / "dags", with_cases=bool(testing))
    fill(home)
    if testing:
        ask_testers(testing["testers"], testing["cases"])
    connect_ledger(home / "ledger.json")
    tell_the_tests(home / "known.json")
    import uvicorn
    from airflow.api_fastapi.app import create_app

    uvicorn.run(create_app("core"), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), SIMPLE if "simple" in sys.argv[3:] else OURS)
