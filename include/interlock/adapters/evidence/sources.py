"""Where the evidence of a release comes from: the ledger, the artifact store, and Airflow's record of the run.

What only Airflow has (answers, task history, logs) may be gone one day, with its run; a pack made then says so, and
proves what the ledger and the store prove.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from interlock.adapters.airflow.rest_api import AirflowApi
from interlock.adapters.artifacts.store import ArtifactStore
from interlock.adapters.signing.signing import Signer, key_id
from interlock.adapters.testing.matrices import matrix_of
from interlock.domain.errors import AssetMissing, DigestMismatch, LedgerBroken, RequestRefused
from interlock.domain.ledger.chain import INSTALLATION, Entry, instant, release_chain
from interlock.domain.ledger.integrity import unsigned_since
from interlock.domain.ledger.kinds import (
    ARTIFACT_BUILT,
    BACK_OUT_DONE,
    HOST_RETURNED,
    PACK_SEALED,
    PATH_JUDGED,
    PLAN_MADE,
    QUALITY_JUDGED,
    RELEASE_CLOSED,
    WAVE_DEPLOYED,
)
from interlock.domain.ledger.reading import last_in, last_of_each, plan_in
from interlock.domain.paths import docs_prefix, docs_stage, run_slug
from interlock.domain.records import (
    Artifact,
    BackOutReport,
    Blob,
    HostResult,
    Outcome,
    QualityReport,
    ReleasePlan,
    RunningRelease,
    WaveReport,
)
from interlock.domain.testing.attachments import attachments_in

from . import attestation
from .pack import Evidence, SealedPack, build_pack

if TYPE_CHECKING:
    from interlock.adapters.ledger.ledger import Ledger  # brings SQLAlchemy, and the Dag files import this module

TOUCHED: dict[str, type[WaveReport] | type[BackOutReport]] = {
    WAVE_DEPLOYED: WaveReport,
    BACK_OUT_DONE: BackOutReport,
    HOST_RETURNED: WaveReport,
}
"""The kinds of entries with results of hosts."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where evidence comes from.

    :param signer: signs what follows from the chain, and the pack.
    :param suites: suite: SHA-256 of the file that says what it expects.
    :param witness: the public key with which Airflow's API server signs answers, PEM; none: the pack does not bring it.
    """

    ledger: Ledger
    store: ArtifactStore
    api: AirflowApi
    signer: Signer
    suites: Mapping[str, str]
    witness: bytes | None = None


@dataclass(frozen=True, slots=True)
class Packed:
    """A pack that is in the store and on record.

    :param known: Airflow still had the run.
    """

    blob: Blob
    sealed: SealedPack
    known: bool


def pack_release(dag_id: str, run_id: str, sources: Sources, destination: Path, *, actor: str) -> Packed:
    """Write everything that proves a release into one archive, keep it in the store, and record it.

    :param actor: who asks for it.
    """
    _seal_tail(release_chain(dag_id, run_id), sources)
    with TemporaryDirectory(prefix="interlock-") as folder:
        evidence = gather(dag_id, run_id, sources, folder=Path(folder, "quality"))
        sealed = build_pack(destination, evidence, sources.signer, created=datetime.now(UTC))
    blob = sources.store.put_file(destination, pack_name(dag_id, run_id))
    sources.ledger.append(
        INSTALLATION,
        PACK_SEALED,
        {**sealed.model_dump(mode="json"), "uri": blob.uri},
        actor=actor,
        key=f"{PACK_SEALED}/{sealed.sha256}",
    )
    return Packed(blob, sealed, known=evidence.run.get("known") is not False)


def _seal_tail(chain: str, sources: Sources) -> None:
    """Vouch for what came after the last signed head, as reconcile does: a release that is under way, a late finding.

    Only if every decision before it is signed: otherwise the chain may have been replaced.
    """
    entries, heads = sources.ledger.entries(chain), sources.ledger.heads(chain)
    sealed = max((head.sequence for head in heads), default=0)
    if len(entries) > sealed and unsigned_since(chain, entries, heads) is None:
        with suppress(LedgerBroken):  # a head is not ours: nothing is added, and the verifier says so
            sources.ledger.sign_head(chain, sources.signer, seals=entries[-1])


def pack_name(dag_id: str, run_id: str) -> str:
    """Return what the file of a release's pack is called."""
    return f"evidence-{dag_id}-{run_slug(run_id)}.zip"


