"""Release without pause on a cluster while its components die; then check what must hold. The last line counts.

python -m tests.chaos [--minutes 10] [--seed N] [--only KIND] [--folder DIR]
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from interlock.adapters.ledger.ledger import open_ledger
from interlock.domain.errors import ReleaseError
from interlock.estate.stack.watch import health
from interlock.estate.world import aws
from tests.end_to_end.stack import Stack, running_stack
from tests.integration.ledger_server import ledger_connection

from .blows import KINDS, Blows, may_cut
from .checks import After
from .office import Desk, Office
from .services import SERVICES, catalogue_of_chaos, push_versions

SECONDS_BETWEEN_BLOWS = (20.0, 40.0)
VERSIONS = 40
SECONDS_TO_RECOVER, SECONDS_TO_ASK, SECONDS_TO_END = 300, 180, 1500
NETWORK = os.environ.get("INTERLOCK_NETWORK", "127.44.0")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument(
        "--only", action="append", choices=[*KINDS], help="a kind of component to strike; others are not"
    )
    parser.add_argument("--folder", type=Path, help="where the cluster's state stays afterwards")
    options = parser.parse_args()
    if not may_cut():
        print("interlock: make chaos cuts connections, which only root may do here", file=sys.stderr)
        return 2
    os.environ["INTERLOCK_ENGINE"] = "cluster"
    say(f"{options.minutes:g} minutes, seed {options.seed}")  # what is needed to repeat them
    with tempfile.TemporaryDirectory(prefix="interlock-chaos-") as made:
        folder = options.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        with running_stack(folder / "stack", catalogue_of_chaos, network=NETWORK) as stack:
            return run(stack, folder, options.minutes * 60, options.seed, options.only or [*KINDS])


def say(sentence: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {sentence}", flush=True)


def run(stack: Stack, folder: Path, seconds: float, seed: int, kinds: Sequence[str]) -> int:
    """Let the office work and strike for some seconds; let all recover; check. Return the exit code."""
    rng = random.Random(seed)
    versions = push_versions(stack.settings, folder / "source", VERSIONS)
    hosts: list[aws.Instance] = []
    for service in SERVICES:
        with closing(Stack(stack.settings, service)) as own:
            own.configure()
            hosts += sorted(own.hosts(), key=lambda host: host.address)
    office = Office(stack, random.Random(seed), say, [Desk(service, list(versions)) for service in SERVICES])
    blows = Blows(stack.settings, hosts, rng, say, kinds)
    office.open()
    try:
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            time.sleep(rng.uniform(*SECONDS_BETWEEN_BLOWS))
            blows.strike()
        return recover(stack, office, blows)
    finally:
        office.leave()
        blows.end()


def recover(stack: Stack, office: Office, blows: Blows) -> int:
    """Undo what lasts, let every release end, check, and tell."""
    blows.end()
    say("no more blows; everything recovers")
    office.closed.set()
    until(SECONDS_TO_RECOVER, lambda: is_well(stack))
    office.away.set()
    with open_ledger(ledger_connection(stack.settings)) as ledger:
        after = After(stack, office, ledger)
        wrong = until(SECONDS_TO_ASK, lambda: not list(after.people_are_asked())) or list(after.people_are_asked())
        office.away.clear()
        office.wait_for_ends(SECONDS_TO_END)
        time.sleep(120)  # reconcile looks every minute
        office.leave()
        wrong = [*(wrong if isinstance(wrong, list) else []), *after.every()]
        for one in wrong:
            say(f"FAULT: {one}")
        tell(office, blows, after, len(wrong))
    return int(bool(wrong))


def is_well(stack: Stack) -> bool:
    """Say whether Airflow's health page knows every kind of component as healthy."""
    page = health(stack.settings.airflow_url) or {}
    return all(page.get(one, {}).get("status") == "healthy" for one in ("scheduler", "triggerer", "dag_processor"))


def until(seconds: float, look: Callable[[], bool]) -> bool:
    """Look until it is so, at most so long; say whether it is."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        try:
            if look():
                return True
        except ReleaseError:
            pass
        time.sleep(5)
    return False


def tell(office: Office, blows: Blows, after: After, faults: int) -> None:
    """Print what happened."""
    for (kind, blow), times in sorted(Counter(blows.struck).items()):
        print(f"  {times:4} {kind}: {blow}")
    outcomes = Counter(outcome for desk in office.desks for outcome in desk.ended.values())
    for outcome, times in sorted(outcomes.items()):
        print(f"  {times:4} releases {outcome}")
    print(f"  {len(office.given):4} answers given, {office.trouble} looks at pages that did not load")
    print(
        f"  {after.repeated_mails():4} mails that came again under the same id, {after.excused()} tries that came late"
    )
    releases = sum(len(desk.runs) for desk in office.desks)
    print(f"{len(blows.struck)} blows, {releases} releases, {faults} faults")


if __name__ == "__main__":
    sys.exit(main())
