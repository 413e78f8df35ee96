"""The part of Systems Manager that moto's server does not have: Automations, as AWS documents them.

A client token makes an execution once: the same request with the same token gets the same execution, and another one is
refused. Executions are found by their tags.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Automations(ThreadingHTTPServer):
    """A server with one document, and its executions."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.document = {"Name": "Shop-Dns", "DocumentType": "Automation", "DocumentVersion": "3", "Hash": "5a" * 32}
        self.executions: list[dict[str, Any]] = []
        self.tokens: dict[str, tuple[str, str]] = {}
        self.begins_as = "Success"
        self.shown = True
        """Whether executions are listed already."""
        self.troubles: list[int] = []
        """Status of the next answers."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def describe_document(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"Document": self.document | {"DocumentVersion": asked.get("DocumentVersion", "3")}}

    def start_automation_execution(self, asked: dict[str, Any]) -> dict[str, Any]:
        request = json.dumps({key: value for key, value in asked.items() if key != "ClientToken"}, sort_keys=True)
        if (known := self.tokens.get(asked["ClientToken"])) is not None:
            if known[0] != request:
                raise ValueError("IdempotentParameterMismatch")
            return {"AutomationExecutionId": known[1]}
        id = str(uuid.uuid4())
        self.tokens[asked["ClientToken"]] = request, id
        self.executions.append(
            {
                "AutomationExecutionId": id,
                "DocumentName": asked["DocumentName"],
                "DocumentVersion": asked["DocumentVersion"],
                "AutomationExecutionStatus": self.begins_as,
                "ExecutionStartTime": datetime.now(UTC).timestamp(),
                "tags": [tag["Key"] for tag in asked["Tags"]],
            }
        )
        return {"AutomationExecutionId": id}

    def describe_automation_executions(self, asked: dict[str, Any]) -> dict[str, Any]:
        (wanted,) = asked["Filters"]
        assert wanted["Key"] == "TagKey"
        found = [one for one in self.executions if self.shown and set(wanted["Values"]) & set(one["tags"])]
        listed = [{key: value for key, value in one.items() if key != "tags"} for one in found]
        return {"AutomationExecutionMetadataList": listed}

    def stop_automation_execution(self, asked: dict[str, Any]) -> dict[str, Any]:
        for one in self.executions:
            if one["AutomationExecutionId"] == asked["AutomationExecutionId"]:
                one["AutomationExecutionStatus"] = "Cancelled"
        return {}


class _Handler(BaseHTTPRequestHandler):
    server: Automations

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        action = self.headers["X-Amz-Target"].partition(".")[2]
        does = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in action).strip("_")
        status, answer = 200, {}
        try:
            answer = getattr(self.server, does)(asked)
        except ValueError as error:
            status, answer = 400, {"__type": str(error), "message": "The token was used for another request."}
        if self.server.troubles:  # the request was heard, and its answer is lost
            status, answer = self.server.troubles.pop(0), {"__type": "InternalServerError"}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def automations() -> Iterator[Automations]:
    """Serve until the end of the block."""
    with Automations() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
