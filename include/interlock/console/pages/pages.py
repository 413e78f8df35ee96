"""The pages of a release in Airflow's UI: the release at a glance, and the data docs of its quality.

A FastAPI app that Airflow mounts under :data:`PREFIX`. What a page shows it reads in the browser from Airflow's public
API, with the reader's own permissions; only what lies in the artifact store comes through here: data docs, release
notes, evidence packs. Airflow does not protect the apps of plugins, so every route asks for a user, and for the right
to read the Dag's runs; a pack holds logs and answers, and asks for the right to read those too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from mimetypes import guess_type
from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import auth_manager_from_app, get_user, requires_access_dag
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response, status
from fastapi.responses import FileResponse, RedirectResponse

from interlock.adapters.artifacts.store import ArtifactStore
from interlock.adapters.catalogue.catalogue import load_service
from interlock.adapters.catalogue.yaml_files import read_yaml
from interlock.console.api.app import PATH as API
from interlock.console.api.app import create_api
from interlock.console.api.board import Overview
from interlock.console.control.break_glass import OpenLedger, configured_ledger
from interlock.console.control.lookups import configured_store
from interlock.domain.board.voting import BOOK
from interlock.domain.catalogue import BoardBook
from interlock.domain.dag_names import RELEASES
from interlock.domain.errors import AssetMissing, CatalogueError, RequestRefused
from interlock.domain.paths import docs_prefix, docs_stage
from interlock.locations import PACKAGE, catalogue_folder

from . import downloads, matrix, progress, schedule, watched
from .downloads import Store
from .events import take_event
from .in_force import in_force

PREFIX = "/interlock"
STATIC = PACKAGE / "console" / "static"
VENDOR = PACKAGE / "console" / "vendor"
"""FullCalendar, as npm has it: package-lock.json there says which; make vendor brings it anew."""
FILES = {path.name: path for folder in (STATIC, VENDOR) for path in folder.iterdir() if path.suffix != ".json"}
DOCS_STAGES = ("quality", "canary", "verification")
DOCS_OF_ENVIRONMENTS = re.compile(r"quality-[a-z][a-z0-9-]{0,62}")
"""The data docs of an environment between test and production."""
OUR_PAGES = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; frame-src 'self'; "
)
DATA_DOCS = "sandbox allow-same-origin; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
"""Data docs hold words of the service's tests: nothing in them runs, loads or is sent anywhere."""
FRAMED = "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"

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
    app.get("/release", dependencies=[READS_RUNS])(release_page)
    app.get("/quality", dependencies=[READS_RUNS])(quality_page)
    app.get("/tests", dependencies=[READS_RUNS])(tests_page)
    app.get("/matrix", dependencies=READS_ALL)(matrix.shown)
    app.get("/answered")(watched.answered)
    app.get("/watched")(watched.shown)  # both ask for the right to read each Dag that is named
    app.get("/progress", dependencies=READS_ALL)(progress.shown)
    app.get("/reports", dependencies=[READS_RUNS])(reports)
    app.get("/docs/{dag_id}/{run_id}/{stage}", dependencies=[READS_RUNS])(docs_index)
    app.get("/docs/{dag_id}/{run_id}/{stage}/{page:path}", dependencies=[READS_RUNS])(docs_page)
    app.get("/calendar", dependencies=[Depends(get_user)])(calendar_page)
    app.get("/schedule", dependencies=[Depends(get_user)])(schedule.shown)
    app.get("/in_force", dependencies=[Depends(get_user)])(in_force)
    app.get("/calendar.ics")(schedule.feed)  # by its token: programs that subscribe cannot log in
    app.post("/events/{source}")(take_event)  # by its signature: other systems cannot log in
    app.get("/names", dependencies=[Depends(get_user)])(names_of_people)
    app.get("/findings", dependencies=[READS_RUNS])(downloads.findings)
    app.get("/result", dependencies=[READS_RUNS, READS_RESULTS])(downloads.result)
    app.get("/files", dependencies=[READS_RUNS])(downloads.left_by)
    app.get("/files/{dag_id}/{run_id}/notes", dependencies=[READS_RUNS])(downloads.notes)
    app.get("/files/{dag_id}/{run_id}/evidence", dependencies=READS_ALL)(downloads.evidence)
    app.mount(API, create_api(open_ledger, app.state.overview, open_artifacts))
    return app


