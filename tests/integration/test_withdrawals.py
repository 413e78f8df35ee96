"""The Dag ``withdraw_release`` on a real ledger: what it records, once, and when it comes too late."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.execution_time.context import set_current_context

from interlock.adapters.ledger.ledger import Ledger, open_ledger
from interlock.adapters.ledger.withdrawals import releases_under_way
from interlock.adapters.signing.signing import generate_key, load_signer
from interlock.domain.canonical import sha256_of
from interlock.domain.errors import LedgerBroken, LostRight
from interlock.domain.ledger.chain import INSTALLATION, release_chain
from interlock.domain.ledger.kinds import RELEASE_WITHDRAWN, RUN_ASKED
from interlock.domain.ledger.witness import AskedRun
from interlock.domain.permits.withdrawal import Withdrawal
from interlock.estate.settings import Settings
from interlock.stages.controls import withdrawals
from interlock.stages.runtime import permits, resources
from tests.airflow_server import ACCOUNTS, RUN, AirflowServer, airflow_server
from tests.factories import releases
from tests.integration.ledger_server import ledger_connection, witness_connection
from tests.task_instance import task_instance
from tests.witness import asked_payload

CHAIN = release_chain(*RUN)
FORM = {"service": "bike-shop", "run": "", "reason": "The tag is wrong"}
Withdraw = Callable[..., dict[str, Any]]


@pytest.fixture
def run_id(request: pytest.FixtureRequest) -> str:
    """A run of its own for each test: nothing is ever removed from the ledger."""
    return f"manual__{sha256_of(request.node.nodeid.encode())[:12]}"


@pytest.fixture
def ledger(server: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """The ledger as tasks open it."""
    generate_key(tmp_path / "key")
    signer = load_signer((tmp_path / "key").as_uri())
    monkeypatch.setattr(resources, "signer", lambda: signer)
    monkeypatch.setattr(resources, "ledger", lambda: open_ledger(ledger_connection(server)))
    with open_ledger(ledger_connection(server)) as opened:
        yield opened


@pytest.fixture
def witness(server: Settings) -> Iterator[Ledger]:
    """The same ledger, as Airflow's API server opens it."""
    with open_ledger(witness_connection(server)) as opened:
        yield opened


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[AirflowServer]:
    with airflow_server() as running:
        url = f"http://reader:{ACCOUNTS['reader']}@127.0.0.1:{running.port}"
        monkeypatch.setenv("AIRFLOW_CONN_INTERLOCK_AIRFLOW", url)
        yield running


def asked(witness: Ledger, dag_id: str, run_id: str, user: str, form: dict[str, Any]) -> AskedRun:
    """Put on record that somebody asked for a run."""
    run = AskedRun(dag_id=dag_id, run_id=run_id, user=user, conf=sha256_of(form))
    if witness.find(run.chain, run.key) is None:
        witness.append(run.chain, RUN_ASKED, asked_payload(run, datetime.now(UTC)), actor=user, key=run.key)
    return run


@pytest.fixture
def release(witness: Ledger, airflow: AirflowServer, run_id: str) -> str:
    """A release that rita requested, and that is queued; return its chain."""
    airflow.runs["release_bike_shop", run_id] = {"dag_run_id": run_id, "state": "queued"}
    return asked(witness, "release_bike_shop", run_id, "rita", {}).chain


@pytest.fixture
def withdraw(ledger: Ledger, witness: Ledger, airflow: AirflowServer) -> Withdraw:
    """Withdraw a release as somebody, in a run."""

    def run(user: str, run_id: str, *, try_number: int = 1, **changes: str) -> dict[str, Any]:
        form = {**FORM, **changes}
        asked(witness, "withdraw_release", run_id, user, form)
        ti = task_instance("withdraw_release", "record_withdrawal", try_number=try_number)
        dag_run = SimpleNamespace(
            dag_id="withdraw_release", run_id=run_id, triggering_user_name=user, conf=form, state="running"
        )
        context: Any = {"ti": ti, "dag_run": dag_run, "params": form}
        with set_current_context(context):
            return dict(withdrawals.record_withdrawal.function())

    return run


def end(ledger: Ledger, chain: str, outcome: str) -> None:
    """Let a release end."""
    closed, run = releases.outcome(outcome=outcome).to_xcom(), chain.partition("/")[2]
    ledger.append(chain, "release.closed", closed, actor="closure", key="end")
    ledger.append(INSTALLATION, "release.ended", {"run": run}, actor="closure", key=f"ended/{run}")


def in_release(chain: str) -> Any:
    """Run as a task of a release."""
    ti = task_instance("release_bike_shop", "implementation.wave_1")
    dag_run = SimpleNamespace(dag_id="release_bike_shop", run_id=chain.rpartition("/")[2])
    context: Any = {"ti": ti, "dag_run": dag_run, "params": {}}
    return set_current_context(context)


