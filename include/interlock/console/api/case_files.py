"""The files that testers attach to their open test cases before they give the results.

A file comes as the body of a request, never as a form: so no other site can have a tester's browser send one. It is
judged by its bytes, kept by its digest, and recorded in the release's chain, signed by this server as answers are.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from io import BufferedRandom
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import GetUserDep
from anyio import to_thread
from fastapi import BackgroundTasks, HTTPException, Query, Request, status
from fastapi import Path as InPath
from fastapi.responses import FileResponse

from interlock.adapters.signing.witness import as_witnessed, witness_signer
from interlock.console.pages.downloads import to_be_kept
from interlock.domain.ledger.chain import release_chain
from interlock.domain.ledger.kinds import CASE_ATTACHED
from interlock.domain.testing.attachments import (
    MAX_BYTES,
    Attachment,
    attachments_in,
    kind_of,
    refuse_more,
    refuse_name,
)

from .cases import Place, asked_of, entries_of, ledger_of, or_422, store_of

BYTES = "application/octet-stream"
NOT_ATTACHED = "The file was not attached"


async def attach(
    request: Request,
    user: GetUserDep,
    dag_id: str,
    dag_run_id: str,
    task_id: str,
    map_index: int,
    name: Annotated[str, Query(description="The name of the file, as the tester's machine calls it")],
) -> Attachment:
    """Attach the file in the body to a test case that waits for the user's result; again: the same attachment.

    The body is the file itself, as ``application/octet-stream``. A file is never changed, replaced or taken away.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != BYTES:
        raise HTTPException(
            status.HTTP_415_UNSUPPORTED_MEDIA_TYPE,
            f"The file was not attached: the body of the request must be the file itself, as {BYTES}.",
        )
    or_422(lambda: refuse_name(name))
    place = (dag_id, dag_run_id, task_id, map_index)
    await to_thread.run_sync(asked_of, request, user, place, NOT_ATTACHED)  # before the body is read
    with TemporaryDirectory(prefix="interlock-") as folder, Path(folder, "file").open("w+b") as file:
        size = await _received(request, file)
        return await to_thread.run_sync(_kept, request, user, place, name, file, size)


async def _received(request: Request, file: BufferedRandom) -> int:
    """Write the body of a request into a file, as far as it is not too large, and go back to its beginning."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BYTES:
            raise HTTPException(
                status.HTTP_413_CONTENT_TOO_LARGE,
                f"The file was not attached: it has more than {MAX_BYTES:,} bytes. Next: put its address into the "
                "field “Evidence” of your answer.",
            )
        file.write(chunk)
    file.flush()
    file.seek(0)
    return size


def _kept(request: Request, user: Any, place: Place, name: str, file: BufferedRandom, size: int) -> Attachment:
    """Keep a file, and record whose it is and to what it belongs."""
    kind, by, signer = or_422(lambda: kind_of(file)), str(user.get_name()), witness_signer()
    chain, digest = release_chain(*place[:2]), hashlib.file_digest(file, "sha256").hexdigest()
    # One file of a release after the other, on all API servers: each is counted before the next one is weighed.
    with ledger_of(request)() as ledger, ledger.turn(f"{CASE_ATTACHED}/{chain}"):
        entries, asked = asked_of(request, user, place, NOT_ATTACHED)  # once more: the body may have taken its time
        before = attachments_in(entries)
        for known in before:
            if (known.binds, known.by, known.file.sha256) == (asked.binds, by, digest):
                return known
        or_422(lambda: refuse_more(before, by, asked.binds, size))
        made = Attachment(
            environment=asked.plan.environment,
            case=asked.planned.case.id,
            by=by,
            name=name,
            kind=kind,
            file=store_of(request).put_file(Path(file.name), f"attached.{kind}"),
            binds=asked.binds,
        )
        payload = as_witnessed(CASE_ATTACHED, chain, made, datetime.now(UTC), signer)
        key = f"{CASE_ATTACHED}/{asked.binds}/{by}/{digest}"
        return attachments_in([ledger.append_once(chain, CASE_ATTACHED, payload, actor=by, key=key)])[0]


def attached_file(
    request: Request,
    dag_id: str,
    dag_run_id: str,
    sha256: Annotated[str, InPath(pattern="^[0-9a-f]{64}$")],
    afterwards: BackgroundTasks,
) -> FileResponse:
    """Return a file that was attached to a test case of a release, to be kept as a file: browsers do not show it."""
    for one in attachments_in(entries_of(request, dag_id, dag_run_id)):
        if one.file.sha256 == sha256:
            return to_be_kept(one.file, one.leaves_as, store_of(request), afterwards)
    raise HTTPException(status.HTTP_404_NOT_FOUND, f"{dag_id}, run {dag_run_id}, has no attached file {sha256}.")
