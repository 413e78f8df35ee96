"""The API ``/interlock/api/v1``: a FastAPI app below that of the pages, in the style of Airflow's own API.

It takes Airflow's tokens, or the cookie of a page. Lists have ``limit``, ``offset`` and ``total_entries``. An error is
a problem (:mod:`.problems`). The OpenAPI document is at ``openapi.json``; ``make api`` writes it into docs/.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import auth_manager_from_app, get_user, requires_access_dag
from fastapi import Depends, FastAPI

import interlock
from interlock.adapters.artifacts.store import ArtifactStore
from interlock.console.cab.agenda import AgendaCollection, Agendas, agenda
from interlock.console.cab.meetings import KeptMinutes, MinutesCollection, minutes, minutes_file, write_minutes
from interlock.console.cab.remarks import RemarkMade, remark
from interlock.console.control.break_glass import OpenLedger, configured_ledger
from interlock.console.control.lookups import configured_store
from interlock.console.pages.data_docs import reports
from interlock.console.pages.downloads import files, findings
from interlock.console.pages.explain import explained
from interlock.console.pages.in_force import in_force
from interlock.console.pages.matrix import matrix
from interlock.console.pages.progress import names, progress
from interlock.console.pages.records import records
from interlock.console.pages.schedule import schedule

from .board import BoardCollection, Overview, board
from .case_files import attach, attached_file
from .cases import CaseCollection, give_back, own_cases, take
from .deliveries import deliveries
from .forecast import Expected, forecast
from .measures import (
    MeasuredCollection,
    MeasuredOverview,
    MeasuresSummary,
    measures,
    measures_as_csv,
    metrics,
    releases_of_measure,
)
from .needs_me import needs_me
from .problems import RESPONSES, answer_with_problems
from .questions import questions
from .timeline import timeline

PATH = "/api/v1"
RUN = "/dags/{dag_id}/dagRuns/{dag_run_id}"
READS_RUNS = Depends(requires_access_dag("GET", DagAccessEntity.RUN))
READS_RESULTS = Depends(requires_access_dag("GET", DagAccessEntity.XCOM))
READS_QUESTIONS = Depends(requires_access_dag("GET", DagAccessEntity.HITL_DETAIL))
ANSWERS = Depends(requires_access_dag("PUT", DagAccessEntity.HITL_DETAIL))
READS_ALL = [
    READS_RUNS,
    READS_QUESTIONS,
    *(Depends(requires_access_dag("GET", one)) for one in (DagAccessEntity.TASK_LOGS, DagAccessEntity.XCOM)),
]
"""For explanations: they say what is in the logs, the answers and the records of a run."""


def create_api(
    open_ledger: OpenLedger = configured_ledger,
    overview: Overview | None = None,
    open_artifacts: Callable[[], ArtifactStore] = configured_store,
) -> FastAPI:
    """Return the app.

    :param open_ledger: opens the ledger; each request does, so that a changed connection counts at once.
    :param open_artifacts: opens the artifact store, in the same way.
    """
    app = FastAPI(title="Interlock", version=interlock.__version__, docs_url=None, redoc_url=None)
    app.state.overview, app.state.open_ledger = overview or Overview(open_ledger), open_ledger
    app.state.open_artifacts = open_artifacts
    # Airflow's dependencies look for the auth manager in the state of the app, which a mounted app has not.
    app.dependency_overrides[auth_manager_from_app] = get_auth_manager
    answer_with_problems(app)
    app.get("/board", dependencies=[READS_RUNS], response_model=BoardCollection, responses=RESPONSES, tags=["Board"])(
        board
    )
    app.state.measured = MeasuredOverview(open_ledger)
    for path, answer, model in (
        ("/measures", measures, MeasuresSummary),
        ("/measures/{key}/releases", releases_of_measure, MeasuredCollection),
        ("/measures.csv", measures_as_csv, None),
        ("/metrics", metrics, None),
    ):
        app.get(path, dependencies=[READS_RUNS], response_model=model, responses=RESPONSES, tags=["Measures"])(answer)
    app.get("/timeline", dependencies=[READS_RUNS], responses=RESPONSES, tags=["Timeline"])(timeline)
    about_forecasts: dict[str, Any] = {"dependencies": READS_ALL, "responses": RESPONSES, "tags": ["Forecast"]}
    app.get("/forecast", response_model=Expected, **about_forecasts)(forecast)
    app.get("/deliveries", dependencies=[READS_RUNS], responses=RESPONSES, tags=["Deliveries"])(deliveries)
    app.get("/questions", dependencies=[READS_RUNS, READS_QUESTIONS], responses=RESPONSES, tags=["Needs me"])(questions)
    for name, of_run, tag, rights in (
        ("explanation", explained, "Explain", READS_ALL),
        ("records", records, "Run", [READS_RUNS, READS_RESULTS]),
        ("progress", progress, "Run", READS_ALL),
        ("findings", findings, "Run", [READS_RUNS]),
        ("files", files, "Run", [READS_RUNS]),
        ("matrix", matrix, "Run", READS_ALL),
        ("reports", reports, "Run", [READS_RUNS]),
    ):
        place = f"{RUN}/{name}"
        app.get(place, dependencies=rights, responses=RESPONSES, tags=[tag])(of_run)
    of_cases: dict[str, Any] = {"responses": RESPONSES, "tags": ["Test cases"]}
    app.get(f"{RUN}/cases", dependencies=READS_ALL, response_model=CaseCollection, **of_cases)(own_cases)
    for method, name, act in (("POST", "files", attach), ("PUT", "taker", take), ("DELETE", "taker", give_back)):
        place = f"{RUN}/taskInstances/{{task_id}}/{{map_index}}/{name}"
        app.api_route(place, methods=[method], dependencies=[*READS_ALL, ANSWERS], **of_cases)(act)
    app.get(f"{RUN}/files/{{sha256}}", dependencies=READS_ALL, **of_cases)(attached_file)
    for path, for_all in (("/names", names), ("/in-force", in_force), ("/schedule", schedule)):
        app.get(path, dependencies=[Depends(get_user)], responses=RESPONSES, tags=["Everybody"])(for_all)
    app.get("/needs-me", dependencies=READS_ALL, responses=RESPONSES, tags=["Needs me"])(needs_me)
    app.state.agendas = Agendas(open_ledger, app.state.measured.releases)
    about: dict[str, Any] = {"dependencies": READS_ALL, "responses": RESPONSES, "tags": ["CAB"]}
    app.get("/agenda", response_model=AgendaCollection, **about)(agenda)
    app.post("/remarks", response_model=RemarkMade, **about)(remark)
    app.get("/boards/{board}/minutes", response_model=MinutesCollection, **about)(minutes)
    app.post("/boards/{board}/minutes", response_model=KeptMinutes, **about)(write_minutes)
    app.get("/minutes/{id}.md", **about)(minutes_file)
    return app
