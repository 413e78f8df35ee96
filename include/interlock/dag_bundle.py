"""Interlock's Dag files as a Dag bundle of Airflow, wherever the package is installed.

``[dag_processor] dag_bundle_config_list`` names it by its class, beside the bundles of other teams.
"""

from __future__ import annotations

from typing import Any

from airflow.dag_processing.bundles.local import LocalDagBundle

from interlock.locations import PROJECT

NAME = "interlock"
"""The bundle's usual name; ``INTERLOCK_DAGS`` says the same."""
CLASS = f"{__name__}.InterlockDagBundle"


class InterlockDagBundle(LocalDagBundle):
    """The folder ``dags`` of the package."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(path=str(PROJECT / "dags"), **kwargs)
