"""Stage 4 of a service whose own pipeline builds it: take the artifact by its digest, and verify what is said of it."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from airflow.sdk import BaseHook

from interlock.adapters.artifacts import bundle
from interlock.adapters.artifacts.store import ArtifactStore
from interlock.adapters.build import builders
from interlock.adapters.evidence import attestation
from interlock.adapters.prebuilt.pipeline import Taken, take
from interlock.adapters.prebuilt.places import Wanted, open_place
from interlock.domain.board.waivers import may_waive
from interlock.domain.canonical import canonical_bytes
from interlock.domain.catalogue import Prebuilt, ServiceCatalogue
from interlock.domain.change.policy import resolve_policy
from interlock.domain.errors import QualityRejected, RequestRefused
from interlock.domain.ledger.kinds import ARTIFACT_BUILT
from interlock.domain.prebuilt.claims import Expected
from interlock.domain.prebuilt.places import refuse_unlisted_place
from interlock.domain.records import Artifact, Blob, Origin, PolicyInForce, ReleasePlan
from interlock.locations import catalogue_folder
from interlock.stages.runtime import resources
from interlock.stages.runtime.taskflow import on_build_workers, push_result, stage_task, this_run

from .build import file_name, put_bom, put_coverage, put_rows

log = logging.getLogger(__name__)


@stage_task(
    task_display_name="Take and verify the artifact",
    evidence=ARTIFACT_BUILT,
    execution_timeout=timedelta(hours=1),
    **on_build_workers(),
)
def fetch_artifact(service: str, plan: ReleasePlan) -> Artifact:
    """Take the artifact that the service's pipeline built, by the requested digest, and verify what is said of it.

    The bytes are checked and packed anew as a bundle. What the pipeline says counts only if a key or an identity that
    the policy pins has signed it; quality review judges what holds. Everything is recorded as for a build here. If a
    claim does not hold that nobody may waive, the release ends here, and the artifact runs nowhere.
    """
    catalogue = resources.catalogue_of(service)
    in_force = resolve_policy(catalogue.policy, catalogue.service, plan.change_type)
    spec, digest = _named(catalogue, plan)
    store, began = resources.store(), datetime.now(UTC)
    with resources.build_workspace() as folder, resources.repository(catalogue.service) as repository:
        taken = take(
            spec,
            open_place(spec, BaseHook.get_connection(spec.connection)),
            Wanted(plan.version, plan.commit.sha, digest, spec.max_mib * 1024 * 1024),
            Expected.of(
                catalogue.service,
                spec,
                catalogue.policy,
                in_force.demanded.claims,
                repository=attestation.address_of(resources.repository_url(catalogue.service)),
                commit=plan.commit.sha,
                digests=(digest,),
            ),
            catalogue.policy.prebuilt,
            catalogue=catalogue_folder(),
            folder=folder,
        )
        repository.checkout(plan.commit.sha, folder / "checkout")
        builders.complete(taken.contents, folder / "checkout")
        for note in bundle.check(taken.contents).notes:
            log.warning("%s", note)
        packed = folder / "bundle.tar.gz"
        bundle.pack(taken.contents, packed)
        blob = store.put_file(packed, f"{service}-{plan.version}.tar.gz")
        listed = store.put_bytes(canonical_bytes(bundle.list_files(packed)), attestation.FILE_LIST)
        bill, signed = put_bom(store, taken.contents, taken.bom, plan, blob)
        said = store.put_bytes(_told(taken), "build.log")
        origin = _origin(store, spec, taken, digest)
        artifact = Artifact(
            service=service,
            version=plan.version,
            commit=plan.commit.sha,
            bundle=blob,
            bom=bill,
            provenance=_put_provenance(store, catalogue, plan, blob, origin, began, (bill, signed, said, listed)),
            tests=put_rows(store, taken.tests, "unit-tests.json"),
            coverage=put_coverage(catalogue, store, taken.coverage, repository, plan),
            log=said,
            tool=spec.tool,
            seconds=round((datetime.now(UTC) - began).total_seconds(), 3),
            origin=origin,
        )
    _refuse_what_nobody_may_waive(catalogue, in_force, plan, artifact, origin)
    return artifact


def _refuse_what_nobody_may_waive(
    catalogue: ServiceCatalogue, in_force: PolicyInForce, plan: ReleasePlan, artifact: Artifact, origin: Origin
) -> None:
    """Refuse an artifact with claims that do not hold, before it runs anywhere, unless people may waive them.

    :raises QualityRejected: names each claim, with what was expected and found.
    """
    wrong = [claim for claim in origin.claims if not claim.holds]
    people = catalogue.board.people
    if not wrong or (not plan.rehearsal and may_waive(in_force, people, "provenance", requester=plan.requested_by)):
        return
    push_result(artifact, ARTIFACT_BUILT)
    said = "; ".join(f"{one.claim}: expected {one.expected}; found {one.found}" for one in wrong)
    raise QualityRejected(
        f"What the pipeline says of {plan.service} {plan.version} does not hold. {said}.",
        rule="claims and prebuilt, in policy.yaml; without waivers.provenance there, nobody may waive it",
        who=f"the service's team can correct its pipeline; {catalogue.policy.owner} can change the policy",
        next_step="have the pipeline build, sign and publish a new artifact, and request its release",
    )


def _named(catalogue: ServiceCatalogue, plan: ReleasePlan) -> tuple[Prebuilt, str]:
    """Return where the service's artifacts are, and the requested digest; refuse a place that the policy has closed."""
    service, policy, spec = catalogue.service, catalogue.policy, catalogue.service.build
    if not isinstance(spec, Prebuilt) or plan.artifact is None:
        raise RequestRefused(
            f"{service.name} {plan.version} has no artifact to take.",
            rule=f"build.tool, in services/{service.name}.yaml, and artifact in the request",
            who=service.owner,
            next_step="trigger the release again with the digest of its artifact",
        )
    refuse_unlisted_place(service, spec, policy)
    return spec, plan.artifact


