"""The Dags around releases on a real ledger: reconcile, emergency stops, reviews, and what a permit asks of hands."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.execution_time.context import set_current_context
from lazy_object_proxy import Proxy

from interlock.adapters.artifacts.store import ArtifactStore, Folder
from interlock.adapters.aws import ec2
from interlock.adapters.catalogue.catalogue import load_catalogue, load_rules
from interlock.adapters.hosts.fleet import Deployment, HostLook
from interlock.adapters.ledger.ledger import Ledger, open_ledger
from interlock.adapters.signing.signing import Signer, generate_key, load_signer
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import Catalogue
from interlock.domain.errors import AssetMissing, PolicyViolation, TransientError
from interlock.domain.hosts import released_files
from interlock.domain.hosts.commands import HostState
from interlock.domain.hosts.released_files import Expected, Seen
from interlock.domain.ledger import findings as ledger_findings
from interlock.domain.ledger import host_record, interventions
from interlock.domain.ledger.chain import INSTALLATION, Entry, release_chain
from interlock.domain.ledger.kinds import (
    EMERGENCY_STOP_DECLARED,
    EMERGENCY_STOP_LIFTED,
    ENVIRONMENT_ENTERED,
    RELEASE_CLOSED,
    RELEASE_ENDED,
    RELEASE_REVIEWED,
    TEST_DEPLOYED,
)
from interlock.domain.overview.running import Running
from interlock.domain.permits.fencing import Admittance, place_of
from interlock.domain.records import (
    Blob,
    Host,
    HostResult,
    RolloutPlan,
    RunningRelease,
    Strategy,
    TestDeployment,
    WaveReport,
)
from interlock.estate.settings import Settings
from interlock.estate.stack import postgres
from interlock.locations import CATALOGUE, catalogue_folder
from interlock.stages.controls import returning, reviews, stops
from interlock.stages.reconcile import findings as told_findings
from interlock.stages.reconcile import reconcile_hosts, reconcile_ledger, reconcile_releases
from interlock.stages.runtime import history, permits, resources
from tests.airflow_server import ACCOUNTS, RUN, AirflowServer, airflow_server
from tests.deployments import deploy, served
from tests.factories import releases
from tests.integration.ledger_server import ledger_connection, witness_connection
from tests.running_task import asked_at_the_api
from tests.sshd import DEPLOY_ROOT, Fleet, SshdHost, make_release, sshd_fleet
from tests.task_instance import task_instance

CHAIN = "release/" + "/".join(RUN)
RUN_PATH = "/api/v2/dags/{}/dagRuns/{}".format(*RUN)
Run = Callable[..., Any]


@pytest.fixture
def ledger(server: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """An empty ledger, which is the one that stages open."""
    _emptied(server)
    monkeypatch.setattr(resources, "ledger", lambda: open_ledger(ledger_connection(server)))
    with open_ledger(ledger_connection(server)) as opened:
        yield opened


@pytest.fixture(autouse=True)
def sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nothing to say against the installation: test_permit_installation.py is about that."""
    monkeypatch.setattr(returning, "faults_now", lambda *_, **__: ())


def _emptied(settings: Settings) -> None:
    for table in ("heads", "entries"):
        _as_owner(settings, f"DELETE FROM ledger.{table}")


def _as_owner(settings: Settings, statement: str) -> None:
    """Do what nobody may: change or remove what is in the ledger."""
    table = "heads" if "heads" in statement else "entries"
    with closing(postgres.connect(settings, postgres.LEDGER)) as connection, connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE ledger.{table} DISABLE TRIGGER append_only")
        cursor.execute(statement)
        cursor.execute(f"ALTER TABLE ledger.{table} ENABLE ALWAYS TRIGGER append_only")
        connection.commit()


def dags_seen(airflow: AirflowServer, *dags: tuple[str, str, bool]) -> None:
    """Have Airflow list Dags: name, file, and whether it is paused."""
    rows = [
        {
            "dag_id": dag_id,
            "bundle_name": "dags-folder",
            "relative_fileloc": file,
            "is_paused": paused,
            "is_stale": False,
        }
        for dag_id, file, paused in dags
    ]
    airflow.more["/api/v2/dags"] = {"dags": rows, "total_entries": len(rows)}


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[AirflowServer]:
    with airflow_server() as running:
        url = f"http://reader:{ACCOUNTS['reader']}@127.0.0.1:{running.port}"
        monkeypatch.setenv("AIRFLOW_CONN_INTERLOCK_AIRFLOW", url)
        running.run = {"dag_run_id": RUN[1], "state": "running"}
        running.more["/api/v2/dags/~/dagRuns"] = {
            "dag_runs": [{"dag_id": RUN[0], "dag_run_id": RUN[1]}],
            "total_entries": 1,
        }
        dags_seen(running, (RUN[0], "release.py", False))
        yield running


@pytest.fixture
def signer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Signer:
    generate_key(tmp_path / "key")
    loaded = load_signer((tmp_path / "key").as_uri())
    monkeypatch.setattr(resources, "signer", lambda: loaded)
    return loaded


@pytest.fixture
def witness(server: Settings, ledger: Ledger) -> Iterator[Ledger]:
    """The same ledger, as Airflow's API server opens it."""
    with open_ledger(witness_connection(server)) as opened:
        yield opened


@pytest.fixture
def run(signer: Signer, ledger: Ledger, witness: Ledger) -> Run:
    """Run a task's function as Airflow does."""

    def runs(
        task: Any,
        *args: Any,
        run_id: str = "look-1",
        looked: datetime | None = None,
        due: datetime | None = None,
        **params: Any,
    ) -> Any:
        ti = task_instance("reconcile", task.function.__name__)
        known = asked_at_the_api(witness, ("reconcile", run_id), "olga" if params else None)
        known.run_after = due or datetime.now(UTC)
        context: Any = {
            "ti": ti,
            "dag_run": known,
            "params": params,
            "prev_start_date_success": Proxy(lambda: looked),
        }
        with set_current_context(context):
            return task.function(*args)

    return runs


