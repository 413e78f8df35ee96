"""What Airflow's API server serves for us, besides the API: the script of the pages, data docs, files, feed and events.

A FastAPI app that Airflow mounts under :data:`PREFIX`. What a page shows it reads in the browser from Airflow's public
API and from ours, with the reader's own permissions. Airflow does not protect the apps of plugins, so every route asks
for a user, and for the right to read the Dag's runs; a pack holds logs and answers, and asks for the right to read
those too.
"""

from __future__ import annotations

from collections.abc import Callable

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import auth_manager_from_app, get_user, requires_access_dag
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, status
from fastapi.responses import FileResponse

from interlock.adapters.artifacts.store import ArtifactStore
from interlock.console.api.app import PATH as API
from interlock.console.api.app import create_api
from interlock.console.api.board import Overview
from interlock.console.control.break_glass import OpenLedger, configured_ledger
from interlock.console.control.lookups import configured_store
from interlock.locations import PACKAGE

from . import data_docs, downloads, watched
from .downloads import safe_headers
from .events import take_event
from .schedule import feed

PREFIX = "/interlock"
STATIC = PACKAGE / "console" / "static"
FILES = {path.name: path for path in STATIC.iterdir()}
OUR_FILES = "default-src 'none'; "

READS_RUNS = Depends(requires_access_dag("GET", DagAccessEntity.RUN))
READS_RESULTS = Depends(requires_access_dag("GET", DagAccessEntity.XCOM))
READS_ALL = [Depends(requires_access_dag("GET", entity)) for entity in watched.ALL_OF_A_RUN]


def create_app(
    open_artifacts: Callable[[], ArtifactStore] = configured_store, open_ledger: OpenLedger = configured_ledger
) -> FastAPI:
    """Return the app; each request opens store and ledger anew, so that a changed connection counts at once."""
    app = FastAPI(title="Interlock", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.open_artifacts, app.state.open_ledger = open_artifacts, open_ledger
    app.state.overview = Overview(open_ledger)
    # Airflow's dependencies look for the auth manager in the state of the app, which a mounted app has not.
    app.dependency_overrides[auth_manager_from_app] = get_auth_manager
    app.get("/static/{name}", dependencies=[Depends(get_user)])(static_file)
    app.get("/answered")(watched.answered)
    app.get("/watched")(watched.shown)  # both ask for the right to read each Dag that is named
    app.get("/docs/{dag_id}/{run_id}/{stage}", dependencies=[READS_RUNS])(data_docs.docs_index)
    app.get("/docs/{dag_id}/{run_id}/{stage}/{page:path}", dependencies=[READS_RUNS])(data_docs.docs_page)
    app.get("/calendar.ics")(feed)  # by its token: programs that subscribe cannot log in
    app.post("/events/{source}")(take_event)  # by its signature: other systems cannot log in
    app.get("/result", dependencies=[READS_RUNS, READS_RESULTS])(downloads.result)
    app.get("/files/{dag_id}/{run_id}/notes", dependencies=[READS_RUNS])(downloads.notes)
    app.get("/files/{dag_id}/{run_id}/evidence", dependencies=READS_ALL)(downloads.evidence)
    app.mount(API, create_api(open_ledger, app.state.overview, open_artifacts))
    return app


def static_file(name: str, request: Request, later: BackgroundTasks) -> FileResponse:
    """Return a script or a style of our pages; a reader who loads the first one is going to ask for the catalogue."""
    if name not in FILES:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"The file {name} does not exist.")
    later.add_task(request.app.state.overview.warm)
    return FileResponse(FILES[name], headers={"Cache-Control": "no-cache", **safe_headers(OUR_FILES)})
