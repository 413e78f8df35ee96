"""The Dags ``withdraw_release`` and ``overtake_releases`` on a real ledger: what they record, and when too late."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.execution_time.context import set_current_context

from interlock.adapters.ledger.ledger import Ledger, open_ledger
from interlock.adapters.ledger.withdrawals import releases_under_way
from interlock.adapters.permits.issuer import PermitIssuer
from interlock.adapters.signing.signing import generate_key, load_signer
from interlock.domain.canonical import sha256_of
from interlock.domain.errors import HeldBack, LedgerBroken, LostRight
from interlock.domain.ledger.chain import INSTALLATION, release_chain
from interlock.domain.ledger.findings import Finding, findings_about
from interlock.domain.ledger.kinds import PERMIT_ISSUED, RELEASE_OVERTAKEN, RELEASE_WITHDRAWN, RUN_ASKED
from interlock.domain.ledger.runs import run_of
from interlock.domain.ledger.witness import AskedRun
from interlock.domain.permits.overtaking import Overtaking, find_overtaken
from interlock.domain.permits.permit import Purpose
from interlock.domain.permits.withdrawal import Withdrawal
from interlock.estate.settings import Settings
from interlock.stages.controls import overtakings, withdrawals
from interlock.stages.reconcile.reconcile_overtakings import GRACE, find_missed_overtakings
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


# --- overtaking -------------------------------------------------------------------------------------------------------

Request = Callable[..., str]
Overtake = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def request_release(witness: Ledger, airflow: AirflowServer, run_id: str) -> Request:
    """Request a release; return its chain."""

    def ask(name: str, change_type: str = "normal", *, state: str = "queued", sent: str = "", **more: Any) -> str:
        form = {"ref": "1.1.0", "version": "1.1.0", "summary": "Sell bikes", "change_type": change_type, **more}
        run = ("release_bike_shop", f"{run_id}-{name}")
        airflow.runs[run] = {"dag_run_id": run[1], "state": state, "conf": form}
        return asked(witness, *run, "rita", form | ({"summary": sent} if sent else {})).chain

    return ask


@pytest.fixture
def overtake(ledger: Ledger) -> Overtake:
    """Run the first task of the Dag that overtakes releases."""

    def run() -> list[dict[str, Any]]:
        ti = task_instance("overtake_releases", "record_overtakings")
        dag_run = SimpleNamespace(dag_id="overtake_releases", run_id="o", conf={"service": "bike-shop"})
        context: Any = {"ti": ti, "dag_run": dag_run, "params": dag_run.conf}
        with set_current_context(context):
            return list(overtakings.record_overtakings.function())

    return run


def issue(ledger: Ledger, chain: str, purpose: Purpose = "deploy") -> dict[str, Any]:
    """Issue a permit to a release."""
    office = PermitIssuer(resources.signer(), ledger, actor="a task")
    about = {"environment": "production", "hosts": ("127.20.0.10",), "catalogue": "0" * 64}
    return office.issue(purpose=purpose, chain=chain, **about)


def overtaken(ledger: Ledger, chain: str) -> list[Overtaking]:
    return [Overtaking.model_validate(entry.payload) for entry in ledger.entries(chain, kind=RELEASE_OVERTAKEN)]


def test_an_emergency_overtakes_what_waits_before_it_once_however_often_the_task_runs(
    ledger: Ledger, request_release: Request, overtake: Overtake
) -> None:
    first, second = request_release("first", state="running"), request_release("second", "standard")
    urgent, later = request_release("urgent", "emergency", version="1.1.1"), request_release("later")
    assert overtake() == overtake(), "a later try finds what the one before recorded"
    for chain, kind in ((first, "normal"), (second, "standard")):
        (said,) = overtaken(ledger, chain)
        assert (f"release/{said.release}", f"release/{said.by}", said.change_type) == (chain, urgent, kind)
        assert said.rule == "change_types.emergency.overtakes, in policy.yaml"
        assert ledger.heads(chain)[-1].sequence == ledger.last(chain).sequence, "it is signed"  # type: ignore[union-attr]
        assert ledger.check(chain) is None
    assert not overtaken(ledger, urgent) + overtaken(ledger, later)


def missed(ledger: Ledger, *chains: str, after: timedelta = GRACE) -> list[Finding]:
    """Return what the bypass detector finds about releases some time from now."""
    runs = [run for chain in chains if (run := run_of(chain))]
    with resources.airflow_api() as api:
        return [*find_missed_overtakings(ledger, api, ["bike-shop"], runs, datetime.now(UTC) + after)]


def test_a_release_that_should_have_overtaken_another_is_found_until_it_has(
    ledger: Ledger, request_release: Request, overtake: Overtake
) -> None:
    ahead, urgent = request_release("ahead", state="running"), request_release("urgent", "emergency")
    assert missed(ledger, ahead, urgent, after=timedelta(minutes=1)) == [], "it may be about to"
    (found,) = missed(ledger, ahead, urgent)
    by, behind = urgent.removeprefix("release/"), ahead.removeprefix("release/")
    assert found.what == (
        f"The emergency release {by} waits behind the normal release {behind}, which it should have overtaken (rule: "
        "change_types.emergency.overtakes, in policy.yaml). No entry says that it did. The Dag overtake_releases was "
        "not started, or did not end: a release manager can trigger it for bike-shop."
    )
    entry: Any = SimpleNamespace(payload=found.payload)
    assert not [*findings_about([entry], ahead), *findings_about([entry], urgent)], "both keep their permits"
    overtake()
    assert missed(ledger, ahead, urgent) == []


def test_nothing_is_missed_where_nothing_overtakes(ledger: Ledger, request_release: Request) -> None:
    first, second = request_release("first", state="running"), request_release("second")
    assert missed(ledger, first, second) == []
    begun, urgent = request_release("begun", state="running"), request_release("urgent", "emergency")
    issue(ledger, begun)
    for chain in (first, second):
        end(ledger, chain, "deployed")
    assert missed(ledger, begun, urgent) == [], "a release that has begun goes on"


def test_a_release_that_may_change_production_is_not_overtaken(
    ledger: Ledger, request_release: Request, overtake: Overtake
) -> None:
    begun = request_release("begun", state="running")
    issue(ledger, begun)
    waits = request_release("waits")
    request_release("urgent", "emergency")
    assert [f"release/{one['release']}" for one in overtake()] == [waits]
    with pytest.raises(HeldBack, match=r"has a permit and is not overtaken.*one that has a permit to change hosts"):
        ledger.append(begun, RELEASE_OVERTAKEN, {}, actor="rita", key=RELEASE_OVERTAKEN)


def test_a_permit_that_comes_while_the_queue_is_looked_at_counts(
    ledger: Ledger, request_release: Request, overtake: Overtake, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = request_release("waits", state="running")
    request_release("urgent", "emergency")

    def slowly(*seen: Any) -> Any:
        found = [*find_overtaken(*seen)]
        issue(ledger, waits)
        return found

    monkeypatch.setattr(overtakings, "find_overtaken", slowly)
    assert overtake() == []


def test_an_overtaken_release_gets_and_uses_no_permit_of_any_kind(
    ledger: Ledger, request_release: Request, overtake: Overtake
) -> None:
    waits = request_release("waits", state="running")
    held = issue(ledger, waits, "inspect")
    request_release("urgent", "emergency")
    assert len(overtake()) == 1, "a look at production begins nothing"
    for purpose in ("deploy", "inspect", "traffic"):
        with pytest.raises(HeldBack, match=r"was overtaken, and permit\.issued must not follow"):
            issue(ledger, waits, purpose)  # type: ignore[arg-type]
    office = PermitIssuer(resources.signer(), ledger, actor="a task")
    with pytest.raises(HeldBack, match=r"was overtaken, and permit\.used must not follow"):
        office.redeem(held, purposes=["inspect"], environment="production")
    with in_release(waits), pytest.raises(permits.PolicyViolation, match="overtook this normal release: Sell bikes"):
        permits.refuse_halted_release("bike-shop", "production")


def test_of_a_permit_and_an_overtaking_at_once_the_ledger_takes_one(
    server: Settings, ledger: Ledger, request_release: Request, run_id: str
) -> None:
    def attempt(barrier: Barrier, what: Callable[[Ledger], Any]) -> bool:
        with open_ledger(ledger_connection(server)) as own:
            barrier.wait(30)
            try:
                what(own)
            except HeldBack:
                return False
            return True

    for number in range(12):
        chain, barrier = request_release(f"{number}", state="running"), Barrier(2)

        def overtaking(own: Ledger, chain: str = chain) -> None:
            own.append_once(chain, RELEASE_OVERTAKEN, {"by": "x"}, actor="rita", key=RELEASE_OVERTAKEN)

        def permitting(own: Ledger, chain: str = chain) -> None:
            issue(own, chain)

        with ThreadPoolExecutor(2) as both:
            done = [*both.map(attempt, (barrier, barrier), (overtaking, permitting))]
        kinds = [entry.kind for entry in ledger.entries(chain) if entry.kind in (RELEASE_OVERTAKEN, PERMIT_ISSUED)]
        assert sorted(done) == [False, True], "one, and exactly one"
        assert kinds == ([RELEASE_OVERTAKEN] if done[0] else [PERMIT_ISSUED])


def test_a_form_that_is_not_on_record_overtakes_nothing(
    ledger: Ledger, request_release: Request, overtake: Overtake
) -> None:
    request_release("waits")
    request_release("urgent", "emergency", sent="Something else")
    assert overtake() == []


def test_what_has_ended_or_was_withdrawn_is_not_overtaken(
    ledger: Ledger, request_release: Request, overtake: Overtake, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, ends = request_release("gone"), request_release("ends", state="running")
    withdrawal = releases.WITHDRAWAL.model_dump(mode="json")
    ledger.append(gone, RELEASE_WITHDRAWN, withdrawal, actor="rita", key=RELEASE_WITHDRAWN)
    request_release("urgent", "emergency")

    def slowly(*seen: Any) -> Any:
        found = [*find_overtaken(*seen)]
        end(ledger, ends, "rejected")
        return found

    monkeypatch.setattr(overtakings, "find_overtaken", slowly)
    assert overtake() == []
    assert not overtaken(ledger, gone) + overtaken(ledger, ends)
