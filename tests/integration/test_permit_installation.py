"""An installation that is broken in one way after the other gives no permit, with the check as the reason."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time.context import set_current_context

from interlock.adapters.ledger.ledger import Ledger, open_ledger
from interlock.adapters.permits.installation import API_SERVERS, api_servers
from interlock.adapters.signing.signing import generate_key, key_id
from interlock.domain.catalogue import ChangeType
from interlock.domain.change.effective import digests_by_type, marks_of
from interlock.domain.errors import HeldBack, TransientError
from interlock.domain.permits.installation import BY_NAME, BY_NUMBER
from interlock.domain.permits.objections import of_installation, refuse
from interlock.estate.settings import Settings
from interlock.stages.runtime import installation, resources
from tests.airflow_server import ACCOUNTS, RUN, AirflowServer, airflow_server
from tests.integration.ledger_server import ledger_connection, ledger_server
from tests.integration.test_rollback import as_owner
from tests.ports import free_port
from tests.task_instance import task_instance

OTHER = "0" * 64


class ApiServer(ThreadingHTTPServer):
    """An API server of Airflow's, as far as it says of itself what it is."""

    def __init__(self, said: dict[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Says)
        self.said, self.asked = said, 0
        self.later: list[dict[str, Any]] = []
        """What it says after each answer."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Says(BaseHTTPRequestHandler):
    server: ApiServer

    def do_GET(self) -> None:
        self.server.asked += 1
        status, said = (200, self.server.said) if self.server.said else (404, {"detail": "Not Found"})
        if self.server.later:
            self.server.said = self.server.later.pop(0)
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def api_server(said: dict[str, Any]) -> Iterator[ApiServer]:
    with ApiServer(said) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with ledger_server(tmp_path_factory.mktemp("ledger") / "state") as running:
        yield running


class Place:
    """An installation of which all checks hold, until a test breaks one."""

    def __init__(self, servers: list[ApiServer], airflow: AirflowServer, postgres: Settings) -> None:
        self.servers, self.airflow, self.postgres = servers, airflow, postgres

    def marked(self, text: str) -> None:
        """Have Airflow keep another documentation of the Dag."""
        self.airflow.more[f"/api/v2/dags/{RUN[0]}/details"] = {"doc_md": text}

    def said(self) -> str:
        """Say why there is no permit; empty: there is one."""
        ti = task_instance(RUN[0], "implementation.wave_1")
        context: Any = {"ti": ti, "dag_run": SimpleNamespace(dag_id=RUN[0], run_id=RUN[1]), "params": {}}
        with set_current_context(context):
            found = installation.faults_now(resources.catalogue_of("bike-shop"), ChangeType.NORMAL)
        try:
            refuse([*of_installation(found)])
        except HeldBack as error:
            return str(error)
        return ""


@pytest.fixture
def place(postgres: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    generate_key(tmp_path / "witness.pem")
    public = tmp_path / "witness.pem.pub"
    monkeypatch.setenv("INTERLOCK_WITNESS_PUBLIC_KEY", str(public))
    catalogue = resources.catalogue_of("bike-shop")
    said = {
        "detail": "guarded",
        "witness_key": key_id(public.read_bytes()),
        "guard": "plugin",
        "people": BY_NAME,
        "rules": digests_by_type(catalogue),
    }
    monkeypatch.setattr(resources, "ledger", lambda: open_ledger(ledger_connection(postgres)))
    monkeypatch.setattr(installation, "SETTLING_SECONDS", 0.0)
    monkeypatch.setattr(installation, "POLL_SECONDS", 0.01)
    with airflow_server() as airflow, api_server(dict(said)) as first, api_server(dict(said)) as second:
        url = f"http://reader:{ACCOUNTS['reader']}@127.0.0.1:{airflow.port}"
        monkeypatch.setenv(f"AIRFLOW_CONN_{resources.AIRFLOW.upper()}", url)
        monkeypatch.setenv(API_SERVERS, f"{first.url}, {second.url}/")
        made = Place([first, second], airflow, postgres)
        made.marked(f"# Release\n{marks_of(catalogue)}")
        yield made


def test_where_all_checks_hold_each_api_server_was_asked(place: Place) -> None:
    assert place.said() == ""
    assert [server.asked for server in place.servers] == [1, 1]


def test_a_name_with_several_addresses_stands_for_a_server_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a headless Service of Kubernetes has them; a certificate would be made out to the name."""
    places = [(socket.AF_INET, 0, 0, "", (place, 8080)) for place in ("10.0.0.6", "10.0.0.5", "10.0.0.5")]
    places.append((socket.AF_INET6, 0, 0, "", ("::5", 8080)))
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: places if host == "each" else places[2:])
    monkeypatch.setenv(API_SERVERS, "http://each:8080/below, http://one:8080, https://each:8443")
    several = ("http://10.0.0.5:8080/below", "http://10.0.0.6:8080/below")
    assert api_servers() == (*several, "http://one:8080", "https://each:8443")


