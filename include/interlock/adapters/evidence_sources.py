"""Where the evidence of a release comes from: the ledger, the artifact store, and Airflow's record of the run.

What only Airflow has (answers, task history, logs) may be gone one day, with its run; a pack made then says so, and
proves what the ledger and the store prove.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from include.interlock.domain.errors import AssetMissing, DigestMismatch, ReleaseError
from include.interlock.domain.ledger import Entry, release_chain
from include.interlock.domain.paths import docs_prefix
from include.interlock.domain.records import Artifact, Outcome, QualityReport, Record, RolloutPlan

from . import attestation
from .airflow_api import AirflowApi
from .artifacts import ArtifactStore
from .evidence import Evidence
from .ledger import Ledger
from .signing import Signer

R = TypeVar("R", bound=Record)


def gather(
    dag_id: str,
    run_id: str,
    *,
    ledger: Ledger,
    store: ArtifactStore,
    api: AirflowApi,
    signer: Signer,
    suites: Mapping[str, str],
    folder: Path,
) -> Evidence:
    """Gather what is known of a release.

    :param suites: suite: SHA-256 of the file that says what it expects.
    :param folder: where files that the pack will hold are put meanwhile.
    """
    chain = release_chain(dag_id, run_id)
    entries = ledger.entries(chain)
    docs = folder / "quality"
    found = store.get_tree(docs_prefix(dag_id, run_id, "quality"), docs)
    run, logs = _of_airflow(api, dag_id, run_id)
    return Evidence(
        chain=chain,
        entries=entries,
        heads=ledger.heads(chain),
        attestations=dict(_attestations(entries, store, signer, suites)),
        plan=_plan(entries),
        ballots=api.answers(dag_id, run_id) if run.get("known") is not False else (),
        run=run,
        hosts={
            "running": [
                {"host": host, "version": version}
                for host, version in sorted(_payload(entries, "release.closed").get("running", {}).items())
            ]
        },
        quality=docs if found else None,
        logs=logs,
    )


def _of_airflow(api: AirflowApi, dag_id: str, run_id: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the run as Airflow has it, and the logs of its tasks."""
    try:
        run, tasks = api.run(dag_id, run_id), api.task_instances(dag_id, run_id)
    except ReleaseError as error:
        return {"dag_id": dag_id, "run_id": run_id, "known": False, "why": str(error)}, {}
    logs = {}
    for task in tasks:
        name = task["task_id"] if task["map_index"] < 0 else f"{task['task_id']}.{task['map_index']}"
        for number in range(1, (task["try_number"] or 0) + 1):
            text = api.log(dag_id, run_id, task["task_id"], task["map_index"], number)
            logs[f"{name}/{number}"] = text.encode()
    return {**run, "tasks": tasks}, logs


def _attestations(
    entries: Sequence[Entry], store: ArtifactStore, signer: Signer, suites: Mapping[str, str]
) -> Iterator[tuple[str, bytes]]:
    """Yield what is attested of the artifact, in envelopes: the build's own, and what follows from the chain."""
    artifact = _last(entries, "artifact.built", Artifact)
    if artifact is None:
        return
    name = Path(artifact.bundle.uri).name
    with suppress(AssetMissing, DigestMismatch):  # the verifier misses it, and says so
        yield "provenance", store.get_bytes(artifact.provenance)
    if report := _last(entries, "quality.judged", QualityReport):
        judged = attestation.test_result_statement(
            artifact=artifact.bundle, name=name, report=report, expectations=suites
        )
        yield "test-result", signer.envelope(judged)
    outcome, plan = _last(entries, "release.closed", Outcome), _plan(entries)
    if outcome is None or plan is None:
        return
    if outcome.outcome == "deployed":
        released = attestation.release_statement(
            artifact=artifact.bundle, name=name, service=plan.service, version=plan.version
        )
        yield "release", signer.envelope(released)
    closed = next(entry.at for entry in reversed(entries) if entry.kind == "release.closed")
    summary = attestation.verification_summary_statement(
        plan=plan, name=name, outcome=outcome, verified=closed, inputs=(artifact.provenance,)
    )
    yield "verification-summary", signer.envelope(summary)


def _payload(entries: Sequence[Entry], kind: str) -> dict[str, Any]:
    return next((entry.payload for entry in reversed(entries) if entry.kind == kind), {})


def _last(entries: Sequence[Entry], kind: str, model: type[R]) -> R | None:
    found = _payload(entries, kind)
    return model.from_xcom(found) if found else None


def _plan(entries: Sequence[Entry]) -> RolloutPlan | None:
    found = _payload(entries, "rollout.frozen")
    return RolloutPlan.from_xcom({key: value for key, value in found.items() if key != "digest"}) if found else None
