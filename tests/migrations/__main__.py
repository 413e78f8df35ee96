"""Release generated pairs of versions with a database change, each with a fault; the last line counts them.

python -m tests.migrations [--pairs 500] [--seed N] [--from 0]
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path

from interlock.adapters.ledger.ledger import open_ledger
from interlock.adapters.signing.signing import generate_key
from interlock.estate.stack import postgres
from tests.integration.ledger_server import ledger_connection, ledger_server
from tests.sshd import sshd_fleet, wait_until

from . import alembic_runs
from .trials import Trial, seconds_since, tally


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.migrations", description=__doc__)
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--from", dest="first", type=int, default=0, help="the number of the first pair")
    options = parser.parse_args()
    print(f"{options.pairs} pairs from {options.first}, seed {options.seed}", flush=True)
    began, counts, wrong = time.monotonic(), Counter[str](), []
    with tempfile.TemporaryDirectory(prefix="interlock-migrations-") as name:
        folder = Path(name)
        with (
            ExitStack() as stack,
            ledger_server(folder / "state") as server,
            open_ledger(ledger_connection(server)) as ledger,
            sshd_fleet(folder) as fleet,
        ):
            generate_key(server.state / "trial_key")
            with closing(postgres.connect(server)) as connection, connection.cursor() as cursor:
                cursor.execute("ALTER SYSTEM SET fsync = off")  # the machine does not fail: only what runs on it
                cursor.execute("SELECT pg_reload_conf()")
            socket = server.state / "alembic"
            runs = subprocess.Popen([sys.executable, alembic_runs.__file__, str(socket)])
            stack.callback(runs.kill)
            wait_until(socket.exists, "Alembic", 60)
            for number in range(options.first, options.first + options.pairs):
                trial = Trial(server, ledger, fleet, folder, str(options.seed), number)
                if said := trial.run():
                    wrong.append(f"pair {number} ({trial.tool}, {trial.fault}{trial.loss}): {said}")
                    print(wrong[-1], flush=True)
                counts[f"{trial.tool}: {trial.fault}"] += 1
                trial.close()
    print(tally(counts))
    print(f"{seconds_since(began)}; {options.pairs} pairs, {len(wrong)} wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
