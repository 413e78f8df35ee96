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
    """Record on the asset's event what has been deployed."""
    changed(asset, version=artifact.version, digest=artifact.bundle.sha256)


def changed(asset: Asset, *, version: str | None, digest: str | None) -> None:
    """Record on the asset's event what the environment runs now; the task must have the asset among its outlets."""
    dag_id, run_id = this_run()
    get_current_context()["outlet_events"][asset].extra = {
        "version": version,
        "digest": digest,
        "dag_id": dag_id,
        "run_id": run_id,
    }