def test_a_name_without_an_address_is_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_SERVERS, "http://api-servers.invalid:8080")
    with pytest.raises(TransientError, match="cannot be found"):
        api_servers()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"detail": "Not Found"}, "It is not guarded", id="no door"),
        pytest.param({"guard": ""}, "Nothing there keeps people from marking", id="no guard"),
        pytest.param({"people": BY_NUMBER}, "knows people by number", id="another auth manager"),
        pytest.param({"witness_key": ""}, "cannot sign what people answer", id="no key"),
        pytest.param({"witness_key": "ab"}, "signs answers with another key", id="another key"),
        pytest.param({"rules": {"normal": OTHER}}, "has other rules for this release", id="another catalogue"),
        pytest.param({"rules": {}}, "has other rules for this release", id="no such service"),
    ],
)
def test_one_of_two_api_servers_that_is_broken_keeps_the_permit_back(
    place: Place, change: dict[str, Any], words: str
) -> None:
    place.servers[1].said.update(change)
    said = place.said()
    assert words in said
    assert f"The check of API server {place.servers[1].url} does not hold" in said
    assert place.servers[0].url not in said
    assert "every check of interlock doctor" in said
    assert "the platform engineer" in said


def test_a_server_without_the_plugin_keeps_the_permit_back(place: Place) -> None:
    place.servers[0].said.clear()
    assert "It is not guarded: Interlock's plugin is not loaded" in place.said()


def test_a_server_that_does_not_answer_now_is_asked_again_by_another_try(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(API_SERVERS, f"http://127.0.0.1:{free_port()}")
    with pytest.raises(TransientError, match="Could not check"):
        place.said()


def test_a_writer_of_the_ledger_who_may_change_entries_keeps_the_permit_back(place: Place) -> None:
    as_owner(place.postgres, "entries", "GRANT UPDATE ON ledger.entries TO interlock_ledger_writer")
    try:
        assert "The check of ledger does not hold: interlock_ledger_writer can change or delete rows" in place.said()
    finally:
        as_owner(place.postgres, "entries", "REVOKE UPDATE ON ledger.entries FROM interlock_ledger_writer")
    assert place.said() == ""


def test_a_clock_that_differs_from_the_ledgers_keeps_the_permit_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Ledger.server_time
    monkeypatch.setattr(Ledger, "server_time", lambda self: real(self) + timedelta(seconds=90))
    assert "The clock of its server differs by 90 s" in place.said()


def test_a_dag_processor_with_other_rules_keeps_the_permit_back(place: Place) -> None:
    place.marked(f"[rules of normal releases]: # ({OTHER})")
    assert "The tasks of this release were made from a catalogue with other rules" in place.said()
    place.marked(f"[rules of emergency releases]: # ({OTHER})")
    assert place.said() == "", "what is said of other change types does not matter"


def test_an_edit_of_the_catalogue_has_time_to_reach_all_components(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "SETTLING_SECONDS", 60.0)
    server = place.servers[0]
    new = dict(server.said)
    server.later = [new]
    server.said = {**new, "rules": {"normal": OTHER}}
    assert place.said() == ""
    assert server.asked == 2
