"""Votes in Airflow's database: written for who did not vote, turned round, moved; and a false witness of them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import psycopg2
import pytest

from interlock.console.control.rules import ROOTS
from interlock.domain.ledger.chain import INSTALLATION, release_chain
from interlock.domain.ledger.kinds import ANSWER_GIVEN, RUN_ASKED, WITNESSED
from interlock.domain.ledger.witness import GivenAnswer, question_digest
from tests.end_to_end.people import Release, until
from tests.end_to_end.stack import Stack

from . import wave
from .databases import AirflowDatabase, LedgerDatabase
from .people import BALLOT, BOARD, TAMPERED, TRAINING, accepted, at_the_training, go, refused, vote
from .suite import ADMIN, LEDGER_OWNER, LEDGER_WRITER, OWNER, WRITTEN, attack

pytestmark = pytest.mark.timeout(1800)


def settled(release: Release) -> None:
    """Wait until the board has decided, one way or the other."""
    until("the board to decide", lambda: release.states()[BOARD] in ("success", "failed"))


def is_approved(release: Release) -> bool:
    """Say whether the release goes on to production by itself; end it if it does."""
    if release.states()[BOARD] != "success":
        return False
    at_the_training(release)
    return wave.refusal(release) == ""


def ended_for_the_answer_of(member: str, release: Release) -> None:
    """Check that a release did not go on, and that the answer which nobody gave is why."""
    assert not is_approved(release)
    release.finish()
    outcome = release.outcome()
    assert (outcome["outcome"], outcome["stage"]) == ("failed", "rollout")
    assert f"{member}'s answer “Approve” to {BALLOT}[" in outcome["reason"]
    assert "was not submitted through Airflow's API" in outcome["reason"]
    assert any("was not submitted" in what for what in wave.findings(release))


def end(stack: Stack, release: Release) -> None:
    """End a release that is still under way, whichever way it went: nothing comes to production."""
    until(
        "the release to end or to ask support",
        lambda: release.state != "running" or "awaiting_input" in release.states().get(TRAINING, ""),
    )
    if release.state == "running":
        stack.person("sam").decide(release, TRAINING, "Not ready", "An attack got through")
    release.finish()


@pytest.fixture(scope="module")
def forged(stack: Stack, database: AirflowDatabase) -> Iterator[Release]:
    """A release whose approvals were all written into Airflow's database."""
    release = accepted(stack)
    for member in ("ben", "cora"):
        database.write_answer(release, BALLOT, member, "Approve")
    TAMPERED["votes"] = release
    settled(release)
    yield release
    end(stack, release)


@attack("write approvals for members who did not vote", by=OWNER, way="database", stopped=WRITTEN)
def test_an_approval_that_nobody_gave_does_not_count(forged: Release) -> None:
    ended_for_the_answer_of("ben", forged)


@attack(
    "append an answer to the ledger with the password that tasks have",
    by=LEDGER_WRITER,
    way="database",
    stopped="the ledger's database takes what came in at the API from the API server's own role only",
)
@pytest.mark.parametrize("kind", WITNESSED)
def test_the_writer_appends_no_answer(forged: Release, ledger_database: LedgerDatabase, kind: str) -> None:
    of_runs = kind in (RUN_ASKED, ANSWER_GIVEN)
    chain = release_chain(forged.dag_id, forged.id) if of_runs else INSTALLATION
    with pytest.raises(psycopg2.Error, match="is appended by Airflow's API server only"):
        ledger_database.as_writer(
            "INSERT INTO ledger.entries (chain, sequence, at, actor, kind, key, payload, previous, hash)"
            " SELECT chain, sequence + 1, now(), 'ben', %s, 'mine', '{}', hash, hash FROM ledger.entries"
            " WHERE chain = %s ORDER BY sequence DESC LIMIT 1",
            *(kind, chain),
        )


@pytest.fixture(scope="module")
def forged_twice(stack: Stack, database: AirflowDatabase, ledger_database: LedgerDatabase) -> Iterator[Release]:
    """A release whose approvals were written into Airflow's database, and into the ledger as well."""
    release = accepted(stack)
    chain = release_chain(release.dag_id, release.id)
    ballots = [one for one in release.questions() if one.task_id == BALLOT]
    asked = {one.assigned[0]: one for one in ballots}
    with ledger_database.as_superuser() as ledger:
        for member in ("ben", "cora"):
            one = asked[member]
            given = GivenAnswer(
                user=member,
                task_id=BALLOT,
                map_index=one.map_index,
                choice="Approve",
                comment="Fine with me",
                question=question_digest(one.subject, one.body, one.assigned),
            )
            ledger.append(
                chain, ANSWER_GIVEN, given.model_dump(mode="json"), actor=member, key=f"{ANSWER_GIVEN}/{member}"
            )
            database.write_answer(release, BALLOT, member, "Approve")
    TAMPERED["votes, in both databases"] = release
    settled(release)
    yield release
    end(stack, release)


@attack(
    "write approvals into Airflow's database and into the ledger, as its superuser",
    by=LEDGER_OWNER,
    way="database",
    stopped="an answer counts if Airflow's API server signed it, with a key that no task can read",
)
def test_an_answer_that_nobody_signed_does_not_count(forged_twice: Release) -> None:
    ended_for_the_answer_of("ben", forged_twice)


