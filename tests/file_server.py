"""A web server on the loopback interface that serves what a test puts there: files, redirects, and refusals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.http_server import Handler, http_server


@dataclass
class FileServer:
    """What is served, and what was asked for.

    :param answers: path: status, headers and body.
    :param asked: path and ``Authorization`` of each request.
    """

    url: str = ""
    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def put(self, path: str, data: bytes, *, status: int = 200, **headers: str) -> None:
        """Serve bytes at a path."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers[f"/{path.lstrip('/')}"] = (status, named, data)


@contextmanager
def file_server() -> Iterator[FileServer]:
    """Serve files for a block."""
    served = FileServer()

    class Answers(Handler):
        def do_GET(self) -> None:
            served.asked.append((self.path, self.headers.get("Authorization")))
            status, headers, body = served.answers.get(self.path, (404, {}, b"not here"))
            self.answer(status, body, headers)

    with http_server(Answers) as port:
        served.url = f"http://127.0.0.1:{port}"
        yield served