def _origin(store: ArtifactStore, spec: Prebuilt, taken: Taken, digest: str) -> Origin:
    return Origin(
        store=spec.store,
        uri=taken.fetched.uri,
        sha256=digest,
        original=store.put_file(taken.fetched.path, "artifact"),
        statements=tuple(store.put_bytes(data, attestation.PIPELINE) for data in taken.statements),
        signed_by=tuple(sorted({one.signer for one in taken.signed})),
        claims=taken.claims,
    )


def _put_provenance(
    store: ArtifactStore,
    catalogue: ServiceCatalogue,
    plan: ReleasePlan,
    blob: Blob,
    origin: Origin,
    began: datetime,
    byproducts: tuple[Blob, ...],
) -> Blob:
    left = {file_name(one): one for one in byproducts}
    left |= {f"{number}-{attestation.PIPELINE}": one for number, one in enumerate(origin.statements, start=1)}
    statement = attestation.taken_statement(
        artifact=blob,
        name=file_name(blob),
        repository=resources.repository_url(catalogue.service),
        ref=plan.ref,
        commit=plan.commit.sha,
        origin=origin,
        invocation="/".join(this_run()),
        started=began,
        finished=datetime.now(UTC),
        byproducts=left,
    )
    return store.put_bytes(resources.signer().envelope(statement), "provenance.dsse.json")


def _told(taken: Taken) -> bytes:
    """Return what was found, for people: it takes the place of a build's log."""
    lines = [f"taken from {taken.fetched.uri}", *(f"sha256:{digest}" for digest in taken.fetched.digests)]
    lines += [f"does not count: {fault}" for fault in taken.faults]
    for one in taken.claims:
        holds = "holds" if one.holds else "does not hold"
        lines.append(f"{one.claim}: {holds}; expected {one.expected}; found {one.found}")
    for line in lines:
        log.info("%s", line)
    return "".join(f"{line}\n" for line in lines).encode()
