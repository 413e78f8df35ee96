from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from interlock.adapters.source.git import open_repository
from interlock.domain.errors import SourceError
from interlock.stages.runtime import resources
from tests.certificates import certificate_of_this_machine
from tests.factories import releases
from tests.git_project import git_project

EXPECTED = "Basic " + base64.b64encode(b"release bot:s3cret/token").decode()


class GitOverHttps(SimpleHTTPRequestHandler):
    """Serves a folder to whoever knows the password, or sends everybody elsewhere."""

    def __init__(self, *arguments: Any, seen: list[str | None], elsewhere: str = "", **more: Any) -> None:
        self.seen, self.elsewhere = seen, elsewhere
        super().__init__(*arguments, **more)

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("Authorization"))
        if self.elsewhere:
            self.send_response(302)
            self.send_header("Location", self.elsewhere + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.seen[-1] != EXPECTED:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a certificate for 127.0.0.1 that git trusts."""
    pem = certificate_of_this_machine(tmp_path)
    monkeypatch.setenv("GIT_SSL_CAINFO", str(pem))
    return pem


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """Make a bare repository that can be fetched as plain files."""
    project = git_project(tmp_path / "project")
    project.commit({"README.md": "The shop\n"})
    project.git("clone", "--quiet", "--bare", str(project.folder), str(tmp_path / "served" / "shop.git"))
    project.git("--git-dir", str(tmp_path / "served" / "shop.git"), "update-server-info")
    return tmp_path / "served"


@contextmanager
def server(certificate: Path, folder: Path, elsewhere: str = "") -> Iterator[tuple[str, list[str | None]]]:
    """Give the address of a server, and the credentials that it is sent."""
    seen: list[str | None] = []
    handler = partial(GitOverHttps, seen=seen, elsewhere=elsewhere, directory=str(folder))
    listening = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    # The handshake is each connection's own affair: one that fails must not hold up the others.
    listening.socket = context.wrap_socket(listening.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{listening.server_port}", seen
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


def test_a_private_repository_is_fetched_with_the_connections_password(
    certificate: Path, served: Path, tmp_path: Path
) -> None:
    with server(certificate, served) as (address, _):
        url = f"https://{address}/shop.git"
        repository = open_repository(url, tmp_path / "bare.git", login="release bot", password="s3cret/token")
        assert repository.resolve("main").subject == "Change it"
        in_url = f"https://release%20bot:s3cret%2Ftoken@{address}/shop.git"
        assert open_repository(in_url, tmp_path / "other.git").url == url
    kept = b"".join(path.read_bytes() for path in (tmp_path / "other.git").rglob("*") if path.is_file())
    assert b"s3cret" not in kept


def test_a_stage_takes_the_password_from_the_services_connection(
    certificate: Path, served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = releases.service()
    with server(certificate, served) as (address, _):
        url = f"https://{address}/shop.git"
        connection = {"conn_type": "git", "host": url, "login": "release bot", "password": "s3cret/token"}
        monkeypatch.setenv(f"AIRFLOW_CONN_{shop.source.connection.upper()}", json.dumps(connection))
        with resources.repository(shop) as repository:
            assert repository.resolve("main").subject == "Change it"
        assert resources.repository_url(shop) == url
        monkeypatch.setenv(f"AIRFLOW_CONN_{shop.source.connection.upper()}", json.dumps({**connection, "password": ""}))
        with pytest.raises(SourceError, match="cannot be fetched"), resources.repository(shop):
            pass


def test_without_the_password_nobody_is_asked_and_nothing_leaks(
    certificate: Path, served: Path, tmp_path: Path
) -> None:
    with server(certificate, served) as (address, _):
        with pytest.raises(SourceError, match="cannot be fetched: fatal: could not read Username"):
            open_repository(f"https://{address}/shop.git", tmp_path / "bare.git")
        with pytest.raises(SourceError, match="cannot be fetched") as refusal:
            open_repository(f"https://bot:wr0ng-s3cret@{address}/shop.git", tmp_path / "bare.git")
    assert "wr0ng" not in str(refusal.value)


def test_a_password_is_for_its_own_server_only(certificate: Path, served: Path, tmp_path: Path) -> None:
    with server(certificate, served) as (other, seen), server(certificate, served, f"https://{other}") as (first, _):
        with pytest.raises(SourceError, match="cannot be fetched") as refusal:
            open_repository(f"https://{first}/shop.git", tmp_path / "bare.git", login="bot", password="s3cret/token")
        assert seen, refusal.value
        assert set(seen) == {None}


def test_a_server_with_a_certificate_that_nobody_vouches_for_is_refused(
    certificate: Path, served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GIT_SSL_CAINFO")
    with server(certificate, served) as (address, seen):
        with pytest.raises(SourceError, match="certificate"):
            open_repository(f"https://{address}/shop.git", tmp_path / "bare.git", login="bot", password="s3cret")
        assert seen == []
