"""A tester's open test cases in a release, and the files that they attach to them before they give the result.

A file comes as the body of a request, never as a form: so no other site can have a tester's browser send one. It is
judged by its bytes, kept by its digest, and recorded in the release's chain, signed by this server as answers are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BufferedRandom
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, TypeVar

from airflow.api_fastapi.core_api.security import GetUserDep
from anyio import to_thread
from fastapi import BackgroundTasks, HTTPException, Query, Request, status
from fastapi import Path as InPath
from fastapi.responses import FileResponse
from pydantic import Field

from interlock.adapters.artifacts.store import ArtifactStore
from interlock.adapters.signing.witness import as_witnessed, witness_signer
from interlock.adapters.testing.matrices import asked_cases, plans_of
from interlock.console.control.break_glass import OpenLedger
from interlock.console.control.lookups import OpenQuestion, open_questions
from interlock.console.pages.downloads import to_be_kept
from interlock.domain.board.accounts import CLERK
from interlock.domain.board.questions import ask_testers
from interlock.domain.board.voting import listed
from interlock.domain.canonical import Model, Sha256
from interlock.domain.errors import RequestRefused
from interlock.domain.ledger.chain import Entry, release_chain
from interlock.domain.ledger.kinds import CASE_ATTACHED
from interlock.domain.paths import question_page
from interlock.domain.testing.attachments import (
    MAX_BYTES,
    Attachment,
    attachments_in,
    kind_of,
    refuse_more,
    refuse_name,
)
from interlock.domain.testing.planning import PlannedCase, TestPlan

from .questions import is_for

BYTES = "application/octet-stream"
T = TypeVar("T")


class OwnCase(Model):
    """A test case that waits for the reader's result."""

    case: str = Field(description="The id of the case")
    title: str
    environment: str
    task_id: str
    map_index: int
    path: str = Field(description="The page of its question, below Airflow's address")
    files: tuple[Attachment, ...] = Field(description="What the reader has attached to it")


class CaseCollection(Model):
    """The test cases of a release that wait for the reader's result, in the order of their questions."""

    cases: tuple[OwnCase, ...]
    total_entries: int
    most_bytes: int = Field(MAX_BYTES, description="Of a file")


@dataclass(frozen=True, slots=True)
class _Asked:
    """An open question, and the case and plan that it is about."""

    question: OpenQuestion
    plan: TestPlan
    planned: PlannedCase

    @property
    def binds(self) -> Sha256:
        return self.planned.digest(self.plan.artifact)


