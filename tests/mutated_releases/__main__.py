"""Request releases of a whole stack, each with its bytes, attestation or identity changed; the last line counts them.

python -m tests.mutated_releases [--mutations 200] [--seed N] [--beside 3] [--minutes N]
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.end_to_end.stack import running_stack
from tests.factories.mutations import Pipelines, mutations
from tests.factories.pipelines import Pipeline
from tests.factories.sigstore import Sigstore
from tests.file_server import file_server

from .lanes import Lane, Stopped, Tried
from .shops import CONNECTION, built, catalogue_of, shops


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutated_releases", description=__doc__)
    parser.add_argument("--mutations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--beside", type=int, default=3, help="services of each kind, which are released side by side")
    parser.add_argument("--minutes", type=float, default=24 * 60, help="then no more releases are requested")
    parser.add_argument("--network", default="127.62.0", help="of the hosts' addresses")
    options = parser.parse_args()
    print(f"{options.mutations} mutations, seed {options.seed}", flush=True)
    began, every = time.monotonic(), shops(options.beside)
    pipeline, store = Pipeline(), Sigstore()
    catalogue = partial(catalogue_of, every=every, pipeline=pipeline, store=store)
    with tempfile.TemporaryDirectory(prefix="interlock-mutations-") as name, file_server() as server:
        folder = Path(name) / "stack"
        with running_stack(folder, catalogue, network=options.network) as stack:
            pipelines = built(stack.settings, folder / "workspace", pipeline, store)
            tried = chosen(pipelines, options.mutations, options.seed)
            connection = {"connection_id": CONNECTION, "conn_type": "http", "host": server.url}
            assert stack.person("admin").send("POST", "connections", connection).is_success
            until = began + 60 * options.minutes
            lanes = [Lane(stack.settings, shop, server, pipelines, until) for shop in every]
            found = released(lanes, tried)
    stopped = Counter((one.mutation.kind, one.by or "something else") for one in found)
    for (kind, by), count in sorted(stopped.items()):
        print(f"  {count:4} of {kind}: stopped by {by}")
    wrong = sum(bool(one.wrong) for one in found)
    for one in found:
        if one.wrong:
            print(f"again with --seed {options.seed}: {one}")
    print(f"{time.monotonic() - began:.0f} s; {len(found)} of {len(tried)} mutations, {wrong} wrong")
    return int(wrong > 0 or len(found) != len(tried))


def chosen(of: Pipelines, count: int, seed: int) -> list[Tried]:
    """Return some of all mutations, each with the release that it changed."""
    chance = random.Random(seed)
    every = [*mutations(of, chance)]
    some: list[Tried] = []
    for number in chance.sample(range(len(every)), min(count, len(every))):
        left = of.left(by_identity=every[number].by_identity)
        every[number].change(left)
        some.append((number, every[number], left))
    return some


def released(lanes: list[Lane], tried: list[Tried]) -> list[Stopped]:
    """Request all releases, several at a time; before, the first service of each kind is released unchanged."""

    def of_one(lane: Lane) -> list[Stopped]:
        alike = [one for one in lanes if one.shop.by_identity == lane.shop.by_identity]
        place = alike.index(lane)
        own = [one for one in tried if one[1].by_identity == lane.shop.by_identity][place :: len(alike)]
        found: list[Stopped] = []
        for one in lane.run(own, unchanged=place == 0):
            print(one, flush=True)
            found.append(one)
        return found

    with ThreadPoolExecutor(len(lanes)) as beside:
        return [one for each in beside.map(of_one, lanes) for one in each]


if __name__ == "__main__":
    sys.exit(main())
