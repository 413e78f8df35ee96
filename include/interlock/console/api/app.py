"""The API ``/interlock/api/v1``: a FastAPI app below that of the pages, in the style of Airflow's own API.

It takes Airflow's tokens, or the cookie of a page. Lists have ``limit``, ``offset`` and ``total_entries``. An error is
a problem (:mod:`.problems`). The OpenAPI document is at ``openapi.json``; ``make api`` writes it into docs/.
"""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import auth_manager_from_app, requires_access_dag
from fastapi import Depends, FastAPI

import interlock
from interlock.console.cab.agenda import AgendaCollection, Agendas, agenda
from interlock.console.cab.meetings import KeptMinutes, MinutesCollection, minutes, minutes_file, write_minutes
from interlock.console.cab.remarks import RemarkMade, remark
from interlock.console.control.break_glass import OpenLedger, configured_ledger
from interlock.console.pages.explain import explained

from .board import BoardCollection, Overview, board
from .forecast import Outcome, forecast
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
READS_RUNS = Depends(requires_access_dag("GET", DagAccessEntity.RUN))
READS_QUESTIONS = Depends(requires_access_dag("GET", DagAccessEntity.HITL_DETAIL))
READS_ALL = [
    READS_RUNS,
    READS_QUESTIONS,
    *(Depends(requires_access_dag("GET", one)) for one in (DagAccessEntity.TASK_LOGS, DagAccessEntity.XCOM)),
]
"""For explanations: they say what is in the logs, the answers and the records of a run."""


def create_api(open_ledger: OpenLedger = configured_ledger, overview: Overview | None = None) -> FastAPI:
    """Return the app.

    :param open_ledger: opens the ledger; each request does, so that a changed connection counts at once.
    """
    app = FastAPI(title="Interlock", version=interlock.__version__, docs_url=None, redoc_url=None)
    app.state.overview, app.state.open_ledger = overview or Overview(open_ledger), open_ledger
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
    app.get("/forecast", response_model=Outcome, **about_forecasts)(forecast)
    app.get("/questions", dependencies=[READS_RUNS, READS_QUESTIONS], responses=RESPONSES, tags=["Needs me"])(questions)
    app.get(
        "/dags/{dag_id}/dagRuns/{dag_run_id}/explanation", dependencies=READS_ALL, responses=RESPONSES, tags=["Explain"]
    )(explained)
    app.get("/needs-me", dependencies=READS_ALL, responses=RESPONSES, tags=["Needs me"])(needs_me)
    app.state.agendas = Agendas(open_ledger, app.state.measured.releases)
    about: dict[str, Any] = {"dependencies": READS_ALL, "responses": RESPONSES, "tags": ["CAB"]}
    app.get("/agenda", response_model=AgendaCollection, **about)(agenda)
    app.post("/remarks", response_model=RemarkMade, **about)(remark)
    app.get("/boards/{board}/minutes", response_model=MinutesCollection, **about)(minutes)
    app.post("/boards/{board}/minutes", response_model=KeptMinutes, **about)(write_minutes)
    app.get("/minutes/{id}.md", **about)(minutes_file)
    return app