@pytest.fixture(scope="module")
def reworded(stack: Stack, database: AirflowDatabase) -> Iterator[Release]:
    """A release whose ballots said something else when members voted; the digest's sentence was left."""
    release = accepted(stack)
    database.run(
        "UPDATE hitl_detail SET body = 'A harmless change of a text. ' || body FROM task_instance t"
        " WHERE t.id = ti_id AND t.dag_id = %s AND t.run_id = %s AND t.task_id = %s",
        *(release.dag_id, release.id, BALLOT),
    )
    TAMPERED["the text of ballots"] = release
    vote(stack, release, "ben", "Approve")
    vote(stack, release, "cora", "Approve")
    settled(release)
    yield release
    end(stack, release)


@attack(
    "have members approve something else than they read, by replacing the text of their ballots",
    by=OWNER,
    way="database",
    stopped="a question is compared with what was worded and signed, before it is asked and before it counts",
)
def test_a_ballot_with_another_text_does_not_count(reworded: Release) -> None:
    assert not is_approved(reworded)
    reworded.finish()
    assert f"A question of {BALLOT} was changed: its text or its assignees" in reworded.outcome()["reason"]
    assert any("was changed: its text or its assignees" in what for what in wave.findings(reworded))


@pytest.fixture(scope="module")
def turned(stack: Stack, database: AirflowDatabase) -> Iterator[Release]:
    """A release that one member rejected and one approved; the rejection was turned into an approval."""
    release = accepted(stack)
    vote(stack, release, "dan", "Reject", "Not during the sale")
    time.sleep(5)  # it is counted within two seconds
    until("the board to be waited for again", lambda: release.states()[BOARD] == "deferred")
    database.write_answer(release, BALLOT, "dan", "Approve")
    TAMPERED["a vote"] = release
    vote(stack, release, "ben", "Approve")
    settled(release)
    yield release
    end(stack, release)


@attack("turn a rejection into an approval while the board is voting", by=OWNER, way="database", stopped=WRITTEN)
def test_a_rejection_that_was_turned_round_does_not_count(turned: Release) -> None:
    ended_for_the_answer_of("dan", turned)


@contextmanager
def false_witness(stack: Stack) -> Iterator[int]:
    """Serve Airflow's API, with every ballot approved by its member; return its port."""
    real = stack.settings.airflow_url

    class FalseWitness(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._pass_on(None)

        def do_POST(self) -> None:
            self._pass_on(self.rfile.read(int(self.headers.get("Content-Length", 0))))

        def _pass_on(self, body: bytes | None) -> None:
            kept = {name: self.headers[name] for name in ("Authorization", "Content-Type") if name in self.headers}
            reply = httpx.request(
                self.command, real + self.path, content=body, headers=kept, timeout=30, trust_env=False
            )
            content = reply.json()
            for detail in content.get("hitl_details", ()) if isinstance(content, dict) else ():
                if detail["task_instance"]["task_id"] == BALLOT and not detail["response_received"]:
                    member = detail["assigned_users"][0]["id"]
                    detail |= {"response_received": True, "chosen_options": ["Approve"], "params_input": {}}
                    detail |= {"responded_by_user": {"id": "1", "name": member}, "responded_at": detail["created_at"]}
            data = json.dumps(content).encode()
            self.send_response(reply.status_code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), FalseWitness)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def misled_by_a_witness(stack: Stack, database: AirflowDatabase) -> Release:
    """A release that was told to read its votes from somebody else's server, by an edited connection."""
    release = accepted(stack)
    edit = "UPDATE connection SET port = %s WHERE conn_id = 'interlock_airflow'"
    TAMPERED["a connection"] = release
    with false_witness(stack) as port:
        database.run(edit, port)
        try:
            vote(stack, release, "ben", "Approve")  # whoever counts looks again, and asks the false witness
            settled(release)
            if release.states()[BOARD] == "success":
                at_the_training(release)
                go(stack, release)
                release.finish()
        finally:
            database.run(edit, stack.settings.airflow_port)
    release.finish()
    return release


@attack(
    "have the votes read from a server of one's own, by editing a connection",
    by=OWNER,
    way="database",
    stopped=WRITTEN,
)
def test_a_false_witness_is_not_believed(stack: Stack, misled_by_a_witness: Release) -> None:
    assert misled_by_a_witness.state == "failed"
    assert stack.production() == {"1.0.0"}
    outcome = misled_by_a_witness.outcome()
    assert outcome["outcome"] in ("failed", "rejected"), outcome
    assert wave.findings(misled_by_a_witness), outcome


@attack(
    "have votes read, recorded or signed elsewhere, by editing a connection",
    by=ADMIN,
    way="API",
    stopped="the door refuses it, and records the attempt: what proof rests on is set up where Airflow is deployed",
)
@pytest.mark.parametrize("name", sorted(ROOTS))
def test_nobody_edits_what_proof_rests_on(stack: Stack, name: str) -> None:
    admin, mine = stack.person("admin"), {"connection_id": name, "conn_type": "generic", "host": "127.0.0.1", "port": 1}
    before = admin.get(f"connections/{name}")
    bulk = {"actions": [{"action": "update", "entities": [mine], "action_on_non_existence": "fail"}]}
    for method, path, content in (
        ("PATCH", f"connections/{name}?update_mask=port", mine),
        ("PATCH", "connections", bulk),
        ("PATCH", "connections", {"actions": [{"action": "delete", "entities": [name]}]}),
        ("DELETE", f"connections/{name}", None),
        ("POST", "connections", mine),
    ):
        refused(admin.send(method, path, content), "admin", "protects the release process")
    assert admin.get(f"connections/{name}") == before
