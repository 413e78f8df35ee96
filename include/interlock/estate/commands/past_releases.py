"""Write the past releases of a running Airflow's ledger to a file, a JSON object in each line: what a backtest reads.

``python -m interlock.estate.commands.past_releases FILE``, where Airflow is configured.
"""

from __future__ import annotations

import sys
from pathlib import Path

from interlock.adapters.artifacts.store import open_store
from interlock.adapters.ledger.ledger import open_ledger
from interlock.adapters.ledger.past_releases import past_releases
from interlock.domain.errors import ReleaseError
from interlock.estate.airflow.connections import stored_connection


def main(arguments: list[str]) -> int:
    """Write the file; what is left out, and problems, go to the standard error."""
    try:
        with open_ledger(stored_connection("interlock_ledger")) as ledger:
            releases, left_out = past_releases(ledger, open_store(stored_connection("interlock_artifacts")))
    except ReleaseError as error:
        print(error, file=sys.stderr)
        return 1
    for why in left_out:
        print(why, file=sys.stderr)
    Path(arguments[0]).write_text("".join(f"{release.model_dump_json()}\n" for release in releases), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
