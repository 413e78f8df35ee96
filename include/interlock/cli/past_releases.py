"""Write the past releases of an Airflow's ledger to a file, one JSON object in each line: what a backtest reads."""

from __future__ import annotations

import sys
from pathlib import Path

from interlock.adapters.airflow.connections import stored_connection
from interlock.adapters.artifacts.store import open_store
from interlock.adapters.ledger.ledger import open_ledger
from interlock.adapters.ledger.past_releases import past_releases


def write(file: Path) -> None:
    """Write the file; releases that are left out are named on the standard error."""
    with open_ledger(stored_connection("interlock_ledger")) as ledger:
        releases, left_out = past_releases(ledger, open_store(stored_connection("interlock_artifacts")))
    for why in left_out:
        print(why, file=sys.stderr)
    file.write_text("".join(f"{release.model_dump_json()}\n" for release in releases), encoding="utf-8")
