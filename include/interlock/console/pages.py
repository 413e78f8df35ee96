"""The pages of a release in Airflow's UI: the release at a glance, and the data docs of its quality.

A FastAPI app that Airflow mounts under :data:`PREFIX`. What a page shows it reads in the browser from Airflow's public
API, with the reader's own permissions; only the data docs come through here, from the artifact store. Airflow does not
protect the apps of plugins, so every route asks for a user, and for the right to read the Dag's runs.
"""

from __future__ import annotations

from collections.abc import Callable
from mimetypes import guess_type
from pathlib import Path
from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import auth_manager_from_app, get_user, requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Request, Response, status
from fastapi.responses import FileResponse, RedirectResponse

from include.interlock.adapters.artifacts import ArtifactStore, open_store
from include.interlock.domain.errors import AssetMissing, RequestRefused
from include.interlock.domain.paths import docs_prefix

PREFIX = "/interlock"
STATIC = Path(__file__).parent / "static"
FILES = {path.name: path for path in STATIC.iterdir()}
DOCS_STAGES = ("quality", "verification")
ARTIFACTS = "interlock_artifacts"

OUR_PAGES = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; frame-src 'self'; "
)
DATA_DOCS = "sandbox allow-same-origin; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
"""Data docs hold words of the service's tests: nothing in them runs, loads or is sent anywhere."""
FRAMED = "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"

READS_RUNS = Depends(requires_access_dag("GET", DagAccessEntity.RUN))


def configured_store() -> ArtifactStore:
    """Open the artifact store of Airflow's connection, from inside the API server."""
    from airflow.models.connection import Connection

    return open_store(Connection.get_connection_from_secrets(ARTIFACTS))


def create_app(open_artifacts: Callable[[], ArtifactStore] = configured_store) -> FastAPI:
    """Return the app; each request opens the store anew, so that a changed connection counts at once."""
    app = FastAPI(title="Interlock", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.open_artifacts = open_artifacts
    # Airflow's dependencies look for the auth manager in the state of the app, which a mounted app has not.
    app.dependency_overrides[auth_manager_from_app] = get_auth_manager
    app.get("/static/{name}", dependencies=[Depends(get_user)])(static_file)
    app.get("/release", dependencies=[READS_RUNS])(release_page)
    app.get("/quality", dependencies=[READS_RUNS])(quality_page)
    app.get("/reports", dependencies=[READS_RUNS])(reports)
    app.get("/docs/{dag_id}/{run_id}/{stage}", dependencies=[READS_RUNS])(docs_index)
    app.get("/docs/{dag_id}/{run_id}/{stage}/{page:path}", dependencies=[READS_RUNS])(docs_page)
    return app


def _opened_store(request: Request) -> ArtifactStore:
    store: ArtifactStore = request.app.state.open_artifacts()
    return store


Store = Annotated[ArtifactStore, Depends(_opened_store)]


def release_page() -> FileResponse:
    """Show the release at a glance."""
    return _page("release.html")


def quality_page() -> FileResponse:
    """Show the data docs of a release, and which of them there are."""
    return _page("quality.html")


def static_file(name: str) -> FileResponse:
    """Return a script or a style of our pages."""
    if name not in FILES:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"There is no {name}.")
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
    return {"stages": [stage for stage in DOCS_STAGES if _read(store, dag_id, run_id, stage, "index.html")]}


def docs_index(stage: str) -> RedirectResponse:
    """Lead to the index page of the data docs, in whose folder its links begin."""
    if stage not in DOCS_STAGES:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"{stage} leaves no data docs.")
    return RedirectResponse(f"{stage}/index.html")


def docs_page(dag_id: str, run_id: str, stage: str, page: str, store: Store) -> Response:
    """Return a page of the data docs."""
    data = _read(store, dag_id, run_id, stage, page)
    if data is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"{stage} of this release has left no page {page}.")
    return Response(data, media_type=_media_type(page), headers=_headers(DATA_DOCS))


def _read(store: ArtifactStore, dag_id: str, run_id: str, stage: str, page: str) -> bytes | None:
    if stage not in DOCS_STAGES:
        return None
    try:
        return store.read(f"{docs_prefix(dag_id, run_id, stage)}/{page}")
    except (AssetMissing, RequestRefused, ValueError):
        return None


def _media_type(page: str) -> str:
    kind: Any = guess_type(page)[0]
    return kind if kind in ("text/html", "text/css", "image/png", "image/svg+xml") else "application/octet-stream"