def sealed_packs(dag_id: str, run_id: str, ledger: Ledger) -> tuple[Blob, ...]:
    """Return the existing packs of a release, the newest last."""
    chain = release_chain(dag_id, run_id)
    return tuple(
        Blob(**{field: entry.payload[field] for field in ("uri", "sha256", "size")})
        for entry in ledger.entries(INSTALLATION, kind=PACK_SEALED)
        if entry.payload["chain"] == chain
    )


def gather(dag_id: str, run_id: str, sources: Sources, *, folder: Path) -> Evidence:
    """Collect the evidence of a release.

    :param folder: where files that the pack will hold are put meanwhile.
    :raises AssetMissing: the release does not exist.
    """
    chain, ledger, store = release_chain(dag_id, run_id), sources.ledger, sources.store
    entries = ledger.entries(chain)
    if not entries:
        raise AssetMissing(
            f"The ledger has no release {dag_id}/{run_id}.",
            rule="a release has a chain in the ledger, starting with its first task",
            next_step="name the release as <Dag id>/<run id>, such as release_bike_shop/1.4.0__2026-…",
        )
    found = store.get_tree(docs_prefix(dag_id, run_id, "quality"), folder)
    for name in last_of_each(entries, PATH_JUDGED, QualityReport):
        found = store.get_tree(docs_prefix(dag_id, run_id, docs_stage(name)), folder / "environments" / name) or found
    run, logs = _of_airflow(sources.api, dag_id, run_id)
    return Evidence(
        chain=chain,
        entries=entries,
        heads=ledger.heads(chain),
        attestations=dict(_attestations(entries, store, sources.signer, sources.suites)),
        plan=plan_in(entries),
        ballots=sources.api.answers(dag_id, run_id) if run.get("known") is not False else (),
        run=run,
        hosts=_hosts(entries),
        quality=folder if found else None,
        logs=logs,
        matrix=_matrix(entries, store),
        keys={key_id(sources.witness): sources.witness} if sources.witness else {},
        pipeline=dict(_pipeline(entries, store)),
        attached=dict(_attached(entries, store)),
    )


def _pipeline(entries: Sequence[Entry], store: ArtifactStore) -> Iterator[tuple[str, bytes]]:
    """Yield what the artifact's own pipeline signed, by its digest; what is missing, the verifier misses."""
    artifact = last_in(entries, ARTIFACT_BUILT, Artifact)
    for blob in artifact.origin.statements if artifact and artifact.origin else ():
        with suppress(AssetMissing, DigestMismatch, RequestRefused):
            yield blob.sha256, store.get_bytes(blob)


def _attached(entries: Sequence[Entry], store: ArtifactStore) -> Iterator[tuple[str, bytes]]:
    """Yield the files that testers attached to test cases; what is missing, the verifier misses."""
    for one in attachments_in(entries):
        with suppress(AssetMissing, DigestMismatch, RequestRefused):
            yield f"{one.file.sha256}.{one.kind}", store.get_bytes(one.file)


def _matrix(entries: Sequence[Entry], store: ArtifactStore) -> list[dict[str, Any]]:
    """Return the test matrix; empty, if a table is not in the store any more: the chain still has the results."""
    try:
        return [row.model_dump(mode="json") for row in matrix_of(entries, store) or ()]
    except (AssetMissing, DigestMismatch, RequestRefused):
        return []


