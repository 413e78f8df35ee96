"""The release notes and the evidence pack of a release, from the artifact store.

The request only names a Dag and a run; the ledger names the bytes. They are read by their digest, so a file that was
changed in the store is refused.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import BackgroundTasks, Depends, HTTPException, Request, Response, status
from fastapi.responses import FileResponse
from pydantic import Field

from interlock.adapters.airflow.results import parsed_result, stored_result
from interlock.adapters.artifacts.store import ArtifactStore
from interlock.adapters.evidence.sources import pack_name, sealed_packs
from interlock.console.control.lookups import result_of
from interlock.domain.calendars.conflicts import conflicts_in
from interlock.domain.canonical import Model, Sha256
from interlock.domain.errors import ReleaseError
from interlock.domain.ledger.chain import INSTALLATION, release_chain
from interlock.domain.ledger.findings import findings_about, unsettled
from interlock.domain.ledger.kinds import (
    CHAT_FAILED,
    CONFLICTS_FOUND,
    FINDING,
    FINDING_SETTLED,
    NOTES_WRITTEN,
    RELEASE_OVERTAKEN,
)
from interlock.domain.ledger.reading import last_in
from interlock.domain.permits.overtaking import Overtaking
from interlock.domain.records import Blob, Communication

if TYPE_CHECKING:
    from interlock.adapters.ledger.ledger import Ledger

T = TypeVar("T")
NOTES, EVIDENCE = "notes", "evidence"
INERT = "sandbox; default-src 'none'; "


def opened_store(request: Request) -> ArtifactStore:
    """Open the artifact store; each request does, so that a changed connection counts at once."""
    store: ArtifactStore = request.app.state.open_artifacts()
    return store


def ledger_opener(request: Request) -> Callable[[], AbstractContextManager[Any]]:
    """Return what opens the ledger."""
    opener: Callable[[], AbstractContextManager[Any]] = request.app.state.open_ledger
    return opener


Store = Annotated[ArtifactStore, Depends(opened_store)]
OpenLedger = Annotated[Callable[[], AbstractContextManager[Any]], Depends(ledger_opener)]


class FileLeft(Model):
    """A file of a release, by the ledger."""

    size: int = Field(description="Bytes")
    sha256: Sha256


class FilesLeft(Model):
    """The files of a release; null: there is none yet."""

    notes: FileLeft | None = Field(None, description="Release notes, in Markdown")
    evidence: FileLeft | None = Field(None, description="The evidence pack that was made last")


def files(dag_id: str, dag_run_id: str, open_ledger: OpenLedger) -> FilesLeft:
    """Return size and digest of the files of a release."""
    found = _files(dag_id, dag_run_id, open_ledger)
    return FilesLeft(**{name: FileLeft(size=blob.size, sha256=blob.sha256) for name, blob in found.items()})


def result(dag_id: str, run_id: str, task_id: str, key: str, map_index: int = -1) -> dict[str, Any]:
    """Return the result of a task that Airflow's XCom backend keeps elsewhere: the public API gives its reference."""
    return {"value": stored_result(parsed_result(result_of(dag_id, run_id, task_id, map_index, key)))}


class Findings(Model):
    """What is found about a release, in words."""

    findings: tuple[str, ...] = Field(description="A release with one gets no permit")
    missing: tuple[str, ...] = Field(description="Records that others lack of it")
    conflicts: tuple[str, ...] = Field(description="What it clashes with here and in other systems, as found last")
    unsaid: tuple[str, ...] = Field(description="Which chat rooms were not told")
    overtaken: tuple[str, ...] = Field(description="By which more urgent release it was overtaken")


