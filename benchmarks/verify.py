"""Measure how long the verifier takes for an evidence pack with a long chain, as a whole process.

  python -m benchmarks.verify [--entries 10000] [--permits 50] [--heads 100] [--rounds 5] [--write PAGE]

The pack is of a release that went well. What makes its chain long are permits to ask hosts what they run, each signed,
and the rounds of a canary; on its way the chain was signed as often as reconcile would have. A signature costs as much
as some forty entries: the verifier computes them with what Python's standard library has.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.table import machine, medians, publish
from interlock.adapters.signing.signing import Signer
from tests.factories import evidence as make
from tests.factories import releases

ROOT = Path(__file__).parents[1]
VERIFIER = ROOT / "include" / "interlock" / "verify" / "__main__.py"


def main() -> int:
    """Measure, print the table, and write it down if asked to."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="interlock-bench-") as name:
        pack, key = Path(name, "pack.zip"), Path(name, "key.pem")
        size = make_pack(pack, key, options)
        found = [_proven(pack, key) for _ in range(options.rounds)]
    text = (
        f"A pack of {options.entries:,} entries, {options.permits + 2} permits, {options.heads} signed heads, "
        f"{size / 1e6:.1f} MB; a whole process, median of {options.rounds}. {machine()}\n\n"
    )
    seconds, processor = zip(*found, strict=True)
    text += medians({"Proving it (s)": seconds, "Proving it (s of a processor)": processor})
    publish(text, options.write, "verify")
    return 0


def make_pack(pack: Path, key: Path, options: argparse.Namespace) -> int:
    """Write a pack, and the public key with which it is proven; return its size."""
    by = make.signer()
    key.write_bytes(by.public_key)

    def longer(many: list[make.Step]) -> list[make.Step]:
        more = [step for number in range(options.permits) for step in _asked(len(many) - 2 + 2 * number, by)]
        rounds = options.entries - len(many) - len(more)
        if rounds < 0:
            raise ValueError(f"{options.entries} entries are too few for {options.permits} permits")
        return [*many[:-2], *more, *map(_measured, range(1, rounds + 1)), *many[-2:]]

    what = make.evidence(longer, by=by)
    signed = {len(what.entries) * number // options.heads for number in range(1, options.heads + 1)}
    heads = [make.head(what.entries[place - 1], by) for place in sorted(signed)]
    return len(make.packed(pack, replace(what, heads=heads), by=by))


def _asked(minutes: int, by: Signer) -> list[make.Step]:
    """Return the entries of a permit to ask hosts what they run."""
    at = make.AT + timedelta(minutes=minutes)
    granted: dict[str, Any] = {
        **make.permit(releases.rollout(), 1, 0),
        **{"purpose": "inspect", "wave": None, "plan": None, "bundle": None, "id": f"{minutes:x}".rjust(32, "f")},
        **{"issued_at": at.isoformat()[:19] + "Z", "expires_at": (at + timedelta(minutes=15)).isoformat()[:19] + "Z"},
    }
    return make.issued_and_used(granted, by)


def _measured(number: int) -> make.Step:
    """Return what a round of a canary leaves in the chain."""
    at = (make.AT + timedelta(minutes=number)).isoformat()
    blob = releases.blob(f"canary-{number}.json", "c").model_dump(mode="json")
    return "canary.measured", {"number": number, "at": at, "requests": 200, "measured": blob}


def _proven(pack: Path, key: Path) -> tuple[float, float]:
    """Prove a pack; return the seconds from the start of the process to its end, and those of a processor."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, str(VERIFIER), str(pack), "--key", str(key)], capture_output=True, text=True, check=False
    )
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"the pack is not proven:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verify", description=__doc__)
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--permits", type=int, default=50, help="beside those of the two waves")
    parser.add_argument("--heads", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", type=Path, help="a page with the marks between which the table goes")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