def _of_airflow(api: AirflowApi, dag_id: str, run_id: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the run as Airflow has it, and the logs of its tasks; an Airflow that is only out of reach is waited for.

    :raises TransientError: Airflow does not say whether it has the run.
    """
    try:
        run = api.run(dag_id, run_id)
    except AssetMissing as error:
        return {"dag_id": dag_id, "run_id": run_id, "known": False, "why": error.what}, {}
    tasks, logs = api.task_instances(dag_id, run_id), {}
    for task in tasks:
        name = task["task_id"] if task["map_index"] < 0 else f"{task['task_id']}.{task['map_index']}"
        for number in range(1, (task["try_number"] or 0) + 1):
            text = api.log(dag_id, run_id, task["task_id"], task["map_index"], number)
            logs[f"{name}/{number}"] = text.encode()
    return {**run, "tasks": tasks}, logs


def _hosts(entries: Sequence[Entry]) -> dict[str, Any]:
    """Return what the hosts said last: after the last wave, back-out or return, else when the release was planned."""
    planned = last_in(entries, PLAN_MADE, ReleasePlan)
    before = planned.running if planned else ()
    results = _last_results(entries)
    if not results:
        return _said(entries, (PLAN_MADE,), before) if planned else {"running": []}
    outcome = last_in(entries, RELEASE_CLOSED, Outcome)
    versions = outcome.running if outcome else {}
    plan = plan_in(entries)
    commits = {one.release: one.commit for one in before}
    if plan is not None:
        commits[plan.release] = plan.commit
        came = [host for host, one in _last_results(entries, HOST_RETURNED).items() if one.after == plan.release]
        versions = versions | dict.fromkeys(came, plan.version)  # after it was closed
    running = [
        RunningRelease(
            host=host,
            release=one.after,
            version=versions.get(host),
            commit=commits.get(one.after) if one.after else None,
        )
        for host, one in sorted(results.items())
    ]
    return _said(entries, (*TOUCHED, RELEASE_CLOSED), running)


def _said(entries: Sequence[Entry], kinds: Sequence[str], running: Sequence[RunningRelease]) -> dict[str, Any]:
    at = next(entry.at for entry in reversed(entries) if entry.kind in kinds)
    return {"at": instant(at), "running": [one.model_dump(mode="json") for one in running]}


def _last_results(entries: Sequence[Entry], *kinds: str) -> dict[str, HostResult]:
    """Return the last result of each changed host.

    :param kinds: of the entries that count; none: of all that touch hosts.
    """
    reports = [
        TOUCHED[entry.kind].model_validate(entry.payload, extra="ignore")
        for entry in entries
        if entry.kind in (kinds or TOUCHED)
    ]
    return {one.host: one for report in reports for one in report.results if one.outcome != "untouched"}


def _attestations(
    entries: Sequence[Entry], store: ArtifactStore, signer: Signer, suites: Mapping[str, str]
) -> Iterator[tuple[str, bytes]]:
    """Yield what is attested of the artifact, in envelopes: the build's own, and what follows from the chain."""
    artifact = last_in(entries, ARTIFACT_BUILT, Artifact)
    if artifact is None:
        return
    name = Path(artifact.bundle.uri).name
    with suppress(AssetMissing, DigestMismatch, RequestRefused):  # the verifier misses it, and says so
        provenance = store.get_bytes(artifact.provenance)
        yield "provenance", provenance
        said = json.loads(base64.b64decode(json.loads(provenance)["payload"]))
        for bill in attestation.named_byproducts(said, attestation.SIGNED_BOM):
            yield "bom", store.get_bytes(bill)
    if report := last_in(entries, QUALITY_JUDGED, QualityReport):
        judged = attestation.test_result_statement(
            artifact=artifact.bundle, name=name, report=report, expectations=suites
        )
        yield "test-result", signer.envelope(judged)
    outcome, plan = last_in(entries, RELEASE_CLOSED, Outcome), plan_in(entries)
    if outcome is None or plan is None:
        return
    if outcome.outcome == "deployed":
        released = attestation.release_statement(
            artifact=artifact.bundle, name=name, service=plan.service, version=plan.version
        )
        yield "release", signer.envelope(released)
    closed = next(entry.at for entry in reversed(entries) if entry.kind == RELEASE_CLOSED)
    summary = attestation.verification_summary_statement(
        plan=plan, name=name, outcome=outcome, verified=closed, inputs=(artifact.provenance,)
    )
    yield "verification-summary", signer.envelope(summary)
