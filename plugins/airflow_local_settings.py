"""Load Interlock's part of Airflow's settings. The plugins folder is on Airflow's path, behind all else."""

from __future__ import annotations

import interlock.airflow_settings  # noqa: F401

__all__: list[str] = []
