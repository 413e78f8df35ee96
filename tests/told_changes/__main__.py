"""``python -m tests.told_changes [CHANGES] [SEED] [SHARE] [OUTAGE]``: the fault run with its figures."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from interlock.adapters.ledger.ledger import open_ledger
from interlock.adapters.signing.signing import generate_key, load_signer
from tests.integration.ledger_server import ledger_connection, ledger_server
from tests.told_changes import run


def main() -> int:
    """Run, print the figures, and fail if anything is missing, doubled or wrong."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 16
    share = float(sys.argv[3]) if len(sys.argv) > 3 else 0.3
    outage = float(sys.argv[4]) if len(sys.argv) > 4 else 5
    logging.disable(logging.WARNING)
    with (
        TemporaryDirectory(prefix="interlock-told-", dir="/tmp") as folder,
        ledger_server(Path(folder) / "state") as settings,
        open_ledger(ledger_connection(settings), connections=9) as ledger,
    ):
        generate_key(Path(folder) / "signing.pem")
        signer = load_signer((Path(folder) / "signing.pem").as_uri())
        result = run(ledger, number, signer, seed=seed, share=share, outage=outage)
    for name, value in vars(result).items():
        print(f"{name.replace('_', ' '):16} {dict(value) if name == 'faults' else value}")
    wrong = (result.missing, result.doubled, result.wrong_state, result.lost_notes, result.disordered)
    return int(any((*wrong, result.backwards, result.not_told)))


if __name__ == "__main__":
    sys.exit(main())
