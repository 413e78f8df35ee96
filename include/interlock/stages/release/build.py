"""Stage 4, build and configure: build an immutable bundle from a clean checkout, with the service's own tool."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.sdk import XComArg

from interlock.adapters.artifacts import bom, bundle
from interlock.adapters.artifacts.store import ArtifactStore
from interlock.adapters.build import builders
from interlock.adapters.evidence import attestation
from interlock.adapters.quality import reports
from interlock.adapters.source.git import Repository
from interlock.domain.canonical import Model, canonical_bytes
from interlock.domain.catalogue import Build, Prebuilt, Service, ServiceCatalogue
from interlock.domain.change.policy import resolve_policy
from interlock.domain.errors import RequestRefused
from interlock.domain.hosts.appspec import APPSPEC
from interlock.domain.ledger.kinds import ARTIFACT_BUILT
from interlock.domain.quality.rows import UNIT, rows_as_json
from interlock.domain.records import Artifact, Blob, ReleasePlan
from interlock.stages.runtime import resources
from interlock.stages.runtime.taskflow import on_build_workers, stage_group, stage_task, this_run

log = logging.getLogger(__name__)


@stage_task(
    task_display_name="Build, test and package",
    evidence=ARTIFACT_BUILT,
    execution_timeout=timedelta(hours=2),
    **on_build_workers(),
)
def build_artifact(service: str, plan: ReleasePlan) -> Artifact:
    """Build and unit-test the pinned commit in a clean clone, and upload the bundle to the artifact store.

    The task also uploads a bill of materials (CycloneDX) and provenance (SLSA v1), each signed (in-toto, DSSE), the
    digest of each file of the bundle, the test results, the coverage and the build log. Each upload is recorded with
    its digest.
    """
    catalogue = resources.catalogue_of(service)
    policy, _, described = catalogue
    spec = _built_here(described)
    confines = resources.confines(policy, described, spec.registries)
    store = resources.store()
    began = datetime.now(UTC)
    with resources.build_workspace() as folder, resources.repository(described) as repository:
        checkout = folder / "checkout"
        repository.checkout(plan.commit.sha, checkout)
        built = builders.build(checkout, spec, environ=os.environ, confines=confines)
        notes = bundle.check(built.output).notes
        packed = folder / "bundle.tar.gz"
        bundle.pack(built.output, packed)
        blob = store.put_file(packed, f"{service}-{plan.version}.tar.gz")
        bill, signed = put_bom(store, built.output, built.bom, plan, blob)
        listed = store.put_bytes(canonical_bytes(bundle.list_files(packed)), attestation.FILE_LIST)
        for note in notes:
            log.warning("%s: %s", APPSPEC, note)
        said = store.put_bytes(built.log + "".join(f"{APPSPEC}: {note}\n" for note in notes).encode(), "build.log")
        return Artifact(
            service=service,
            version=plan.version,
            commit=plan.commit.sha,
            bundle=blob,
            bom=bill,
            provenance=_put_provenance(
                store, described, plan, built, blob, began, byproducts=(bill, signed, said, listed)
            ),
            tests=put_rows(store, reports.junit_rows(built.junit, UNIT), "unit-tests.json"),
            coverage=put_coverage(catalogue, store, built.coverage, repository, plan),
            log=said,
            tool=built.tool,
            seconds=round(built.seconds, 3),
            surroundings=built.surroundings,
        )


def put_coverage(
    catalogue: ServiceCatalogue,
    store: ArtifactStore,
    report: Path | None,
    repository: Repository,
    plan: ReleasePlan,
) -> Blob | None:
    """Put the coverage into the store: of the changed lines, if the policy demands that, otherwise of all."""
    if report is None:
        return None
    demanded = resolve_policy(catalogue.policy, catalogue.service, plan.change_type).demanded.coverage
    changed = repository.changed_lines(plan.previous_commit, plan.commit.sha) if "changed_lines" in demanded else {}
    return put_rows(store, reports.coverage_rows(report, changed), "coverage.json")


def put_rows(store: ArtifactStore, rows: tuple[Model, ...], name: str) -> Blob:
    """Put a table of rows into the artifact store."""
    return store.put_bytes(rows_as_json(rows), name)


def put_bom(
    store: ArtifactStore, contents: Path, own: Path | None, plan: ReleasePlan, packed: Blob
) -> tuple[Blob, Blob]:
    """Put the bill of materials into the store, plain and as a signed statement. The provenance names both.

    :param contents: the folder of the bundle's files.
    :param own: the bill that came with them; none: it is written here.
    """
    bill = bom.bill_of_materials(
        contents,
        name=plan.service,
        version=plan.version,
        commit=plan.commit.sha,
        sha256=packed.sha256,
        at=plan.commit.at,
        own=own,
    )
    statement = attestation.bom_statement(artifact=packed, name=file_name(packed), bom=bill)
    signed = store.put_bytes(resources.signer().envelope(statement), attestation.SIGNED_BOM)
    return store.put_bytes(bill, "bom.cdx.json"), signed


def _put_provenance(
    store: ArtifactStore,
    described: Service,
    plan: ReleasePlan,
    built: builders.BuildResult,
    blob: Blob,
    began: datetime,
    *,
    byproducts: tuple[Blob, ...],
) -> Blob:
    statement = attestation.provenance_statement(
        artifact=blob,
        name=file_name(blob),
        repository=resources.repository_url(described),
        ref=plan.ref,
        commit=plan.commit.sha,
        build=_built_here(described),
        tool=built.tool,
        surroundings=built.surroundings,
        invocation="/".join(this_run()),
        started=began,
        finished=datetime.now(UTC),
        byproducts={file_name(left): left for left in byproducts},
    )
    return store.put_bytes(resources.signer().envelope(statement), "provenance.dsse.json")


def _built_here(described: Service) -> Build:
    """Return how a service is built; refuse one whose own pipeline builds it."""
    if isinstance(described.build, Prebuilt):
        raise RequestRefused(
            f"{described.name} is not built here: its pipeline builds it.",
            rule=f"build.tool, in services/{described.name}.yaml",
            who=described.owner,
            next_step="trigger the release again: the file was changed after this release began",
        )
    return described.build


def file_name(blob: Blob) -> str:
    """Return the file name of a blob."""
    return Path(blob.uri).name


@stage_group("build", "build one immutable bundle with its provenance")
def build_stage(service: Service, plan: XComArg) -> XComArg:
    """Build the bundle, or take the artifact that the service's own pipeline built."""
    if isinstance(service.build, Prebuilt):
        from .prebuilt import fetch_artifact  # not at the top: it takes from here what both need

        return fetch_artifact(service.name, plan)
    return build_artifact(service.name, plan)
