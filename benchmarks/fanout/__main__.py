"""Measure one deployment to many SSH hosts, Interlock's beside what OpenSSH and asyncssh alone take for the same work.

  python -m benchmarks.fanout [--hosts 40] [--mib 0.0625,20] [--rounds 3] [--write docs/benchmarks.md]

The hosts are real OpenSSH daemons on loopback addresses. In each round every contender starts from empty hosts, in
turn, so that other load on the machine slows all of them. After each, a host that does not run the release byte for
byte ends the benchmark. Times are of a whole process, from its start to its end.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.table import machine, publish

from .fleet import Fleet, started
from .releases import Release, first, second

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
OPENSSH, ASYNCSSH, INTERLOCK = "OpenSSH", "asyncssh", "Interlock"
ENGINE = [sys.executable, "-m", "benchmarks.fanout.deploy"]
CONTENDERS: dict[str, list[str]] = {
    OPENSSH: [str(HERE / "openssh.sh")],
    ASYNCSSH: [sys.executable, str(HERE / "with_asyncssh.py")],
    INTERLOCK: ENGINE,
}


@dataclass
class Runs:
    """What a contender took for one work, round by round."""

    seconds: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median of the rounds, in seconds."""
        return statistics.median(self.seconds)


class Bench:
    """A fleet, and the measurements on it: by work, then by contender."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self._fleet, self._folder = fleet, folder
        self._addresses = fleet.addresses
        self.found: dict[str, dict[str, Runs]] = {}

    def full(self, work: str, release: Release) -> None:
        """Have every contender deploy a release to hosts that have nothing."""
        for name, command in CONTENDERS.items():
            self._empty()
            self._run(work, name, command, release, check=release)

    def delta(self, work: str, old: Release, new: Release) -> None:
        """Have the engine deploy a release to hosts that run the one before."""
        self._empty()
        self._run("", INTERLOCK, ENGINE, old, check=old)
        self._run(work, INTERLOCK, ENGINE, new, check=new)

    def back_out(self, work: str, old: Release) -> None:
        """Have the engine take the hosts of :meth:`delta` back; beside it, one trivial command on each host."""
        self._run(work, OPENSSH, [*CONTENDERS[OPENSSH], "true"], old, check=None)
        self._run(work, INTERLOCK, [*ENGINE, "back-out"], old, check=old)

    def _run(self, work: str, name: str, command: Sequence[str], release: Release, check: Release | None) -> None:
        environ = os.environ | self._fleet.environ | release.environ | {"PYTHONPATH": str(ROOT / "include")}
        with (self._folder / "log").open("w+b") as log:
            started, before = time.monotonic(), self._fleet.processor_seconds()
            process = subprocess.Popen(command, env=environ, stdout=log, stderr=log, cwd=ROOT)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.monotonic() - started
            process.returncode = os.waitstatus_to_exitcode(status)
            wrong = [one for one in self._addresses if check is not None and not check.runs_on(self._app(one))]
            if process.returncode or wrong:
                log.seek(0)
                said = log.read().decode(errors="replace")[-3000:]
                raise SystemExit(
                    f"{name}, {work}: ended with {process.returncode}, {len(wrong)} of {len(self._addresses)} hosts "
                    f"do not run {release.name}\n{said}"
                )
        if work:
            runs = self.found.setdefault(work, {}).setdefault(name, Runs())
            runs.seconds.append(seconds)
            runs.memory.append(usage.ru_maxrss)
            runs.processor.append(usage.ru_utime + usage.ru_stime + self._fleet.processor_seconds() - before)
            sys.stdout.write(
                f"  {work:30} {name:10} {seconds:7.2f} s, {runs.processor[-1]:6.2f} s of processor "
                f"({usage.ru_utime + usage.ru_stime:.2f} here), {usage.ru_maxrss // 1024} MiB\n"
            )
            sys.stdout.flush()

    def _app(self, address: str) -> Path:
        return self._folder / "srv" / address / "app"

    def _empty(self) -> None:
        shutil.rmtree(self._folder / "srv", ignore_errors=True)
        for address in self._addresses:
            self._app(address).mkdir(parents=True)


def main() -> int:
    """Measure, print the table, and write it down if asked to."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="interlock-bench-", dir=options.folder) as name:
        folder = Path(name)
        with started(folder, options.hosts) as fleet:
            bench = Bench(fleet, folder)
            for size in options.mib:
                _measure(bench, folder / str(size), size, options.rounds)
    text = report(bench.found, options.hosts, options.rounds)
    publish(text, options.write, "fanout")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fanout", description=__doc__)
    parser.add_argument("--hosts", type=int, default=40)
    parser.add_argument("--mib", type=_sizes, default=[0.0625, 20.0], help="sizes of the bundle, with commas between")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the hosts' folders are made; usually a temporary one")
    parser.add_argument("--write", type=Path, help="a page with the marks between which the table goes")
    return parser.parse_args()


def _sizes(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _measure(bench: Bench, folder: Path, mib: float, rounds: int) -> None:
    label = f"{mib:g} MiB" if mib >= 1 else f"{mib * 1024:g} KiB"
    old = first(folder, mib)
    new = second(folder)
    for number in range(rounds):
        sys.stdout.write(f"round {number + 1} of {rounds}, {label}\n")
        bench.full(f"{label}, first release", old)
        bench.delta(f"{label}, 1 % changed", old, new)
        bench.back_out(f"back-out of {label}", old)


# --- the table -------------------------------------------------------------------------------------------------------


def report(found: Mapping[str, Mapping[str, Runs]], hosts: int, rounds: int) -> str:
    """Return what was measured as a page."""
    lines = [
        f"{hosts} hosts, median of {rounds} rounds, seconds. {machine()}",
        "",
        "| Work | OpenSSH | asyncssh | Interlock | Interlock / OpenSSH | Memory of Interlock |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for work, by_name in found.items():
        cells = [f"{by_name[name].median:.2f}" if name in by_name else "" for name in CONTENDERS]
        ours = by_name[INTERLOCK]
        ratio = f"{ours.median / by_name[OPENSSH].median:.2f}" if OPENSSH in by_name else ""
        lines.append(f"| {work} | {' | '.join(cells)} | {ratio} | {max(ours.memory) // 1024} MiB |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
