"""The Airflow assets: one per service and environment, with an event for each deployment."""

from __future__ import annotations

from airflow.sdk import Asset, get_current_context

from interlock.domain.catalogue import Service
from interlock.domain.records import Artifact

from .taskflow import this_run


def environment_asset(service: Service, environment: str) -> Asset:
    """Return the asset that stands for what an environment runs of a service."""
    return Asset(
        name=f"{service.name}@{environment}",
        uri=f"x-interlock://{environment}/{service.name}",
        group="release",
        extra={"service": service.name, "environment": environment},
    )


def deployed(asset: Asset, artifact: Artifact) -> None:
    """Record the deployed artifact on the asset's event."""
    changed(asset, version=artifact.version, digest=artifact.bundle.sha256)


def changed(asset: Asset, *, version: str | None, digest: str | None) -> None:
    """Record version and digest on the asset's event. The asset must be an outlet of the task."""
    dag_id, run_id = this_run()
    get_current_context()["outlet_events"][asset].extra = {
        "version": version,
        "digest": digest,
        "dag_id": dag_id,
        "run_id": run_id,
    }
