"""From a release's chain in a real ledger, its files in a store and Airflow's record to a pack that others prove."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from interlock.adapters.airflow.rest_api import AirflowApi
from interlock.adapters.artifacts.store import ArtifactStore, Folder
from interlock.adapters.catalogue.backtest import read_releases
from interlock.adapters.evidence.sources import Packed, Sources, gather, pack_release, sealed_packs
from interlock.adapters.ledger.ledger import Ledger, open_ledger
from interlock.adapters.signing.signing import Signer, generate_key, load_signer
from interlock.adapters.signing.witness import as_witnessed
from interlock.domain.canonical import canonical_bytes, sha256_of
from interlock.domain.errors import AssetMissing, TransientError
from interlock.domain.ledger.chain import INSTALLATION, SEALED, release_chain
from interlock.domain.ledger.kinds import CASE_ATTACHED
from interlock.domain.paths import docs_prefix
from interlock.domain.records import FailedExpectation, QualityReport, Waiver
from interlock.estate.settings import Settings
from interlock.estate.stack import postgres as server
from interlock.locations import PROJECT
from tests.airflow_server import RUN, AirflowServer, airflow_server
from tests.factories import evidence as make
from tests.factories import releases
from tests.integration.ledger_server import ledger_connection, superuser_connection
from tests.unit.domain.test_attachments import attached

DAG = RUN[0]
LOG = '{"event": "making the shop"}\n'


@pytest.fixture(scope="module")
def postgres(server: Settings) -> Settings:
    return server


@dataclass
class World:
    """An installation with one release: where its evidence comes from."""

    ledger: Ledger
    store: ArtifactStore
    airflow: AirflowServer
    signer: Signer
    folder: Path
    postgres: Settings
    run: tuple[str, str]

    @property
    def chain(self) -> str:
        return release_chain(*self.run)

    def lived(self, many: list[make.Step], *, seal: bool = True) -> None:
        """Record the steps of a release, as its tasks do, and have Airflow know of its answers.

        :param seal: sign the chain's head after each decision, as its tasks do.
        """
        artifact = next((payload for kind, payload in many if kind == "artifact.built"), None)
        if artifact:
            bundle = releases.artifact().bundle
            bill = self.store.put_bytes(make.bill(bundle, self.signer), "bom.dsse.json")
            signed = make.provenance(bundle, self.signer, bill)
            artifact["provenance"] = self.store.put_bytes(signed, "provenance.dsse.json").model_dump(mode="json")
        for number, (kind, payload) in enumerate(many):
            plain = json.loads(canonical_bytes(payload))
            entry = self.ledger.append(self.chain, kind, plain, actor=f"{DAG}/task", key=f"{kind}/{number}")
            if seal and kind in SEALED:
                self.ledger.sign_head(self.chain, self.signer, seals=entry)
        for vote in next((payload["votes"] for kind, payload in many if kind == "board.decided"), ()):
            ballot = f"This decides on `{next(p['digest'] for k, p in many if k == 'rollout.frozen')}` only."
            question = self.airflow.ask("rollout.cast_ballot", vote["user"], body=ballot)
            self.airflow.answer(question, vote["user"], vote["choice"], vote["comment"], responded_at=vote["at"])

    def sources(self, api: AirflowApi) -> Sources:
        return Sources(self.ledger, self.store, api, self.signer, {"tests": "1" * 64})

    def api(self) -> AirflowApi:
        return AirflowApi(f"http://127.0.0.1:{self.airflow.port}", "reader", "r3ader")

    def pack(self) -> tuple[Packed, dict[str, bytes]]:
        file = self.folder / "pack.zip"
        with self.api() as api:
            packed = pack_release(*self.run, self.sources(api), file, actor="olga")
        with zipfile.ZipFile(file) as archive:
            return packed, {name: archive.read(name) for name in archive.namelist()}

    def proof(self, file: str = "pack.zip") -> subprocess.CompletedProcess[str]:
        (self.folder / "key.pem").write_bytes(self.signer.public_key)
        command = [sys.executable, "-m", "interlock.verify", str(self.folder / file), "--key"]
        return subprocess.run(
            [*command, str(self.folder / "key.pem")], cwd=PROJECT, capture_output=True, text=True, check=False
        )


@pytest.fixture
def world(
    postgres: Settings, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    run = (DAG, f"manual__{request.node.name}")
    # The ledger takes no other time than now, so the release has just been, and its permits have not run out.
    monkeypatch.setattr(make, "AT", datetime.now(UTC) - timedelta(minutes=13))
    monkeypatch.setattr(make, "CHAIN", release_chain(*run))
    monkeypatch.setattr("tests.airflow_server.RUN", run)
    generate_key(tmp_path / "key")
    store = ArtifactStore(Folder(tmp_path / "store"))
    with open_ledger(superuser_connection(postgres)) as ledger, airflow_server() as airflow:
        airflow.run = {"dag_id": DAG, "dag_run_id": run[1], "triggering_user_name": "rita", "conf": {"ref": "1.1.0"}}
        airflow.tasks = [
            {"task_id": "build.build_artifact", "map_index": -1, "try_number": 2, "state": "success"},
            {"task_id": "rollout.cast_ballot", "map_index": 1, "try_number": 1, "state": "success"},
            {"task_id": "closure.close_release", "map_index": -1, "try_number": 0, "state": None},
        ]
        airflow.logs = {("build.build_artifact", 2): LOG, ("rollout.cast_ballot", 1): LOG}
        yield World(ledger, store, airflow, load_signer((tmp_path / "key").as_uri()), tmp_path, postgres, run)


def steps(world: World, report: QualityReport | None = None, **plan_changes: Any) -> list[make.Step]:
    quality, acceptance = report or releases.quality(), releases.decision("acceptance", digest="e" * 64)
    plan = releases.rollout(
        quality_digest=sha256_of(quality),
        policy_digest=releases.policy().digest,
        decide_by=datetime.now(UTC) + timedelta(days=2),
        **plan_changes,
    )
    return make.steps(world.signer, plan, quality, acceptance)


def test_a_release_is_packed_from_ledger_store_and_airflow_and_proven(world: World) -> None:
    many, shot = steps(world), world.store.put_bytes(b"a picture", "attached.png")
    file = attached(file=shot)
    signed = as_witnessed(CASE_ATTACHED, world.chain, file, datetime.now(UTC), world.signer)
    world.lived([*many[:5], (CASE_ATTACHED, signed), *many[5:]])
    docs = world.folder / "docs"
    docs.mkdir()
    (docs / "index.html").write_text("<p>judged</p>")
    world.store.put_tree(docs, docs_prefix(*world.run, "quality"))
    packed, files = world.pack()
    proof = world.proof()
    assert proof.returncode == 0, proof.stdout
    assert "PROVEN." in proof.stdout
    assert packed.known
    assert files["quality/index.html"] == b"<p>judged</p>"
    assert files[f"attached/{shot.sha256}.png"] == b"a picture"
    assert files["logs/build.build_artifact/2.log"].decode() == LOG
    assert files["logs/build.build_artifact/1.log"] == b""
    assert "logs/rollout.cast_ballot.1/1.log" in files
    assert {f"attestations/{name}.dsse.json" for name in ("provenance", "bom", "test-result", "release")} <= set(files)
    run = json.loads(files["run.json"])
    assert (run["triggering_user_name"], len(run["tasks"])) == ("rita", 3)
    assert [one["user"] for one in json.loads(files["ballots.json"])["ballots"]] == ["ben", "dan"]


def test_the_pack_is_in_the_store_and_on_record(world: World) -> None:
    world.lived(steps(world))
    packed, _ = world.pack()
    assert world.store.get_bytes(packed.blob) == (world.folder / "pack.zip").read_bytes()
    assert sealed_packs(*world.run, world.ledger) == (packed.blob,)
    assert sealed_packs(DAG, "another", world.ledger) == ()
    entry = world.ledger.entries(INSTALLATION, kind="pack.sealed")[-1]
    assert (entry.actor, entry.payload["chain"]) == ("olga", world.chain)


def test_what_each_host_runs_is_told_with_release_and_commit(world: World) -> None:
    world.lived(steps(world))
    _, files = world.pack()
    hosts = json.loads(files["hosts.json"])
    assert [one["host"] for one in hosts["running"]] == list(releases.ADDRESSES)
    told = {(one["release"], one["version"], one["commit"]) for one in hosts["running"]}
    assert told == {(f"1.1.0-{'a' * 12}", "1.1.0", releases.SHA)}
    assert re.fullmatch(r"20\d\d-.*Z", hosts["at"])


def test_hosts_that_were_backed_out_run_what_they_ran_before(world: World) -> None:
    many = steps(world)
    back = releases.back_out().model_copy(update={"results": releases.back_out().results[:2]})
    closed = releases.outcome(outcome="backed_out", running={**dict.fromkeys(releases.ADDRESSES[:2], "1.0.0")})
    many[-1:] = [("back_out.done", back.to_xcom()), ("release.closed", closed.to_xcom())]
    world.lived(many)
    _, files = world.pack()
    hosts = {one["host"]: one for one in json.loads(files["hosts.json"])["running"]}
    first, last = hosts[releases.ADDRESSES[0]], hosts[releases.ADDRESSES[2]]
    assert (first["release"], first["version"], first["commit"]) == ("1.0.0-0123456789ab", "1.0.0", "c" * 40)
    assert (last["release"], last["version"]) == (f"1.1.0-{'a' * 12}", None), (
        "it was not backed out, and did not answer"
    )


def returned(number: int, **fields: Any) -> make.Step:
    """A host that was down when the release came, and what came of it when it was back."""
    report = releases.wave(2, releases.host_result(number, **fields))
    return "host.returned", {**report.to_xcom(), "digest": releases.artifact().bundle.sha256}


def test_a_host_that_returned_runs_what_it_was_brought_to_then(world: World) -> None:
    many = steps(world)
    lost = releases.host_result(3, outcome="failed", after=None).model_dump(mode="json")
    many[14][1]["results"][-1] = lost
    closed = releases.outcome(running=dict.fromkeys(releases.ADDRESSES[:2], "1.1.0"))
    many[-1:] = [("release.closed", closed.to_xcom()), returned(3)]
    world.lived(many)
    _, files = world.pack()
    hosts = json.loads(files["hosts.json"])
    last = hosts["running"][-1]
    assert (last["host"], last["release"]) == (releases.ADDRESSES[2], f"1.1.0-{'a' * 12}")
    assert (last["version"], last["commit"]) == ("1.1.0", releases.SHA)
    at = world.ledger.entries(world.chain, kind="host.returned")[-1].at
    assert datetime.fromisoformat(hosts["at"]) == at


def test_a_host_that_returned_and_failed_is_told_as_it_said_last(world: World) -> None:
    old = "1.0.0-0123456789ab"
    closed = releases.outcome(running=dict.fromkeys(releases.ADDRESSES, "1.0.0"))
    world.lived([*steps(world)[:-1], ("release.closed", closed.to_xcom()), returned(3, outcome="failed", after=old)])
    _, files = world.pack()
    last = json.loads(files["hosts.json"])["running"][-1]
    assert (last["release"], last["version"], last["commit"]) == (old, "1.0.0", "c" * 40)


def test_a_pack_of_a_release_that_is_under_way_is_proven(world: World) -> None:
    world.lived(steps(world)[:13])
    assert world.ledger.heads(world.chain)[-1].sequence == 9
    world.pack()
    proof = world.proof()
    assert proof.returncode == 0, proof.stdout
    assert "The release was not closed when this pack was made." in proof.stdout
    assert [head.sequence for head in world.ledger.heads(world.chain)][-2:] == [9, 13]


def test_a_pack_after_a_late_finding_is_proven_and_tells_it(world: World) -> None:
    world.lived([*steps(world), ("finding", {"what": "somebody broke the glass"})])
    world.pack()
    proof = world.proof()
    assert proof.returncode == 0, proof.stdout
    assert "somebody broke the glass" in proof.stdout


@pytest.mark.parametrize("end", [9, 12, 17])
def test_a_decision_that_nobody_vouched_for_is_not_vouched_for_by_a_pack(world: World, end: int) -> None:
    """Whoever may write rows could have written it, and what follows: only who decided signs that."""
    world.lived(steps(world)[:end], seal=False)
    world.pack()
    assert world.ledger.heads(world.chain) == ()
    assert "(rollout.frozen): is not sealed yet" in world.proof().stdout


def test_a_decision_at_the_end_waits_for_the_task_that_makes_it(world: World) -> None:
    many = steps(world)
    world.lived(many[:8])
    plain = json.loads(canonical_bytes(many[8][1]))
    world.ledger.append(world.chain, "board.decided", plain, actor=f"{DAG}/task", key="board.decided/8")
    world.pack()
    assert world.ledger.heads(world.chain)[-1].sequence == 8


def test_a_head_by_somebody_else_is_nothing_to_go_on_from(world: World) -> None:
    many = steps(world)
    world.lived(many[:12], seal=False)
    world.ledger.sign_head(world.chain, make.signer(9))
    world.ledger.append(world.chain, "note", {}, actor="eve", key="note")
    world.pack()
    assert len(world.ledger.heads(world.chain)) == 1
    assert world.proof().returncode == 1


def test_packing_again_adds_nothing_to_a_chain_that_is_sealed(world: World) -> None:
    world.lived(steps(world))
    before = world.ledger.heads(world.chain)
    world.pack()
    assert world.ledger.heads(world.chain) == before


def test_a_bill_of_materials_that_the_store_has_lost_is_missed_by_the_verifier(world: World) -> None:
    world.lived(steps(world))
    (found,) = (world.folder / "store").rglob("bom.dsse.json")
    found.unlink()
    _, files = world.pack()
    assert "attestations/bom.dsse.json" not in files
    assert "expected bom.dsse.json, which the provenance names" in world.proof().stdout


def test_a_release_whose_run_was_deleted_is_proven_and_says_so(world: World) -> None:
    world.lived(steps(world))
    world.airflow.knows_run = False
    packed, files = world.pack()
    proof = world.proof()
    assert proof.returncode == 0, proof.stdout
    assert "WARNING: by run.json Airflow had lost the run" in proof.stdout
    assert not packed.known
    assert json.loads(files["run.json"])["known"] is False
    assert json.loads(files["ballots.json"]) == {"ballots": []}
    assert not [name for name in files if name.startswith("logs/")]


@pytest.mark.parametrize("trouble", [(503, b"busy"), (0, b"")])
def test_an_airflow_out_of_reach_is_not_taken_for_a_deleted_run(world: World, trouble: tuple[int, bytes]) -> None:
    world.lived(steps(world))
    with world.api() as api:
        world.airflow.troubles = [trouble]
        with pytest.raises(TransientError):
            gather(*world.run, world.sources(api), folder=world.folder / "tree")


def test_a_release_that_was_rejected_before_there_was_a_plan_is_proven(world: World) -> None:
    many = list(takewhile(lambda step: step[0] != "artifact.built", steps(world)))
    rejected = releases.decision("plan", approved=False, digest="f" * 64, reason="Not in December.", votes=())
    closed = releases.outcome(outcome="rejected", stage="planning", reason="Not in December.", running={})
    world.lived([*many, ("plan.decided", rejected.to_xcom()), ("release.closed", closed.to_xcom())])
    _, files = world.pack()
    proof = world.proof()
    assert proof.returncode == 0, proof.stdout
    assert "closed as rejected" in proof.stdout
    assert "plan.json" not in files
    assert not [name for name in files if name.startswith("attestations/")]
    before = json.loads(files["hosts.json"])["running"]
    assert {one["version"] for one in before} == {"1.0.0"}, "what production ran when the release was planned"


def waiver(failure: FailedExpectation) -> Waiver:
    return Waiver(
        expectation=failure.expected,
        suite=failure.suite,
        reason="Slow for a day.",
        by="maya",
        at=make.AT,
        until=make.AT + timedelta(days=1),
    )


@pytest.mark.parametrize("waived", [True, False])
def test_a_failed_quality_review_is_proven_with_its_waivers_and_not_without(world: World, waived: bool) -> None:
    failure = releases.failure()
    many = steps(world, releases.quality(failure), waivers=(waiver(failure),))
    if waived:
        many.insert(5, ("quality.waived", waiver(failure).to_xcom()))
    world.lived(many)
    world.pack()
    proof = world.proof()
    assert (proof.returncode == 0) is waived, proof.stdout
    assert ("1 failed expectations, 1 waivers" in proof.stdout) is waived
    assert ("expected a waiver that holds of performance: p95_ms is at most 800" in proof.stdout) is not waived


def test_a_provenance_that_was_changed_in_the_store_is_missed_by_the_verifier(world: World) -> None:
    world.lived(steps(world))
    (found,) = (world.folder / "store").rglob("provenance.dsse.json")
    found.write_bytes(b"{}")
    _, files = world.pack()
    assert "attestations/provenance.dsse.json" not in files
    assert world.proof().returncode == 1


# --- the command -----------------------------------------------------------------------------------------------------


def command(world: World, *words: str, name: str = "evidence") -> subprocess.CompletedProcess[str]:
    """Run a command in an environment that has Airflow's connections."""
    ledger = ledger_connection(world.postgres)
    fields = ("host", "port", "schema", "login", "password")
    connections: dict[str, dict[str, Any]] = {
        "LEDGER": {"conn_type": "postgres", **{name: getattr(ledger, name) for name in fields}},
        "ARTIFACTS": {"conn_type": "fs", "extra": {"path": str(world.folder / "store")}},
        "AIRFLOW": {"conn_type": "http", "host": "127.0.0.1", "port": world.airflow.port, "login": "reader"},
        "SIGNING_KEY": {"conn_type": "generic", "host": (world.folder / "key").as_uri()},
    }
    connections["AIRFLOW"] |= {"password": "r3ader", "schema": "http"}
    return subprocess.run(
        [sys.executable, "-m", "interlock", name, "--here", *words],
        cwd=PROJECT,
        env={
            **os.environ,
            "AIRFLOW_HOME": str(world.folder / "airflow"),
            **{f"AIRFLOW_CONN_INTERLOCK_{name}": json.dumps(value) for name, value in connections.items()},
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_one_command_writes_the_pack_also_of_a_run_that_was_deleted(world: World) -> None:
    world.lived(steps(world))
    done = command(world, "/".join(world.run), str(world.folder / "mine.zip"))
    assert done.returncode == 0, done.stderr
    assert world.proof("mine.zip").returncode == 0
    world.airflow.knows_run = False
    again = command(world, world.chain, str(world.folder))
    assert again.returncode == 0, again.stderr
    assert "Airflow does not have this run any more" in again.stdout
    (before,) = sealed_packs(*world.run, world.ledger)[:-1]
    assert f"a pack that was made before is in {before.uri}" in again.stdout
    (written,) = world.folder.glob("evidence-release_bike_shop-*.zip")
    assert world.proof(written.name).returncode == 0


def test_a_release_that_never_was_is_not_packed_and_those_there_are_named(world: World) -> None:
    world.lived(steps(world))
    done = command(world, "release_bike_shop/never", str(world.folder / "mine.zip"))
    assert done.returncode == 1
    assert "The ledger has no release 'release_bike_shop/never'" in done.stderr
    assert f"\n  {'/'.join(world.run)}\n" in done.stderr
    assert not (world.folder / "mine.zip").exists()
    with world.api() as api, pytest.raises(AssetMissing, match="no release release_bike_shop/never"):
        gather(DAG, "never", world.sources(api), folder=world.folder / "tree")


def tamper(settings: Settings, statement: str) -> None:
    """Change the ledger as only the owner of the database server can."""
    with closing(server.connect(settings, server.LEDGER)) as owner, owner, owner.cursor() as cursor:
        cursor.execute("ALTER TABLE ledger.entries DISABLE TRIGGER append_only")
        cursor.execute(statement)
        cursor.execute("ALTER TABLE ledger.entries ENABLE ALWAYS TRIGGER append_only")


def test_past_releases_are_read_from_the_ledger_and_a_broken_chain_is_left_out_and_named(world: World) -> None:
    world.lived(steps(world))
    open_one = (DAG, "manual__still-open")
    world.ledger.append(release_chain(*open_one), "release.requested", {"service": "x"}, actor="a", key="k")
    reviewed = {"run": "/".join(world.run)}
    world.ledger.append(INSTALLATION, "release.reviewed", reviewed, actor="rita", key=f"reviewed/{world.run[1]}")
    broken = release_chain(DAG, "manual__broken")
    world.ledger.append(broken, "release.requested", {"service": "x"}, actor="a", key="k")
    tamper(world.postgres, f"UPDATE ledger.entries SET payload = '{{}}' WHERE chain = '{broken}'")
    rows = world.folder / "releases.jsonl"
    done = command(world, str(rows), name="past-releases")
    assert done.returncode == 0, done.stderr
    assert f"{broken} is left out" in done.stderr
    found = {release.run: release for release in read_releases(rows)}
    mine = found["/".join(world.run)]
    assert (mine.version, mine.outcome, mine.commits, mine.reviewed) == ("1.1.0", "deployed", 2, True)
    assert "/".join(open_one) not in found