def release_page() -> FileResponse:
    """Show the release at a glance."""
    return _page("release.html")


def calendar_page() -> FileResponse:
    """Show the release calendar."""
    return _page("calendar.html")


def quality_page() -> FileResponse:
    """Show the data docs of a release, and which of them there are."""
    return _page("quality.html")


def tests_page() -> FileResponse:
    """Show the test matrix of a release."""
    return _page("tests.html")


def names_of_people() -> dict[str, str]:
    """Say how people call everybody whom the catalogue names: user name to name."""
    try:
        return read_yaml(catalogue_folder() / BOOK, shown=BOOK).parse(BoardBook).names
    except (CatalogueError, OSError) as error:
        raise HTTPException(status.HTTP_503_SERVICE_UNAVAILABLE, str(error)) from error


def static_file(name: str, request: Request, later: BackgroundTasks) -> FileResponse:
    """Return a script or a style of our pages; a reader who loads the first one is going to ask for the catalogue."""
    if name not in FILES:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"The file {name} does not exist.")
    later.add_task(request.app.state.overview.warm)
    return FileResponse(FILES[name], headers={"Cache-Control": "no-cache", **_headers(OUR_PAGES)})


def _page(name: str) -> FileResponse:
    return FileResponse(FILES[name], media_type="text/html", headers=_headers(OUR_PAGES))


def _headers(policy: str) -> dict[str, str]:
    return {
        "Content-Security-Policy": policy + FRAMED,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
    }


def reports(dag_id: str, run_id: str, store: Store) -> dict[str, list[str]]:
    """Say of which stages there are data docs."""
    first, *others = DOCS_STAGES
    stages = (first, *map(docs_stage, _environments(dag_id)), *others)
    return {"stages": [stage for stage in stages if _read(store, dag_id, run_id, stage, "index.html")]}


def _environments(dag_id: str) -> tuple[str, ...]:
    """Return the environments between test and production that releases of a Dag go through."""
    if not dag_id.startswith(RELEASES):
        return ()
    name = dag_id.removeprefix(RELEASES).replace("_", "-")
    try:
        return load_service(catalogue_folder(), name).services[name].path
    except (CatalogueError, OSError):
        return ()


def _has_docs(stage: str) -> bool:
    return stage in DOCS_STAGES or DOCS_OF_ENVIRONMENTS.fullmatch(stage) is not None


def docs_index(stage: str) -> RedirectResponse:
    """Lead to the index page of the data docs, in whose folder its links begin."""
    if not _has_docs(stage):
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"The stage {stage} has no data docs.")
    return RedirectResponse(f"{stage}/index.html")


def docs_page(dag_id: str, run_id: str, stage: str, page: str, store: Store) -> Response:
    """Return a page of the data docs."""
    data = _read(store, dag_id, run_id, stage, page)
    if data is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"The data docs of the stage {stage} have no page {page}.")
    return Response(data, media_type=_media_type(page), headers=_headers(DATA_DOCS))


def _read(store: ArtifactStore, dag_id: str, run_id: str, stage: str, page: str) -> bytes | None:
    if not _has_docs(stage):
        return None
    try:
        return store.read(f"{docs_prefix(dag_id, run_id, stage)}/{page}")
    except (AssetMissing, RequestRefused, ValueError):
        return None


def _media_type(page: str) -> str:
    kind: Any = guess_type(page)[0]
    return kind if kind in ("text/html", "text/css", "image/png", "image/svg+xml") else "application/octet-stream"
