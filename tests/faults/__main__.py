"""Make trials, each with a fault in a deployment; the last line of what is printed counts them.

python -m tests.faults [--trials 200] [--seed N] [--only NUMBER,NUMBER]
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from .suite import Suite


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--lanes", type=int, default=4, help="fleets beside one another")
    parser.add_argument("--only", help="of the trials, only these, by number")
    options = parser.parse_args()
    numbers = [int(one) for one in options.only.split(",")] if options.only else list(range(options.trials))
    print(f"{len(numbers)} trials, seed {options.seed}")  # what is needed to repeat them
    with tempfile.TemporaryDirectory(prefix="interlock-faults-") as folder:
        tally = Suite(Path(folder), numbers, options.seed, lanes=options.lanes).run()
    for kind, count in sorted(tally.kinds.items()):
        print(f"  {count:5} {kind.replace('_', ' ')}")
    if tally.failures:
        print(f"  again with: --seed {options.seed}")
    print(f"{tally.seconds:.0f} s")
    print(tally)
    return int(bool(tally.failures))


if __name__ == "__main__":
    sys.exit(main())