def findings(dag_id: str, dag_run_id: str, open_ledger: OpenLedger) -> Findings:
    """Return findings about a release, records that others lack of it, and which chat rooms were not told."""
    chain = release_chain(dag_id, dag_run_id)
    with open_ledger() as ledger:
        own = ledger.entries(chain, kind=FINDING)
        found = ledger.entries(INSTALLATION, kind=FINDING)
        missing = unsettled(found, ledger.entries(INSTALLATION, kind=FINDING_SETTLED), chain)
        overtaken = ledger.entries(chain, kind=RELEASE_OVERTAKEN)
        unsaid = ledger.entries(chain, kind=CHAT_FAILED)
        clashes = conflicts_in(ledger.entries(chain, kind=CONFLICTS_FOUND))
    return Findings(
        findings=tuple(str(entry.payload.get("what")) for entry in (*own, *findings_about(found, chain))),
        missing=tuple(str(entry.payload.get("what")) for entry in missing),
        conflicts=tuple(map(str, clashes)),
        unsaid=tuple(f"The chat room {entry.payload['room']} was not told: {entry.payload['why']}" for entry in unsaid),
        overtaken=tuple(Overtaking.model_validate(entry.payload).sentence for entry in overtaken),
    )


def notes(dag_id: str, run_id: str, store: Store, open_ledger: OpenLedger) -> Response:
    """Return the release notes, as they are written: Markdown."""
    data = or_refused(lambda: store.get_bytes(_blob(dag_id, run_id, open_ledger, NOTES)))
    headers = {"Content-Security-Policy": f"{INERT}frame-ancestors 'self'", **_SAFE}
    return Response(data, media_type="text/plain; charset=utf-8", headers=headers)


def evidence(
    dag_id: str, run_id: str, store: Store, open_ledger: OpenLedger, afterwards: BackgroundTasks
) -> FileResponse:
    """Return the evidence pack that was made last, to be kept as a file."""
    blob = _blob(dag_id, run_id, open_ledger, EVIDENCE)
    return to_be_kept(blob, pack_name(dag_id, run_id), store, afterwards, media_type="application/zip")


def to_be_kept(
    blob: Blob,
    name: str,
    store: ArtifactStore,
    afterwards: BackgroundTasks,
    media_type: str = "application/octet-stream",
) -> FileResponse:
    """Return a file of the store that browsers keep, and never show: nothing in it runs or is loaded.

    :param name: what the file is called at the reader's.
    """
    folder = Path(tempfile.mkdtemp(prefix="interlock-"))
    afterwards.add_task(shutil.rmtree, folder, ignore_errors=True)
    try:
        path = or_refused(lambda: store.get_file(blob, folder / "file"))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    headers = {"Content-Security-Policy": INERT, **_SAFE}
    return FileResponse(path, media_type=media_type, filename=name, headers=headers)


_SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cache-Control": "no-store"}
FRAMED = "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"


def safe_headers(policy: str) -> dict[str, str]:
    """Return the headers of a file that only our pages show, with a content policy."""
    return {
        "Content-Security-Policy": policy + FRAMED,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
    }


def _blob(dag_id: str, run_id: str, open_ledger: OpenLedger, name: str) -> Blob:
    found = _files(dag_id, run_id, open_ledger)
    if name not in found:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"{dag_id}, run {run_id}, has no {name} yet.")
    return found[name]


def _files(dag_id: str, run_id: str, open_ledger: OpenLedger) -> dict[str, Blob]:
    """Return what the ledger knows of the files of a release."""

    def known() -> dict[str, Blob]:
        with open_ledger() as ledger:
            written = _notes(dag_id, run_id, ledger)
            packs = sealed_packs(dag_id, run_id, ledger)
        return {**({NOTES: written} if written else {}), **({EVIDENCE: packs[-1]} if packs else {})}

    return or_refused(known)


def _notes(dag_id: str, run_id: str, ledger: Ledger) -> Blob | None:
    written = last_in(ledger.entries(release_chain(dag_id, run_id), kind=NOTES_WRITTEN), NOTES_WRITTEN, Communication)
    return written.notes if written else None


def or_refused(read: Callable[[], T]) -> T:
    """Answer with 503 and the reason if reading fails."""
    try:
        return read()
    except ReleaseError as error:
        raise HTTPException(status.HTTP_503_SERVICE_UNAVAILABLE, str(error)) from error