@pytest.fixture
def mails(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    sent: list[tuple[str, str]] = []

    def notify(subject: str, text: str, *, same: str) -> tuple[str, ...]:
        sent.append((subject, text))
        return ("audrey@example.com",)

    monkeypatch.setattr(told_findings, "notify", notify)
    monkeypatch.setattr(stops, "notify", notify)
    return sent


def record(ledger: Ledger, kind: str, payload: dict[str, Any], chain: str = CHAIN) -> Entry:
    return ledger.append(chain, kind, payload, actor="a task", key=f"{kind}/{len(ledger.entries(chain))}")


def began(ledger: Ledger, **changes: Any) -> None:
    """Let a release of the bike shop be frozen, by the catalogue as it is."""
    digest = resources.catalogue_of("bike-shop").digest
    record(ledger, "policy.resolved", releases.policy().model_copy(update={"digest": digest}).to_xcom())
    plan = releases.rollout(**changes)
    record(ledger, "rollout.frozen", {**plan.to_xcom(), "digest": plan.digest})
    ledger.sign_head(CHAIN, resources.signer())


def findings(ledger: Ledger, chain: str = CHAIN) -> list[str]:
    return [entry.payload["found"] for entry in ledger.entries(chain, kind="finding")]


def audited(airflow: AirflowServer, event: str, *, ago: float = 0, **changes: Any) -> None:
    row: dict[str, Any] = {
        "event_log_id": len(airflow.audit) + 1,
        "when": (datetime.now(UTC) - timedelta(seconds=ago)).isoformat(),
        "event": event,
        "owner": "olga",
        "dag_id": RUN[0],
        "run_id": RUN[1],
        "task_id": "rollout.await_board",
        "extra": json.dumps({"method": "PATCH"}),
    }
    airflow.audit.append({**row, **changes})


def task(airflow: AirflowServer, task_id: str, state: str, result: Any = None, tries: tuple[str, ...] = ()) -> None:
    airflow.tasks.append(
        {"task_id": task_id, "map_index": -1, "state": state, "try_number": len(tries) or 1, "start_date": None}
    )
    path = f"{RUN_PATH}/taskInstances/{task_id}"
    airflow.more[f"{path}/xcomEntries/return_value"] = {"value": result}
    rows = [{"state": one, "try_number": number} for number, one in enumerate(tries, start=1)]
    airflow.more[f"{path}/tries"] = {"task_instances": rows, "total_entries": len(rows)}


# --- releases


def test_a_release_by_the_book_has_no_finding(airflow: AirflowServer, ledger: Ledger, run: Run) -> None:
    began(ledger)
    task(airflow, "policy.resolve_policy", "success", ledger.entries(CHAIN)[0].payload)
    assert run(reconcile_releases.check_releases) == 0
    assert findings(ledger) == findings(ledger, INSTALLATION) == []


def test_each_contradiction_is_one_finding_however_often_it_is_looked_at(
    airflow: AirflowServer, ledger: Ledger, run: Run, signer: Signer
) -> None:
    began(ledger)
    task(airflow, "policy.resolve_policy", "success", {"schema_version": 1, "forged": True}, ("success", "success"))
    task(airflow, "rollout.await_board", "success")
    assert run(reconcile_releases.check_releases) == 3
    assert sorted(findings(ledger)) == ["task_cleared", "task_marked", "xcom_edited"]
    assert run(reconcile_releases.check_releases, run_id="look-2") == 0
    assert len(findings(ledger)) == 3
    assert ledger.heads(CHAIN)[-1].sequence == ledger.entries(CHAIN)[-1].sequence, "what was found is signed"


def test_a_deleted_run_and_a_changed_catalogue_are_found(airflow: AirflowServer, ledger: Ledger, run: Run) -> None:
    record(ledger, "policy.resolved", releases.policy().to_xcom())
    airflow.more["/api/v2/dags/~/dagRuns"] = {"dag_runs": [], "total_entries": 0}
    airflow.knows_run = False
    run(reconcile_releases.check_releases)
    assert findings(ledger) == ["run_gone", "catalogue_changed"]


@pytest.mark.parametrize(
    ("later", "closed", "expected"),
    [("the same", False, []), ("edited", True, []), ("edited", False, ["catalogue_changed"])],
    ids=["the release began after the edit", "it was closed before the edit", "it was edited"],
)
def test_rules_are_read_again_before_they_accuse_a_release(
    airflow: AirflowServer,
    ledger: Ledger,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    later: str,
    closed: bool,
    expected: list[str],
) -> None:
    """The catalogue is read when a look begins, and the chain of a release some time later."""
    began(ledger)
    task(airflow, "policy.resolve_policy", "success", ledger.entries(CHAIN)[0].payload)
    same = load_catalogue(catalogue_folder())
    shop = same.services["bike-shop"].model_copy(update={"tier": 4})
    edited = same.model_copy(update={"services": {**same.services, "bike-shop": shop}})
    to_read = [edited, edited if later == "edited" else same]

    def load() -> Catalogue:
        if closed and len(to_read) == 1:
            record(ledger, RELEASE_CLOSED, releases.outcome().to_xcom())
        return to_read.pop(0)

    monkeypatch.setattr(reconcile_releases, "_load_catalogue", load)
    run(reconcile_releases.check_releases)
    assert findings(ledger) == expected


def test_a_run_whose_chain_is_gone_is_found_in_the_installations(
    airflow: AirflowServer, ledger: Ledger, run: Run
) -> None:
    task(airflow, "policy.resolve_policy", "success")
    run(reconcile_releases.check_releases)
    assert findings(ledger, INSTALLATION) == ["chain_gone"]
    assert CHAIN not in ledger.chains()


def test_a_paused_dag_is_found_with_who_paused_it(airflow: AirflowServer, ledger: Ledger, run: Run) -> None:
    dags_seen(airflow, (RUN[0], "release.py", True))
    paused = json.dumps({"method": "PATCH", "is_paused": True})
    audited(airflow, "patch_dag", run_id=None, task_id=None, extra=paused)
    run(reconcile_releases.check_releases)
    assert run(reconcile_releases.check_releases) == 0
    (found,) = ledger.entries(INSTALLATION, kind="finding")
    assert "release_bike_shop is paused. olga paused the Dag" in found.payload["what"]


def test_a_dag_that_only_bears_the_name_is_found_and_gives_its_releases_no_permit(
    airflow: AirflowServer, ledger: Ledger, run: Run
) -> None:
    record(ledger, "policy.resolved", releases.policy().to_xcom())
    dags_seen(
        airflow,
        (RUN[0], "team/release.py", False),
        ("reconcile", "mine.py", False),
        ("release_tables", "team/tables.py", False),
    )
    run(reconcile_releases.check_releases)
    assert run(reconcile_releases.check_releases) == 0
    found = [
        one.payload for one in ledger.entries(INSTALLATION, kind="finding") if one.payload["found"] == "dag_replaced"
    ]
    where = {(one["evidence"]["dag_id"], one["evidence"].get("run_id", "")) for one in found}
    assert where == {("reconcile", ""), (RUN[0], ""), RUN}
    assert "team/release.py of the bundle dags-folder" in "".join(one["what"] for one in found)
    assert len(list(ledger_findings.findings_about(ledger.entries(INSTALLATION, kind="finding"), CHAIN))) == 1


def test_a_run_whose_tasks_were_another_bundles_is_found_although_the_dag_is_back(
    airflow: AirflowServer, ledger: Ledger, run: Run
) -> None:
    record(ledger, "policy.resolved", releases.policy().to_xcom())
    assert airflow.run is not None
    airflow.run["dag_versions"] = [{"bundle_name": name} for name in ("dags-folder", "data-team", None)]
    run(reconcile_releases.check_releases)
    assert run(reconcile_releases.check_releases) == 0
    found = [one.payload for one in ledger.entries(CHAIN, kind="finding") if one.payload["found"] == "dag_replaced"]
    assert [one["evidence"]["bundle"] for one in found] == ["data-team"]


def test_another_teams_runs_are_none_of_our_business(airflow: AirflowServer, ledger: Ledger, run: Run) -> None:
    airflow.more["/api/v2/dags/~/dagRuns"] = {
        "dag_runs": [{"dag_id": "release_tables", "dag_run_id": "r1"}, {"dag_id": "train_model", "dag_run_id": "~"}],
        "total_entries": 2,
    }
    airflow.asked.clear()
    assert run(reconcile_releases.check_releases) == 0
    assert not [path for _, path in airflow.asked if "release_tables" in path or "train_model" in path]


@pytest.mark.parametrize("name", [".", "..", "~"])
def test_a_release_that_cannot_be_looked_at_is_a_finding_and_hides_no_other(
    airflow: AirflowServer, ledger: Ledger, witness: Ledger, run: Run, name: str
) -> None:
    airflow.more["/api/v2/dags/~/dagRuns"] = {
        "dag_runs": [{"dag_id": RUN[0], "dag_run_id": one} for one in (name, RUN[1])],
        "total_entries": 2,
    }
    witness.append(f"release/{RUN[0]}/{name}", "run.asked", {}, actor="rita", key="1")
    task(airflow, "policy.resolve_policy", "success")
    run(reconcile_releases.check_releases)
    assert sorted(findings(ledger, INSTALLATION)) == ["chain_gone", "not_looked_at"]
    assert run(reconcile_releases.check_releases) == 0
    assert not [path for _, path in airflow.asked if unquote(path).rstrip("/").endswith(f"/dagRuns/{name}")]


def test_what_cannot_be_looked_at_now_is_looked_at_again_and_hides_no_other(
    airflow: AirflowServer, ledger: Ledger, run: Run
) -> None:
    airflow.more["/api/v2/dags/~/dagRuns"] = {
        "dag_runs": [{"dag_id": RUN[0], "dag_run_id": one} for one in ("odd", RUN[1])],
        "total_entries": 2,
    }
    airflow.runs[RUN[0], "odd"] = {"no": "state"}  # something answers in Airflow's place
    task(airflow, "policy.resolve_policy", "success")
    with pytest.raises(TransientError, match="The record of release_bike_shop/odd cannot be read"):
        run(reconcile_releases.check_releases)
    assert findings(ledger, INSTALLATION) == ["chain_gone"]


def test_what_was_done_by_hand_is_found_once_the_guard_had_time_to_record_what_it_refused(
    airflow: AirflowServer, ledger: Ledger, witness: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    began(ledger)
    audited(airflow, "patch_task_instance")
    audited(airflow, "delete_xcom_entry", owner="mallory")
    named = {"user": "mallory", "entity": "XCOM", "dag_id": RUN[0], "run_id": RUN[1], "task_id": None}
    record(witness, "attempt.refused", {**named, "at": airflow.audit[1]["when"]}, INSTALLATION)
    assert run(reconcile_releases.check_releases) == 0
    monkeypatch.setattr(interventions, "WINDOW", timedelta())
    monkeypatch.setattr(interventions, "MAX_CLOCK_SKEW", timedelta())
    assert run(reconcile_releases.check_releases) == 1
    (found,) = ledger.entries(CHAIN, kind="finding")
    assert found.payload["what"].startswith("Airflow's audit log: olga marked rollout.await_board at ")


def test_what_is_refused_during_a_look_accuses_nobody(
    airflow: AirflowServer, ledger: Ledger, witness: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = (RUN[0], "later")
    airflow.runs[later] = {"state": "running"}
    airflow.more["/api/v2/dags/~/dagRuns"] = {
        "dag_runs": [{"dag_id": dag_id, "dag_run_id": run_id} for dag_id, run_id in (RUN, later)],
        "total_entries": 2,
    }
    for chain in (CHAIN, release_chain(*later)):
        record(ledger, "note", {}, chain)
    monkeypatch.setattr(reconcile_releases, "AT_ONCE", 1)
    monkeypatch.setattr(interventions, "WINDOW", timedelta())
    monkeypatch.setattr(interventions, "MAX_CLOCK_SKEW", timedelta())

    def refused(of: tuple[str, str]) -> None:
        audited(airflow, "patch_task_instance", owner="mallory", run_id=of[1])
        named = {"user": "mallory", "entity": "TASK_INSTANCE", "dag_id": of[0], "run_id": of[1], "task_id": None}
        record(witness, "attempt.refused", {**named, "at": airflow.audit[-1]["when"]}, INSTALLATION)

    compare, left = reconcile_releases._compare_release, [RUN, later]

    def compared(look: Any, one: tuple[str, str], *more: Any) -> Iterator[Any]:
        yield from compare(look, one, *more)
        left.remove(one)
        for other in left:
            refused(other)  # after the first one was compared, and before the other one is read

    refused(RUN)
    refused(later)
    monkeypatch.setattr(reconcile_releases, "_compare_release", compared)
    assert run(reconcile_releases.check_releases) == 0
    assert left == []
    monkeypatch.setattr(reconcile_releases, "_compare_release", compare)
    audited(airflow, "patch_task_instance")
    assert run(reconcile_releases.check_releases) == 1


# --- the ledger


def test_what_holds_is_signed_and_a_signature_that_was_removed_is_found(
    airflow: AirflowServer, ledger: Ledger, run: Run, server: Settings
) -> None:
    record(ledger, "policy.resolved", releases.policy().to_xcom())
    record(ledger, "plan.made", releases.plan().to_xcom())
    record(ledger, "key.added", {"key": "one"}, INSTALLATION)
    assert run(reconcile_ledger.check_ledger) == 0
    for chain in (CHAIN, INSTALLATION):
        assert ledger.heads(chain)[-1].sequence == ledger.entries(chain)[-1].sequence
    _as_owner(server, "DELETE FROM ledger.heads")
    assert run(reconcile_ledger.check_ledger, looked=datetime.now(UTC)) == 2
    assert findings(ledger, INSTALLATION) == ["signature_gone", "signature_gone"]


def test_a_decision_that_is_not_signed_is_found_and_not_signed_by_looking_at_it(
    airflow: AirflowServer, ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(ledger, "board.decided", releases.decision().to_xcom())
    assert run(reconcile_ledger.check_ledger) == 0, "the task that decided may be about to sign it"
    assert ledger.heads(CHAIN) == (), "and nobody else does"
    monkeypatch.setattr(reconcile_ledger, "MAX_SEALING_TIME", timedelta())
    assert run(reconcile_ledger.check_ledger) == 1
    assert findings(ledger, INSTALLATION) == ["seal_missing"]
    assert ledger.heads(CHAIN) == ()


def test_a_chain_that_was_changed_is_found_in_the_installations(
    airflow: AirflowServer, ledger: Ledger, run: Run, server: Settings
) -> None:
    began(ledger)
    _as_owner(server, "UPDATE ledger.entries SET actor = 'mallory' WHERE sequence = 1")
    assert run(reconcile_ledger.check_ledger) == 1
    assert run(reconcile_ledger.check_ledger) == 0
    (found,) = ledger.entries(INSTALLATION, kind="finding")
    assert found.payload["what"].startswith(f"Entry 1 of the chain {CHAIN} was changed")


def test_a_chain_whose_end_was_cut_off_with_its_heads_is_found_by_the_installations(
    airflow: AirflowServer, ledger: Ledger, run: Run, server: Settings
) -> None:
    record(ledger, "policy.resolved", releases.policy().to_xcom())
    record(ledger, RELEASE_ENDED, {"run": "/".join(RUN), "service": "bike-shop"}, INSTALLATION)
    assert run(reconcile_ledger.check_ledger) == 1
    (found,) = ledger.entries(INSTALLATION, kind="finding")
    assert found.payload["what"].startswith(f"Entry 2 of the chain {CHAIN} is missing: the release has ended by entry")


# --- hosts


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """What the hosts of production say that they run."""
    from interlock.adapters.hosts import fleet as ssh_hosts

    runs: dict[str, str | None] = {releases.host(number).address: "1.0.0-0123456789ab" for number in (1, 2, 3)}

    async def read_running(targets: list[Host], root: str, *, login: Any, admission: Any) -> Any:
        for target in targets:
            await admission.admit(target.address)
        return tuple(RunningRelease(host=one.address, release=runs[one.address]) for one in targets)

    async def look_at_hosts(targets: list[Host], root: str, choose: Any, *, login: Any, admission: Any) -> Any:
        running = await read_running(targets, root, login=login, admission=admission)
        return {one.host: ssh_hosts.HostLook(HostState(one.release)) for one in running}

    store = {"conn_type": "fs", "extra": {"path": str(tmp_path / "store")}}
    monkeypatch.setenv(f"AIRFLOW_CONN_{resources.ARTIFACTS.upper()}", json.dumps(store))
    monkeypatch.setattr(ssh_hosts, "read_running", read_running)
    monkeypatch.setattr(ssh_hosts, "look_at_hosts", look_at_hosts)
    monkeypatch.setattr(resources, "login", lambda environment: None)
    monkeypatch.setattr(resources, "aws", lambda environment, kind: None)
    monkeypatch.setattr(resources, "balancer", lambda *_, **__: None)
    monkeypatch.setattr(ec2, "find_hosts", lambda client, tags: tuple(map(releases.host, (1, 2, 3))))
    return runs


def test_a_host_that_no_release_touched_is_a_baseline_once_and_a_change_of_it_a_finding(
    ledger: Ledger, run: Run, hosts: dict[str, str | None]
) -> None:
    assert run(reconcile_hosts.check_hosts) == 0
    assert len(ledger.entries(INSTALLATION, kind="baseline.seen")) == 3
    assert run(reconcile_hosts.check_hosts) == 0
    hosts[releases.host(2).address] = "9.9.9-deadbeef"
    assert run(reconcile_hosts.check_hosts) == 1
    assert run(reconcile_hosts.check_hosts) == 0
    (found,) = ledger.entries(INSTALLATION, kind="finding")
    assert "runs 9.9.9-deadbeef of bike-shop, but the ledger says 1.0.0-0123456789ab" in found.payload["what"]
    asked = [chain for chain in ledger.chains() if chain.startswith("reconcile/")]
    assert {entry.kind for entry in ledger.entries(asked[0])} == {"permit.issued", "permit.used"}


def test_a_host_that_was_changed_during_a_release_gives_that_release_no_permit(
    ledger: Ledger, run: Run, hosts: dict[str, str | None]
) -> None:
    run(reconcile_hosts.check_hosts)
    record(ledger, "plan.made", releases.plan().to_xcom())
    hosts[releases.host(3).address] = "9.9.9-deadbeef"
    run(reconcile_hosts.check_hosts)
    assert findings(ledger) == ["host_changed"]
    assert findings(ledger, INSTALLATION) == []


def test_what_a_release_brought_is_what_a_host_runs(ledger: Ledger, run: Run, hosts: dict[str, str | None]) -> None:
    run(reconcile_hosts.check_hosts)
    began(ledger)
    record(ledger, "wave.deployed", releases.wave(1, releases.host_result(1)).to_xcom())
    hosts[releases.host(1).address] = f"1.1.0-{'a' * 12}"
    assert run(reconcile_hosts.check_hosts) == 0
    hosts[releases.host(1).address] = "1.0.0-0123456789ab"
    assert run(reconcile_hosts.check_hosts) == 1, "a host that somebody took back by hand"


def enter_test(ledger: Ledger) -> None:
    """Have a task of the release enter the test environment in order to deploy to it."""
    by = Admittance(holder=CHAIN, task="quality.deploy_to_test", attempt=1, purpose="deploy")
    record(ledger, ENVIRONMENT_ENTERED, by.model_dump(mode="json"), place_of("test", "bike-shop"))


def deployed_to_test(ledger: Ledger, release: str) -> None:
    """Have a release deployed to two hosts of the test environment, by the ledger."""
    enter_test(ledger)
    results = tuple(releases.host_result(number).model_copy(update={"after": release}) for number in (1, 2))
    record(ledger, TEST_DEPLOYED, TestDeployment(environment="test", results=results, base_urls=()).to_xcom())


def test_a_host_before_production_that_runs_what_no_release_brought_there_last_is_drift(
    ledger: Ledger, run: Run, hosts: dict[str, str | None]
) -> None:
    run(reconcile_hosts.check_hosts)
    address, old = releases.host(2).address, "1.0.0-0123456789ab"

    def drift() -> list[str]:
        running = Running()
        running.take(entry for chain in (CHAIN, INSTALLATION) for entry in ledger.entries(chain))
        return [one.what for one in running.differences("bike-shop", "test")]

    deployed_to_test(ledger, old)
    assert run(reconcile_hosts.check_hosts) == 0
    hosts[address] = "9.9.9-deadbeef"
    assert run(reconcile_hosts.check_hosts) == 2, "these are the hosts of production, too"
    (said,) = drift()
    assert said.startswith(f"{address} of test runs 9.9.9-deadbeef of bike-shop, but the ledger says {old}.")
    assert "host_changed" in findings(ledger), "the release whose tests ran there gets no permit"
    record(ledger, "acceptance.decided", releases.decision().to_xcom())
    assert run(reconcile_hosts.check_hosts) == 0, "it is told once, wherever it would belong now"
    hosts[address] = "9.9.8-deadbeef"
    enter_test(ledger)
    record(ledger, "artifact.built", releases.artifact().to_xcom())
    hosts[releases.host(1).address] = releases.artifact().release
    assert run(reconcile_hosts.check_hosts) == 3, "two of production, and one that no release under way brings to test"
    assert "9.9.8-deadbeef" in drift()[0]


def test_a_release_that_comes_while_hosts_before_production_are_asked_is_no_drift(
    ledger: Ledger, run: Run, hosts: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from interlock.adapters.hosts import fleet as ssh_hosts

    deployed_to_test(ledger, "1.0.0-0123456789ab")
    assert run(reconcile_hosts.check_hosts) == 0
    look, admitted = ssh_hosts.look_at_hosts, []

    async def while_it_comes(*args: Any, admission: Any, **more: Any) -> Any:
        looks = await look(*args, admission=admission, **more)
        if admission.environment == "test":
            admitted.append(admission)
            deployed_to_test(ledger, "2.0.0-0123456789ab")
        return looks

    monkeypatch.setattr(ssh_hosts, "look_at_hosts", while_it_comes)
    assert run(reconcile_hosts.check_hosts) == 0
    assert admitted
    monkeypatch.setattr(ssh_hosts, "look_at_hosts", look)
    assert run(reconcile_hosts.check_hosts) == 2, "the next check sees that it did not come to two hosts"


# --- the files of hosts


class Shops:
    """Three production hosts and a test host, all real, that run a release which the ledger knows."""

    def __init__(self, fleet: Fleet, deployment: Deployment) -> None:
        self.deployment = deployment
        self.production, self.sandbox = fleet.machines[:3], fleet.machines[3]
        self.fleet = fleet

    def file(self, machine: SshdHost, name: str = "server.py") -> Path:
        return machine.root / "releases" / self.deployment.release / name

    def deploy(self, deployment: Deployment, *machines: SshdHost) -> None:
        results = deploy(Fleet(machines, self.fleet.login, self.fleet.health_port), deployment)
        assert [one.outcome for one in results] == ["deployed"] * len(machines)


@pytest.fixture
def shops(ledger: Ledger, signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shops]:
    """Hosts to which a release came and was closed, by their ledger."""
    with sshd_fleet(tmp_path, 4) as fleet:
        catalogue = Path(shutil.copytree(CATALOGUE, tmp_path / "catalogue"))
        file = catalogue / "services" / "bike-shop.yaml"
        file.write_text(file.read_text().replace("deploy_root: srv/bike-shop", f"deploy_root: {DEPLOY_ROOT}"))
        monkeypatch.setenv("INTERLOCK_CATALOGUE", str(catalogue))
        store = ArtifactStore(Folder(tmp_path / "store"))
        monkeypatch.setattr(resources, "store", lambda: store)
        monkeypatch.setattr(resources, "login", lambda described: fleet.login)
        monkeypatch.setattr(resources, "aws", lambda environment, kind: None)

        def find_hosts(client: Any, tags: Mapping[str, str]) -> tuple[Host, ...]:
            return fleet.hosts[3:] if "test" in tags.values() else fleet.hosts[:3]

        monkeypatch.setattr(ec2, "find_hosts", find_hosts)
        made = Shops(fleet, make_release(fleet, tmp_path, "1.1.0"))
        made.deploy(made.deployment, *fleet.machines)
        came(ledger, made, store)
        yield made


def came(ledger: Ledger, shops: Shops, store: ArtifactStore) -> None:
    """Record that the release was built, and came to production, and that it ended."""
    blob = store.put_file(shops.deployment.bundle, "bundle.tar.gz")
    artifact = releases.artifact().model_copy(update={"bundle": blob})
    record(ledger, "plan.made", releases.plan().to_xcom())
    record(ledger, "artifact.built", artifact.to_xcom())
    first, *others = shops.fleet.hosts[:3]
    plan = releases.rollout(bundle=blob, waves=((first,), tuple(others)))
    record(ledger, "rollout.frozen", {**plan.to_xcom(), "digest": plan.digest})
    results = tuple(
        HostResult(
            host=one.address,
            instance_id=one.instance_id,
            outcome="deployed",
            before="1.0.0-0123456789ab",
            after=plan.release,
            seconds=1,
        )
        for one in plan.hosts
    )
    record(ledger, "wave.deployed", WaveReport(number=1, of=1, release=plan.release, results=results).to_xcom())


def ended(ledger: Ledger) -> None:
    told = {"run": "/".join(RUN), "service": "bike-shop", "version": "1.1.0", "change_type": "normal"}
    record(ledger, "release.closed", releases.outcome().to_xcom())
    record(ledger, RELEASE_ENDED, {**told, "outcome": "deployed"}, INSTALLATION)


def told(ledger: Ledger, chain: str = INSTALLATION) -> list[dict[str, Any]]:
    found = [one.payload for one in ledger.entries(chain, kind="finding")]
    assert {one["found"] for one in found} <= {"file_changed"}, found
    return [one["evidence"] for one in found]


def test_code_that_was_changed_in_place_on_a_host_is_found_once_with_both_digests(
    ledger: Ledger, run: Run, shops: Shops
) -> None:
    ended(ledger)
    assert run(reconcile_hosts.check_hosts) == 0
    server, machine = shops.file(shops.production[1]), shops.production[1]
    before = server.read_bytes()
    server.write_bytes(before.replace(b"ok", b"ko"))
    assert run(reconcile_hosts.check_hosts) == 1
    assert run(reconcile_hosts.check_hosts) == 0
    (found,) = ledger.entries(INSTALLATION, kind="finding")
    assert found.payload["evidence"] == {
        "service": "bike-shop",
        "environment": "production",
        "host": machine.address,
        "release": shops.deployment.release,
        "path": "server.py",
        "expected": f"SHA-256 {sha256_of(before)}",
        "found": f"SHA-256 {sha256_of(server.read_bytes())}",
        "chain": CHAIN,
    }
    assert found.payload["what"].endswith("Who changed it, and when, is not known.")
    server.write_bytes(b"again otherwise")
    assert run(reconcile_hosts.check_hosts) == 1, "another change is another finding"


def test_what_was_changed_while_its_release_is_under_way_stops_that_release_and_is_not_found_again_after_it(
    ledger: Ledger, run: Run, shops: Shops
) -> None:
    shops.file(shops.production[0]).unlink()
    assert run(reconcile_hosts.check_hosts) == 1
    assert [(one["path"], one["found"]) for one in told(ledger, CHAIN)] == [("server.py", "nothing")]
    ended(ledger)
    assert run(reconcile_hosts.check_hosts) == 0
    assert told(ledger) == []


def test_a_host_that_is_down_or_lies_keeps_no_other_from_being_compared(ledger: Ledger, run: Run, shops: Shops) -> None:
    ended(ledger)
    shops.production[0].turn_off()
    shops.production[1].stop()
    shops.production[1].limits = "exec yes;"
    shops.production[1].start()
    shops.file(shops.production[2]).write_text("evil")
    assert run(reconcile_hosts.check_hosts) == 1
    assert [one["host"] for one in told(ledger)] == [shops.production[2].address]


def test_a_test_host_is_compared_too_and_stops_its_release_until_that_is_accepted(
    ledger: Ledger, run: Run, shops: Shops
) -> None:
    shops.file(shops.sandbox).write_text("evil")
    assert run(reconcile_hosts.check_hosts) == 1
    assert [(one["environment"], one["host"]) for one in told(ledger, CHAIN)] == [("test", shops.sandbox.address)]
    record(ledger, "acceptance.decided", releases.decision().to_xcom())
    shops.file(shops.sandbox, "version").write_text("evil")
    assert run(reconcile_hosts.check_hosts) == 1
    assert [one["path"] for one in told(ledger)] == ["version"]


def test_test_hosts_that_cannot_be_found_keep_no_production_host_from_being_compared(
    ledger: Ledger, run: Run, shops: Shops, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_hosts(client: Any, tags: Mapping[str, str]) -> tuple[Host, ...]:
        if "test" in tags.values():
            raise TransientError("EC2 does not answer.")
        return shops.fleet.hosts[:3]

    monkeypatch.setattr(ec2, "find_hosts", find_hosts)
    ended(ledger)
    shops.file(shops.production[2]).write_text("evil")
    assert run(reconcile_hosts.check_hosts) == 1


def test_what_the_service_says_that_it_changes_itself_is_not_compared(
    ledger: Ledger, run: Run, shops: Shops, tmp_path: Path
) -> None:
    file = tmp_path / "catalogue/services/bike-shop.yaml"
    file.write_text(f"{file.read_text()}\nchanged_on_hosts: ['ver*']\n")
    shops.file(shops.production[0], "version").write_text("1.1.0 as we like it")
    assert run(reconcile_hosts.check_hosts) == 0


def test_a_host_on_which_everything_differs_becomes_so_many_findings_and_no_more(
    ledger: Ledger, run: Run, shops: Shops, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(ledger)
    monkeypatch.setattr(host_record, "MAX_FILE_FINDINGS", 3)
    for file in shops.file(shops.production[0], ".").rglob("*"):
        if file.is_file():
            file.write_text("evil")
    assert run(reconcile_hosts.check_hosts) == 3
    assert run(reconcile_hosts.check_hosts) == 0
    assert len(told(ledger)) == 3


def test_every_file_is_compared_within_a_day_although_a_look_compares_few(
    ledger: Ledger, run: Run, shops: Shops, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(ledger)
    monkeypatch.setattr(released_files, "MAX_FILES_PER_LOOK", 2)
    shops.file(shops.production[1], "hooks/ApplicationStart.sh").write_text("evil")
    start = datetime(2026, 11, 28, tzinfo=UTC)
    every = load_rules(CATALOGUE)[0].findings.every
    found = [run(reconcile_hosts.check_hosts, due=start + number * every) for number in range(5)]
    assert sum(found) == 1, "nine files of two or one at a look are five looks"
    assert [one["path"] for one in told(ledger)] == ["hooks/ApplicationStart.sh"]


def test_while_a_release_is_on_its_way_what_it_puts_outside_of_its_folder_is_no_finding() -> None:
    placed = Expected("/opt/shop", "/opt/shop", "file", "a" * 64, 1, placed=True)
    inside = Expected("shop", "releases/x/shop", "file", "a" * 64, 1)
    look = HostLook(HostState("x"), (placed, inside), {one.name: Seen("gone") for one in (placed, inside)})
    found = reconcile_hosts.describe_files("production", "bike-shop", "10.0.0.1", look, {}, is_settled=False)
    assert [one.evidence["path"] for one in found] == ["shop"]
    settled = reconcile_hosts.describe_files("production", "bike-shop", "10.0.0.1", look, {}, is_settled=True)
    assert [one.evidence["path"] for one in settled] == ["/opt/shop", "shop"]


# --- telling people


def test_people_are_told_of_each_finding_once_whoever_left_it(
    ledger: Ledger, run: Run, mails: list[tuple[str, str]]
) -> None:
    record(ledger, "finding", {"what": "olga broke the glass"})
    record(ledger, "finding", {"what": "a chain is broken"}, INSTALLATION)
    assert run(told_findings.tell_people) == ["audrey@example.com"]
    assert run(told_findings.tell_people) == []
    ((subject, text),) = mails
    assert subject.startswith("2 findings about releases")
    assert "olga broke the glass" in text
    assert "a chain is broken" in text


def test_people_are_told_of_each_event_that_stopped_something_once(
    ledger: Ledger, run: Run, mails: list[tuple[str, str]]
) -> None:
    stopped = {"what": "Emergency stop of bike-shop by an event of pager: Checkout fails", "stop": "0123abcd"}
    record(ledger, "event.counted", stopped, INSTALLATION)
    assert run(told_findings.tell_people) == ["audrey@example.com"]
    assert run(told_findings.tell_people) == []
    ((subject, text),) = mails
    assert subject == "1 event of other systems stopped rollouts"
    assert "Checkout fails (stop 0123abcd" in text


# --- emergency stops


STOP = {"scope": "bike-shop", "reason": "Payments fail", "incident": None, "hours": 2, "lift": ""}


def test_a_stop_is_declared_by_whoever_triggers_it_and_lifted_by_its_id(
    ledger: Ledger, run: Run, mails: list[tuple[str, str]]
) -> None:
    declared = run(stops.record_stop, **STOP)
    assert run(stops.record_stop, **STOP) == declared, "a task that runs again declares nothing more"
    with pytest.raises(PolicyViolation, match="The wave is halted: emergency stop of bike-shop, by olga: Payments"):
        permits.refuse_stopped("bike-shop")
    run(stops.tell_of_stop, declared)
    lifting = {**STOP, "lift": declared["id"], "reason": "Payments work again"}
    lifted = run(stops.record_stop, run_id="lift-1", **lifting)
    assert run(stops.record_stop, run_id="lift-1", **lifting) == lifted
    permits.refuse_stopped("bike-shop")
    run(stops.tell_of_stop, lifted, run_id="lift-1")
    stopped = ledger.entries(INSTALLATION, kind="emergency_stop.*")
    assert [(entry.kind, entry.actor) for entry in stopped] == [
        (EMERGENCY_STOP_DECLARED, "olga"),
        (EMERGENCY_STOP_LIFTED, "olga"),
    ]
    assert [subject for subject, _ in mails] == [
        "Emergency stop of bike-shop",
        "Emergency stop of bike-shop lifted",
    ]
    how_to_lift, why_lifted = (text for _, text in mails)
    assert "declared an emergency stop of **bike-shop**" in how_to_lift
    assert "/dags/emergency_stop>" in how_to_lift
    assert "- Reason: Payments work again" in why_lifted
    assert "Still in force" not in why_lifted


def test_who_is_told_that_a_stop_is_lifted_reads_which_others_are_in_force(
    run: Run, mails: list[tuple[str, str]]
) -> None:
    for run_id, scope in (("stop-1", "everything"), ("stop-2", "retail")):
        run(stops.record_stop, run_id=run_id, **{**STOP, "scope": scope})
    lifted = run(stops.record_stop, run_id="lift-2", **{**STOP, "lift": "retail", "reason": "Payments work again"})
    run(stops.tell_of_stop, lifted, run_id="lift-2")
    ((_, text),) = mails
    assert "lifted the emergency stop of **retail**" in text
    assert "Still in force:\n\n- everything, by olga: Payments fail" in text


def test_a_stop_that_cannot_be_signed_holds_and_people_are_told(
    run: Run, mails: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_key() -> Signer:
        raise AssetMissing("The signing key is not there.")

    with monkeypatch.context() as broken:
        broken.setattr(resources, "signer", no_key)
        declared = run(stops.record_stop, **STOP)
        with pytest.raises(PolicyViolation, match="The wave is halted: emergency stop of bike-shop"):
            permits.refuse_stopped("bike-shop")
        with pytest.raises(AirflowFailException, match="signing key is not there"):
            run(stops.tell_of_stop, declared)
        assert [subject for subject, _ in mails] == ["Emergency stop of bike-shop"]
    run(stops.tell_of_stop, declared)
    with resources.ledger() as ledger:
        assert ledger.heads(INSTALLATION)[-1].sequence == ledger.entries(INSTALLATION)[-1].sequence


# --- reviews


def test_a_review_unblocks_the_release_that_it_is_about(ledger: Ledger, run: Run) -> None:
    form = {
        "service": "bike-shop",
        "run": RUN[1],
        "went_well": "Quick.",
        "to_change": "Ben writes a test.",
        "participants": "Ben\nCora",
    }
    ended = {"service": "bike-shop", "version": "1.1.1", "change_type": "emergency", "outcome": "deployed"}
    record(ledger, RELEASE_ENDED, {"run": "/".join(RUN), **ended}, INSTALLATION)
    assert not history.past_releases("bike-shop")[0].reviewed
    run(reviews.record_review, **form)
    run(reviews.record_review, **form)
    assert history.past_releases("bike-shop")[0].reviewed
    (review,) = ledger.entries(INSTALLATION, kind=RELEASE_REVIEWED)
    assert (review.actor, review.payload["participants"]) == ("olga", ["Ben", "Cora"])


# --- permits


@pytest.fixture
def in_release(run: Run, airflow: AirflowServer) -> Iterator[None]:
    ti = task_instance(RUN[0], "implementation.wave_1")
    context: Any = {"ti": ti, "dag_run": SimpleNamespace(dag_id=RUN[0], run_id=RUN[1])}
    with set_current_context(context):
        yield


def by_hand(ledger: Ledger) -> tuple[str, ...]:
    _, _, service = resources.catalogue_of("bike-shop")
    return permits._done_by_hand(service, ledger.entries(CHAIN))


@pytest.mark.usefixtures("in_release")
def test_what_was_done_by_hand_since_the_plan_was_frozen_stands_in_the_way_of_a_permit(
    airflow: AirflowServer, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permits, "GUARD_TIMEOUT_SECONDS", 1)
    monkeypatch.setattr(permits, "sleep", lambda seconds: None)
    assert by_hand(ledger) == (), "nothing is frozen yet"
    began(ledger)
    audited(airflow, "patch_task_instance", ago=3600)  # before
    audited(airflow, "update_hitl_detail")
    assert by_hand(ledger) == ()
    audited(airflow, "patch_task_instance")
    connection = json.dumps({"method": "PATCH", "connection_id": "interlock_hosts"})
    audited(airflow, "patch_connection", dag_id=None, run_id=None, task_id=None, extra=connection)
    done = by_hand(ledger)
    assert [sentence.partition(" at ")[0] for sentence in done] == [
        "olga marked rollout.await_board",
        "olga edited the connection interlock_hosts",
    ]


@pytest.mark.usefixtures("in_release")
def test_what_the_guard_refused_does_not_even_if_it_is_recorded_a_little_later(
    airflow: AirflowServer, ledger: Ledger, witness: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    began(ledger)
    audited(airflow, "patch_task_instance")
    at = airflow.audit[0]["when"]
    named = {"user": "olga", "entity": "TASK_INSTANCE", "dag_id": RUN[0], "run_id": RUN[1], "task_id": None}
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        record(witness, "attempt.refused", {**named, "first_at": at, "at": at}, INSTALLATION)

    monkeypatch.setattr(permits, "sleep", sleep)
    assert by_hand(ledger) == ()
    assert slept == [1]


# --- hosts that return


def missed(ledger: Ledger, signer: Signer, targets: Sequence[Host], bundle: Blob, **changes: Any) -> RolloutPlan:
    """Record a release that came to two hosts while the third was down; return its plan."""
    first, second, third = targets
    plan = releases.rollout(
        bundle=bundle,
        waves=((first,), (second, third)),
        strategy=Strategy(window=3, max_failed=1, min_healthy=0, by_zone=False),
        **changes,
    )
    came = {"outcome": "deployed", "before": "1.0.0-0123456789ab", "after": plan.release, "seconds": 1.4}
    down = {**came, "outcome": "failed", "after": None, "error": "nobody answers"}
    results = [
        HostResult(host=one.address, instance_id=one.instance_id, **(down if one is third else came)) for one in targets
    ]
    record(ledger, "rollout.frozen", {**plan.to_xcom(), "digest": plan.digest})
    record(ledger, "board.decided", releases.decision(digest=plan.digest).to_xcom())
    for number, part in ((1, results[:1]), (2, results[1:])):
        wave = WaveReport(number=number, of=2, release=plan.release, results=tuple(part))
        record(ledger, "wave.deployed", wave.to_xcom())
    record(ledger, "release.closed", releases.outcome().to_xcom())
    ledger.sign_head(CHAIN, signer)
    told = {"run": "/".join(RUN), "service": "bike-shop", "version": "1.1.0", "change_type": "normal"}
    record(ledger, RELEASE_ENDED, {**told, "outcome": "deployed"}, INSTALLATION)
    return plan


@pytest.fixture
def lost(ledger: Ledger, signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host that was down when 1.1.0 came to the two others."""
    store = ArtifactStore(Folder(tmp_path / "store"))
    targets = [releases.host(number) for number in (1, 2, 3)]
    missed(ledger, signer, targets, store.put_bytes(b"the bytes of 1.1.0", "bundle.tar.gz"))
    monkeypatch.setattr(resources, "store", lambda: store)
    return targets[2]


@pytest.fixture
def brought(hosts: dict[str, str | None], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts that were brought to a release; what happens on them is the fleet's tests."""
    from interlock.adapters.hosts import fleet as ssh_hosts

    came: list[str] = []

    async def deploy_hosts(targets: list[Host], deployment: Any, *, admission: Any, **_: Any) -> Any:
        for target in targets:
            await admission.admit(target.address)
            hosts[target.address] = deployment.release
            came.append(target.address)
        return tuple(releases.host_result(3, after=deployment.release) for _ in targets)

    monkeypatch.setattr(ssh_hosts, "deploy_hosts", deploy_hosts)
    monkeypatch.setattr(ssh_hosts, "CONCURRENCY", 1)
    return came


def test_a_host_that_was_down_gets_the_release_when_it_is_back_and_once(
    ledger: Ledger, run: Run, lost: Host, hosts: dict[str, str | None], brought: list[str]
) -> None:
    assert run(returning.bring_hosts_back) == [lost.address]
    assert run(returning.bring_hosts_back) == []
    assert brought == [lost.address]
    (returned,) = ledger.entries(CHAIN, kind="host.returned")
    assert returned.payload["results"][0]["host"] == lost.address
    used = [entry.payload["permit"] for entry in ledger.entries(CHAIN, kind="permit.used")]
    assert [(one["purpose"], one["hosts"]) for one in used] == [("return", [lost.address])]
    for number in (1, 2):
        hosts[releases.host(number).address] = hosts[lost.address]
    assert run(reconcile_hosts.check_hosts) == 0, "what it runs is what the ledger says"


def test_a_real_host_that_was_down_serves_the_release_once_it_answers_again(
    ledger: Ledger, signer: Signer, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sshd_fleet(tmp_path, 3) as fleet:
        catalogue = Path(shutil.copytree(CATALOGUE, tmp_path / "catalogue"))
        file = catalogue / "services" / "bike-shop.yaml"
        file.write_text(file.read_text().replace("port: 8400", f"port: {fleet.health_port}"))
        file.write_text(file.read_text().replace("deploy_root: srv/bike-shop", f"deploy_root: {DEPLOY_ROOT}"))
        monkeypatch.setenv("INTERLOCK_CATALOGUE", str(catalogue))
        store = ArtifactStore(Folder(tmp_path / "store"))
        made = make_release(fleet, tmp_path, "1.1.0")
        plan = missed(ledger, signer, fleet.hosts, store.put_file(made.bundle, "bundle.tar.gz"), target_group=None)
        monkeypatch.setattr(resources, "store", lambda: store)
        monkeypatch.setattr(resources, "login", lambda described: fleet.login)
        monkeypatch.setattr(resources, "balancer", lambda *_, **__: None)
        *others, down = fleet.machines

        down.turn_off()
        assert run(returning.bring_hosts_back, run_id="look-1") == []
        assert ledger.entries(CHAIN, kind="host.returned") == ()
        down.start()
        assert run(returning.bring_hosts_back, run_id="look-2") == [down.address]
        assert served(fleet, down) == "1.1.0"
        assert down.current == plan.release
        assert [served(fleet, other) for other in others] == [None, None], "nothing is done to the others"
        assert run(returning.bring_hosts_back, run_id="look-3") == []
        assert len(ledger.entries(CHAIN, kind="host.returned")) == 1


def test_a_host_that_is_still_down_is_waited_for(
    run: Run, lost: Host, brought: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(returning, "_answers", lambda *_: False)
    assert run(returning.bring_hosts_back) == []
    assert brought == []


@pytest.mark.parametrize(
    ("kind", "payload", "chain", "said"),
    [
        ("finding", {"what": "Somebody was at it."}, CHAIN, "The release has a finding"),
        (
            "version.marked_bad",
            {"service": "bike-shop", "environment": "production", "version": "1.1.0", "by": "rita", "reason": "Broken"},
            INSTALLATION,
            "1.1.0 of bike-shop is marked bad",
        ),
        (
            "permit.used",
            {"permit": {"purpose": "deploy", "environment": "production", "hosts": [releases.host(3).address]}},
            "release/release_bike_shop/another",
            "changed hosts of production",
        ),
    ],
)
def test_a_host_that_returns_stays_as_it_is_if_anything_speaks_against_its_release(
    ledger: Ledger,
    run: Run,
    lost: Host,
    brought: list[str],
    kind: str,
    payload: dict[str, Any],
    chain: str,
    said: str,
) -> None:
    record(ledger, kind, payload, chain)
    if chain not in (CHAIN, INSTALLATION):
        ended = {"run": "release_bike_shop/another", "service": "bike-shop", "version": "1.2.0", "outcome": "failed"}
        record(ledger, RELEASE_ENDED, ended, INSTALLATION)
    with pytest.raises(AirflowFailException, match=said):
        run(returning.bring_hosts_back)
    assert brought == []


def test_bytes_that_were_replaced_come_to_no_host(run: Run, lost: Host, brought: list[str], tmp_path: Path) -> None:
    (bundle,) = (tmp_path / "store").rglob("bundle.tar.gz")
    bundle.chmod(0o644)
    bundle.write_bytes(b"other bytes")
    with pytest.raises(AirflowFailException, match="was recorded"):
        run(returning.bring_hosts_back)
    assert brought == []


def test_while_a_release_is_under_way_no_host_is_touched(
    ledger: Ledger, run: Run, lost: Host, brought: list[str]
) -> None:
    record(ledger, "plan.made", releases.plan().to_xcom(), "release/release_bike_shop/now")
    assert run(returning.bring_hosts_back) == []
    assert brought == []


# --- what holds


def test_each_version_of_the_catalogue_and_each_key_is_on_record(
    airflow: AirflowServer, ledger: Ledger, run: Run, signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = Path(shutil.copytree(CATALOGUE, tmp_path / "catalogue"))
    monkeypatch.setenv("INTERLOCK_CATALOGUE", str(catalogue))
    for _ in range(2):
        run(reconcile_ledger.check_ledger)
    (first,) = ledger.entries(INSTALLATION, kind="catalogue.changed")
    assert {"policy.yaml", "board.yaml", "services/bike-shop.yaml"} <= first.payload["files"].keys()
    board = catalogue / "board.yaml"
    before = board.read_text()
    for text in (f"{before}# another\n", before):
        board.write_text(text)
        run(reconcile_ledger.check_ledger)
    entries = ledger.entries(INSTALLATION, kind="catalogue.changed")
    assert len(entries) == 3, "back to what it was is a change, too"
    assert entries[0].payload == entries[2].payload != entries[1].payload
    (key,) = ledger.entries(INSTALLATION, kind="key.used")
    assert key.payload == {"key_id": signer.key_id, "public_key": signer.public_key.decode()}


def test_a_finding_about_a_release_stops_it_wherever_it_stands(ledger: Ledger) -> None:
    def finding(evidence: dict[str, Any]) -> None:
        record(ledger, "finding", {"what": "It is gone.", "found": "x", "evidence": evidence}, INSTALLATION)

    finding({"chain": CHAIN})
    finding({"dag_id": RUN[0], "run_id": RUN[1]})
    finding({"chain": "release/release_bike_shop/another"})
    finding({"dag_id": RUN[0], "row": "paused"})
    about = ledger_findings.findings_about(ledger.entries(INSTALLATION, kind="finding"), CHAIN)
    assert [one.payload["evidence"] for one in about] == [{"chain": CHAIN}, {"dag_id": RUN[0], "run_id": RUN[1]}]