def own_cases(
    request: Request,
    user: GetUserDep,
    dag_id: str,
    dag_run_id: str,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> CaseCollection:
    """Return the test cases of a release that wait for the reader's result, with the files that the reader attached."""
    entries = _entries(request, dag_id, dag_run_id)
    attached, by = attachments_in(entries), str(user.get_name())
    found = _open_cases(dag_id, dag_run_id, entries, request, user)
    return CaseCollection(
        cases=tuple(
            OwnCase(
                case=one.planned.case.id,
                title=one.planned.case.title,
                environment=one.plan.environment,
                task_id=one.question.task_id,
                map_index=one.question.map_index,
                path=question_page(dag_id, dag_run_id, one.question.task_id, one.question.map_index),
                files=tuple(file for file in attached if file.by == by and file.binds == one.binds),
            )
            for one in found[offset : offset + limit]
        ),
        total_entries=len(found),
    )


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
    _or_422(lambda: refuse_name(name))
    place = (dag_id, dag_run_id, task_id, map_index)
    await to_thread.run_sync(_asked_of, request, user, place)  # before the body is read
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


def _kept(
    request: Request, user: Any, place: tuple[str, str, str, int], name: str, file: BufferedRandom, size: int
) -> Attachment:
    """Keep a file, and record whose it is and to what it belongs."""
    kind, by, signer = _or_422(lambda: kind_of(file)), str(user.get_name()), witness_signer()
    chain, digest = release_chain(*place[:2]), hashlib.file_digest(file, "sha256").hexdigest()
    # One file of a release after the other, on all API servers: each is counted before the next one is weighed.
    with _open_ledger(request)() as ledger, ledger.turn(f"{CASE_ATTACHED}/{chain}"):
        entries, asked = _asked_of(request, user, place)  # once more: the body may have taken its time
        before = attachments_in(entries)
        for known in before:
            if (known.binds, known.by, known.file.sha256) == (asked.binds, by, digest):
                return known
        _or_422(lambda: refuse_more(before, by, asked.binds, size))
        made = Attachment(
            environment=asked.plan.environment,
            case=asked.planned.case.id,
            by=by,
            name=name,
            kind=kind,
            file=_store(request).put_file(Path(file.name), f"attached.{kind}"),
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
    for one in attachments_in(_entries(request, dag_id, dag_run_id)):
        if one.file.sha256 == sha256:
            return to_be_kept(one.file, one.leaves_as, _store(request), afterwards)
    raise HTTPException(status.HTTP_404_NOT_FOUND, f"{dag_id}, run {dag_run_id}, has no attached file {sha256}.")


def _asked_of(request: Request, user: Any, place: tuple[str, str, str, int]) -> tuple[Sequence[Entry], _Asked]:
    """Return the chain of a release, and the open test case that a request is about.

    :raises HTTPException: 404: there is no such test case; 409: it has a result; 403: it is for other testers.
    """
    dag_id, run_id, task_id, map_index = place
    entries = _entries(request, dag_id, run_id)
    if task_id not in map(ask_testers, plans_of(entries)):
        raise HTTPException(
            status.HTTP_404_NOT_FOUND, f"{dag_id}, run {run_id}, asks nobody for test cases in {task_id}."
        )
    questions = [one for one in open_questions(dag_id, run_id) if (one.task_id, one.map_index) == place[2:]]
    if not questions:
        raise HTTPException(
            status.HTTP_409_CONFLICT,
            f"The file was not attached: the test case {map_index} of {task_id} does not wait for a result. Rule: a "
            "file is attached before the result, which stands as it was given.",
        )
    mine = _open_cases(dag_id, run_id, entries, request, user, questions)
    if not mine:
        people = listed([name for account, name in questions[0].assigned.items() if account != CLERK], "or")
        raise HTTPException(
            status.HTTP_403_FORBIDDEN,
            f"The file was not attached: this test case is for {people}. Rule: who may give the result of a test case "
            "may attach files to it.",
        )
    return entries, mine[0]


def _open_cases(
    dag_id: str,
    run_id: str,
    entries: Sequence[Entry],
    request: Request,
    user: Any,
    questions: Sequence[OpenQuestion] | None = None,
) -> list[_Asked]:
    """Return the test cases of a release that wait for the result of a user.

    :param questions: the open ones to look at; none: all of the run.
    """
    plans = {ask_testers(plan.environment): plan for plan in plans_of(entries).values()}
    if not plans:
        return []
    opened = open_questions(dag_id, run_id) if questions is None else questions
    own = [one for one in opened if one.task_id in plans and is_for(user, one.assigned)]
    store = _store(request)
    cases = {task: asked_cases(plans[task], store) for task in {one.task_id for one in own}}
    found = [
        _Asked(one, plans[one.task_id], cases[one.task_id][one.map_index])
        for one in own
        if 0 <= one.map_index < len(cases[one.task_id])
    ]
    return [one for one in found if user.get_name() in one.planned.testers]  # whose result would count


def _entries(request: Request, dag_id: str, run_id: str) -> Sequence[Entry]:
    with _open_ledger(request)() as ledger:
        found: Sequence[Entry] = ledger.entries(release_chain(dag_id, run_id))
    return found


def _open_ledger(request: Request) -> OpenLedger:
    opener: OpenLedger = request.app.state.open_ledger
    return opener


def _store(request: Request) -> ArtifactStore:
    store: ArtifactStore = request.app.state.open_artifacts()
    return store


def _or_422(check: Callable[[], T]) -> T:
    """Answer with 422 and the reason if a check refuses what was sent."""
    try:
        return check()
    except RequestRefused as error:
        raise HTTPException(status.HTTP_422_UNPROCESSABLE_CONTENT, str(error)) from error
