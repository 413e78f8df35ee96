"""Releases as CDEvents 0.4.1 (https://cdevents.dev), in CloudEvents: what tools of continuous delivery understand.

A release is a ``pipelineRun``: queued when it is planned, started when production is changed for the first time, and
finished when it is closed. Its service is ``upgraded`` when the verification proves it, and ``rolledback`` when it was
backed out. CDEvents has no words for the other facts of a release: nothing is sent of them.
"""

from __future__ import annotations

from datetime import UTC
from typing import Any
from urllib.parse import quote

from interlock.domain.outbox.facts import Statement

VERSION = "0.4.1"
_TYPE = "dev.cdevents.{}.0.2.0"
OUTCOMES = {"deployed": "success", "rehearsed": "success", "failed": "error"}
"""How a release ended: the outcome of its pipeline run; all others are failures."""


def cdevent_of(id: str, source: str, page: str, statement: Statement) -> dict[str, Any] | None:
    """Return a statement as a CDEvent; None: CDEvents has no event for it.

    :param id: unique within the source.
    :param source: a URI reference.
    :param page: the address of the release's page.
    """
    change = statement.change
    run: dict[str, Any] = {"pipelineName": f"release {change.service}", "url": page}
    service = {"environment": {"id": change.environment}, "artifactId": _purl(change.service, change.version)}
    match statement.event:
        case "planned":
            return _event(id, source, statement, "pipelinerun.queued", change.chain, run)
        case "begun":
            return _event(id, source, statement, "pipelinerun.started", change.chain, run)
        case "verified" if statement.done:
            return _event(id, source, statement, "service.upgraded", change.service, service)
        case "backed_out":
            return _event(id, source, statement, "service.rolledback", change.service, service)
        case "closed":
            outcome = OUTCOMES.get(change.outcome or "", "failure")
            ended = {"outcome": outcome, **({"errors": change.reason} if outcome != "success" else {})}
            return _event(id, source, statement, "pipelinerun.finished", change.chain, run | ended)
    return None


def _event(
    id: str, source: str, statement: Statement, what: str, subject: str, content: dict[str, Any]
) -> dict[str, Any]:
    return {
        "context": {
            "version": VERSION,
            "id": id,
            "source": source,
            "type": _TYPE.format(what),
            "timestamp": statement.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        },
        "subject": {
            "id": subject,
            "source": source,
            "type": "pipelineRun" if what.startswith("pipelinerun") else "service",
            "content": content,
        },
        "customData": {"text": statement.text, "release": statement.change.model_dump(mode="json")},
        "customDataContentType": "application/json",
    }


def _purl(service: str, version: str) -> str:
    """Return what was deployed as a package URL."""
    return f"pkg:generic/{quote(service, safe='')}@{quote(version, safe='')}"