@pytest.mark.parametrize(("user", "role"), [("rita", "requester"), ("olga", "release_manager")])
def test_a_queued_release_is_withdrawn_by_name_and_reason(
    ledger: Ledger, release: str, run_id: str, withdraw: Withdraw, user: str, role: str
) -> None:
    told = withdraw(user, f"w-{run_id}")
    (entry,) = ledger.entries(release, kind=RELEASE_WITHDRAWN)
    said = Withdrawal.model_validate(entry.payload)
    assert told == entry.payload
    assert (entry.actor, said.by, said.role, said.reason) == (user, user, role, "The tag is wrong")
    assert (said.release, said.run) == (f"release_bike_shop/{run_id}", f"withdraw_release/w-{run_id}")
    assert ledger.heads(release)[-1].sequence == entry.sequence, "it is signed"
    assert ledger.check(release) is None


def test_a_try_that_died_after_it_was_recorded_is_followed_by_one_that_records_nothing(
    ledger: Ledger, release: str, run_id: str, withdraw: Withdraw
) -> None:
    first = withdraw("rita", f"w-{run_id}")
    end(ledger, release, "withdrawn")
    assert withdraw("rita", f"w-{run_id}", try_number=2) == first, "the release may have ended meanwhile"


def test_a_release_is_withdrawn_once(ledger: Ledger, release: str, run_id: str, withdraw: Withdraw) -> None:
    withdraw("rita", f"w-{run_id}")
    with pytest.raises(AirflowFailException, match=r"is withdrawn already.*rita, who requested it, withdrew"):
        withdraw("olga", f"x-{run_id}")
    assert len(ledger.entries(release, kind=RELEASE_WITHDRAWN)) == 1


def test_of_two_who_withdraw_at_once_the_second_is_told_who_did(
    ledger: Ledger, release: str, run_id: str, withdraw: Withdraw, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = withdrawals._find

    def slowly(*args: Any) -> Any:
        found = find(*args)
        with monkeypatch.context() as quick:
            quick.setattr(withdrawals, "_find", find)
            withdraw("rita", f"w-{run_id}")
        return found

    monkeypatch.setattr(withdrawals, "_find", slowly)
    with pytest.raises(AirflowFailException, match=r"is withdrawn already.*rita, who requested it, withdrew"):
        withdraw("olga", f"x-{run_id}")


def test_a_withdrawal_that_the_verification_overtakes_does_not_count(
    ledger: Ledger, release: str, run_id: str, withdraw: Withdraw, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = withdrawals._find

    def slowly(*args: Any) -> Any:
        found = find(*args)
        verified = releases.verification().model_copy(update={"success": True, "failures": ()})
        ledger.append(release, "verification.judged", verified.to_xcom(), actor="judge", key="judged")
        return found

    monkeypatch.setattr(withdrawals, "_find", slowly)
    with pytest.raises(AirflowFailException, match=r"Its verification succeeded.*roll the service back"):
        withdraw("rita", f"w-{run_id}")
    with in_release(release):
        permits.refuse_emergency(releases.service())


def test_what_has_ended_is_not_withdrawn(ledger: Ledger, release: str, run_id: str, withdraw: Withdraw) -> None:
    end(ledger, release, "rejected")
    with pytest.raises(LostRight, match=r"has ended, and release\.withdrawn must not follow"):
        ledger.append(release, RELEASE_WITHDRAWN, {}, actor="rita", key=RELEASE_WITHDRAWN)
    with pytest.raises(AirflowFailException, match="bike-shop has no release under way"):
        withdraw("rita", f"w-{run_id}")


def test_a_run_that_nobody_asked_for_withdraws_nothing(
    ledger: Ledger, witness: Ledger, release: str, run_id: str, withdraw: Withdraw
) -> None:
    form = {**FORM, "reason": "Something else"}
    asked(witness, "withdraw_release", f"w-{run_id}", "ben", form)
    with pytest.raises(AirflowFailException, match="names ben as its requester, but Airflow names rita"):
        withdraw("rita", f"w-{run_id}")
    assert not ledger.entries(release, kind=RELEASE_WITHDRAWN)


def test_a_withdrawn_release_gets_no_permit_and_halts(
    ledger: Ledger, release: str, run_id: str, withdraw: Withdraw
) -> None:
    with in_release(release):
        permits.refuse_emergency(releases.service())
    withdraw("olga", f"w-{run_id}", run=run_id)
    said = "olga, a release manager, withdrew the release: The tag is wrong"
    with in_release(release), pytest.raises(permits.PolicyViolation, match=said):
        permits.refuse_halted_release("bike-shop", "production")
    with in_release(release), pytest.raises(permits.PolicyViolation, match=said):
        permits.refuse_emergency(releases.service())


def test_a_chain_that_does_not_hold_keeps_no_other_release_from_being_withdrawn(ledger: Ledger, release: str) -> None:
    class Torn:
        chains, now = ledger.chains, ledger.now

        def entries(self, chain: str, **more: Any) -> Any:
            if chain.endswith("torn"):
                raise LedgerBroken("Entry 1 was changed.", broken=None)  # type: ignore[arg-type]
            return ledger.entries(chain, **more)

    ledger.append(release_chain("release_bike_shop", "torn"), "finding", {"what": "x"}, actor="a task", key="x")
    wanted = {release, release_chain("release_bike_shop", "torn")}
    found = releases_under_way(Torn(), "bike-shop", lambda dag_id, run_id: release_chain(dag_id, run_id) in wanted)
    assert [one.requested_by for one in found] == ["rita"]
