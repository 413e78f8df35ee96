"""Whether release control stands in front of the API that tasks talk to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from interlock.adapters.airflow.execution_api import refuse_unguarded
from interlock.domain.errors import PolicyViolation, TransientError
from interlock.stages.runtime import permits, resources
from tests.ports import free_port


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            return

    asked: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/execution/"
        finally:
            server.shutdown()
            thread.join()
    assert set(asked) == {"/execution/interlock"}


def test_what_the_door_answers_is_a_guarded_api() -> None:
    with answering(200, b'{"detail": "guarded"}') as url:
        refuse_unguarded(url)
        refuse_unguarded(url.rstrip("/"))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(404, b'{"detail": "Not Found"}', id="airflow-alone"),
        pytest.param(401, b'{"detail": "guarded"}', id="somebody-else"),
        pytest.param(200, b"guarded", id="a-page"),
        pytest.param(200, b'["guarded"]', id="a-list"),
        pytest.param(200, b'{"detail": "yes"}', id="another-word"),
    ],
)
def test_an_api_without_the_door_is_refused_with_what_to_do(status: int, body: bytes) -> None:
    with answering(status, body) as url, pytest.raises(PolicyViolation, match="is not protected") as refused:
        refuse_unguarded(url)
    assert "airflow_local_settings" in str(refused.value)
    assert "platform engineer" in str(refused.value)


def test_an_api_that_does_not_answer_now_is_asked_again() -> None:
    with pytest.raises(TransientError, match="Could not check"):
        refuse_unguarded(f"http://127.0.0.1:{free_port()}/execution/")
    with answering(503, b"") as url, pytest.raises(TransientError, match="503"):
        refuse_unguarded(url)


def test_a_permit_names_an_api_that_is_not_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert permits._of_the_api() == ()
    with answering(404, b"") as url:
        monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", url)
        assert "is not protected" in permits._of_the_api()[0]


@pytest.mark.parametrize(("served", "below"), [("", ""), ("/airflow", "/airflow")])
def test_without_a_setting_the_api_is_where_airflow_looks_for_it(
    monkeypatch: pytest.MonkeyPatch, served: str, below: str
) -> None:
    asked: list[str] = []
    monkeypatch.delenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL")
    monkeypatch.setattr(resources, "refuse_unguarded_api", asked.append)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", f"http://airflow.example:8080{served}/")
    resources.refuse_unguarded()
    assert asked == [f"http://airflow.example:8080{below}/execution/"]
