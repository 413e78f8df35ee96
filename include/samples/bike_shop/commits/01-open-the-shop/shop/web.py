"""A request, an answer, and the way from the one to the other."""

import html
import json
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from string import Template
from urllib.parse import parse_qs
from wsgiref.types import StartResponse, WSGIEnvironment

HERE = Path(__file__).parent
TEMPLATES = {file.stem: Template(file.read_text("utf-8")) for file in (HERE / "templates").glob("*.html")}
STATIC = {file.name: file.read_bytes() for file in (HERE / "static").iterdir()}
TYPES = {".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
LARGEST_FORM = 64 * 1024


@dataclass(frozen=True)
class Request:
    """What a customer's browser sent."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)
    cookies: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, environ: WSGIEnvironment) -> "Request":
        """Read a request from WSGI's environment."""
        length = min(int(environ.get("CONTENT_LENGTH") or 0), LARGEST_FORM)
        form = environ["wsgi.input"].read(length).decode("utf-8", "replace") if length else ""
        return cls(
            environ["REQUEST_METHOD"],
            environ.get("PATH_INFO") or "/",
            _first(environ.get("QUERY_STRING", "")),
            _first(form),
            _cookies(environ.get("HTTP_COOKIE", "")),
        )


@dataclass(frozen=True)
class Answer:
    """What the shop sends back."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = "text/html; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


Page = Callable[[Request], Answer]


class Application:
    """A WSGI application: pages by method and path."""

    def __init__(self, pages: Mapping[tuple[str, str], Page]) -> None:
        """Serve these pages and the static files."""
        self.pages = pages

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request; a page that breaks is answered with 500 and its reason is in the log."""
        request = Request.read(environ)
        try:
            answer = self.answer(request)
        except Exception:
            traceback.print_exc(file=sys.stderr)
            answer = error(HTTPStatus.INTERNAL_SERVER_ERROR, "Something broke", "We are already looking for our tools.")
        headers = [("Content-Type", answer.content_type), ("Content-Length", str(len(answer.body))), *answer.headers]
        start_response(f"{answer.status.value} {answer.status.phrase}", headers)
        return [] if request.method == "HEAD" else [answer.body]

    def answer(self, request: Request) -> Answer:
        """Find the page and let it answer."""
        method = "GET" if request.method == "HEAD" else request.method
        if page := self.pages.get((method, request.path)):
            return page(request)
        if request.path.startswith("/static/"):
            return static(request.path.removeprefix("/static/"))
        if any(path == request.path for _, path in self.pages):
            return error(HTTPStatus.METHOD_NOT_ALLOWED, "Not like this", "This page does not take such a request.")
        return error(HTTPStatus.NOT_FOUND, "Wrong turn", "There is no such page in our shop.")


def render(template: str, **values: str) -> str:
    """Fill a template; the values are HTML."""
    return TEMPLATES[template].substitute(values)


def text(value: object) -> str:
    """Return a value as HTML text, safe inside of attributes as well."""
    return html.escape(str(value))


def page(title: str, content: str, *, status: HTTPStatus = HTTPStatus.OK, **headers: str) -> Answer:
    """Answer with a page of the shop; ``Set_Cookie="…"`` becomes a header."""
    body = render("layout", title=text(title), nav=render("nav"), content=content).encode()
    return Answer(body, status, headers=tuple((name.replace("_", "-"), value) for name, value in headers.items()))


def error(status: HTTPStatus, title: str, sentence: str) -> Answer:
    """Answer with an error page."""
    content = render("error", number=str(status.value), title=text(title), sentence=text(sentence))
    return page(title, content, status=status)


def as_json(value: object) -> Answer:
    """Answer with JSON that nobody keeps."""
    return Answer(json.dumps(value).encode(), content_type="application/json", headers=(("Cache-Control", "no-store"),))


def see_other(path: str, **headers: str) -> Answer:
    """Send the browser on to another page after a form."""
    kept = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Answer(b"", HTTPStatus.SEE_OTHER, headers=(("Location", path), *kept))


def static(name: str) -> Answer:
    """Answer with a file of the static folder."""
    if name not in STATIC:
        return error(HTTPStatus.NOT_FOUND, "Wrong turn", "There is no such file in our shop.")
    kind = TYPES.get(Path(name).suffix, "application/octet-stream")
    return Answer(STATIC[name], content_type=kind, headers=(("Cache-Control", "max-age=300"),))


def _first(encoded: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(encoded).items()}


def _cookies(header: str) -> dict[str, str]:
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(header).items()}
    except CookieError:  # somebody else's cookie for this domain: the customer can do nothing about it
        return {}
