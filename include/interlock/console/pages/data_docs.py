"""The data docs of a release: what Great Expectations wrote about its quality, as the artifact store has it."""

from __future__ import annotations

import re
from mimetypes import guess_type
from typing import Any

from fastapi import HTTPException, Response, status
from fastapi.responses import RedirectResponse
from pydantic import Field

from interlock.adapters.artifacts.store import ArtifactStore
from interlock.adapters.catalogue.catalogue import load_service
from interlock.domain.canonical import Model
from interlock.domain.dag_names import RELEASES
from interlock.domain.errors import AssetMissing, CatalogueError, RequestRefused
from interlock.domain.paths import docs_prefix, docs_stage
from interlock.locations import catalogue_folder

from .downloads import Store, safe_headers

DOCS_STAGES = ("quality", "canary", "verification")
DOCS_OF_ENVIRONMENTS = re.compile(r"quality-[a-z][a-z0-9-]{0,62}")
"""The data docs of an environment between test and production."""
DATA_DOCS = "sandbox allow-same-origin; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
"""Data docs hold words of the service's tests: nothing in them runs, loads or is sent anywhere."""


class Reports(Model):
    """Which data docs a release has."""

    stages: tuple[str, ...] = Field(description="Their stages, as they are named in the address of the data docs")


def reports(dag_id: str, dag_run_id: str, store: Store) -> Reports:
    """Return of which stages there are data docs."""
    first, *others = DOCS_STAGES
    stages = (first, *map(docs_stage, _environments(dag_id)), *others)
    return Reports(stages=tuple(stage for stage in stages if _read(store, dag_id, dag_run_id, stage, "index.html")))


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
    return Response(data, media_type=_media_type(page), headers=safe_headers(DATA_DOCS))


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
