"""Errors of the API as problem details (RFC 9457): what happened, which rule decided, who can change it, what next."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import Field
from starlette.exceptions import HTTPException as StarletteHTTPException

from interlock.domain.canonical import Model
from interlock.domain.errors import ReleaseError

MEDIA_TYPE = "application/problem+json"


class Problem(Model):
    """An error."""

    type: str = Field("about:blank", description="Always about:blank: the status says what kind of error it is")
    title: str = Field(description="The name of the status")
    status: int
    detail: str = Field(description="What happened, and to what")
    rule: str = Field("", description="The rule that decided, with its file")
    who: str = Field("", description="Who can change it")
    next_step: str = Field("", description="What to do next")


RESPONSES: dict[int | str, dict[str, Any]] = {
    code: {
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        "description": HTTPStatus(code).phrase,
    }
    for code in (401, 403, 422, 503)
}
"""The errors that each route can answer with, for the OpenAPI document."""


def answer_with_problems(app: FastAPI) -> None:
    """Let an app answer each error as a problem, and describe problems in its OpenAPI document."""
    described = app.openapi

    def with_problems() -> dict[str, Any]:
        found = described()
        found["components"]["schemas"]["Problem"] = Problem.model_json_schema()
        return found

    app.openapi = with_problems  # type: ignore[method-assign]
    app.exception_handler(StarletteHTTPException)(_of_http)
    app.exception_handler(RequestValidationError)(_of_validation)
    app.exception_handler(ReleaseError)(_of_release)


def _problem(status: int, detail: str, headers: Any = None, **more: str) -> Response:
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, **more)
    return JSONResponse(problem.model_dump(), status, headers=headers, media_type=MEDIA_TYPE)


def _of_http(request: Request, error: HTTPException) -> Response:
    return _problem(error.status_code, str(error.detail), error.headers)


def _of_validation(request: Request, error: RequestValidationError) -> Response:
    # Not what was sent: it may be anything, and as long as a URL may be.
    found = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()]
    return _problem(422, f"The request is not valid: {'; '.join(found)}.", next_step="correct the parameters")


def _of_release(request: Request, error: ReleaseError) -> Response:
    return _problem(503, error.what, rule=error.rule, who=error.who, next_step=error.next_step)
