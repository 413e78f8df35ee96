"""Releases of one service, each changed in one place: what stopped them, and what the hosts have."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import httpx
from airflow.providers.standard.operators.empty import EmptyOperator

from interlock.domain.canonical import sha256_of
from interlock.estate.commands.client import ENDED
from interlock.estate.settings import Settings
from tests.end_to_end.people import Release
from tests.end_to_end.stack import Stack
from tests.end_to_end.test_release import accept, approve, train
from tests.factories.mutations import Left, Mutation, Pipelines
from tests.file_server import FileServer

from .shops import ACCOUNT, VERSION, Shop

BEFORE_ANYTHING_RUNS = ("policy.", "planning.", "design.", "build.", "closure.")
Tried = tuple[int, Mutation, Left]
BATCH, SECONDS_BETWEEN_LOOKS = 5, 10
FIRST_PATCH = 100
"""Of the versions that are requested: the sample's history has tags below."""
RAN = ("success", "failed", "up_for_retry", "running", "deferred")


@dataclass(frozen=True)
class Stopped:
    """A mutation, what stopped it, and what is wrong about that; empty: nothing."""

    number: int
    mutation: Mutation
    by: str
    wrong: str

    def __str__(self) -> str:
        signer = "identity" if self.mutation.by_identity else "key"
        said = f"{self.number} ({self.mutation.kind}, signed by {signer}): {self.by}"
        return f"{said}. WRONG: {self.wrong}" if self.wrong else said


@dataclass(frozen=True)
class Lane:
    """One service of the stack.

    :param until: no releases are requested any more after this moment of ``time.monotonic``.
    """

    settings: Settings
    shop: Shop
    server: FileServer
    pipelines: Pipelines
    until: float

    def run(self, tried: Iterable[Tried], *, unchanged: bool) -> Iterator[Stopped]:
        """Request the mutated releases, a batch at a time; say what came of each.

        :param unchanged: release what was not changed first: it has to be deployed.
        """
        with closing(Stack(self.settings, self.shop.service)) as stack:
            stack.configure()
            if unchanged:
                self._deploy(stack)
            expected = on_hosts(stack), answers(stack)
            for batch in batched(tried, BATCH):
                if time.monotonic() > self.until:
                    return
                runs = [self._request(stack, f"1.1.{FIRST_PATCH + number}", left) for number, _, left in batch]
                while any(run.state not in ENDED for run in reversed(runs)):
                    time.sleep(SECONDS_BETWEEN_LOOKS)
                changed = (on_hosts(stack), answers(stack)) != expected
                for (number, mutation, _), run in zip(batch, runs, strict=True):
                    by, wrong = judged(run, changed=changed)
                    yield Stopped(number, mutation, by, wrong)

    def _deploy(self, stack: Stack) -> None:
        """Release what the pipeline left as it is, by its people."""
        run = self._request(stack, VERSION, self.pipelines.left(by_identity=self.shop.by_identity))
        accept(stack, run)
        approve(stack, run)
        train(stack, run)
        assert run.finish(within=3600) == "success", run.outcome()
        assert stack.production() == stack.test_environment() == {VERSION}

    def _request(self, stack: Stack, version: str, left: Left) -> Release:
        for name, data in left.published.items():
            self.server.put(f"{self.shop.service}/{version}/{name}", data)
        pipeline = stack.person(ACCOUNT)  # it may read no results
        form = {
            "ref": self.pipelines.commit,
            "version": version,
            "summary": "What the pipeline left",
            "artifact": f"sha256:{left.requested}",
        }
        return Release(stack.person("rita"), pipeline.start(pipeline.dag, form).id)


def batched(tried: Iterable[Tried], size: int) -> Iterator[tuple[Tried, ...]]:
    """Yield the mutations in batches: the releases of a service run one after another, without a pause."""
    left = iter(tried)
    while batch := tuple(islice(left, size)):
        yield batch


def judged(run: Release, *, changed: bool) -> tuple[str, str]:
    """Return what stopped a release, and what is wrong about that.

    :param changed: the hosts have something else than before.
    """
    state, outcome = run.state, run.outcome()
    by = stopped_by(str(outcome.get("reason", "")))
    went_on = sorted(
        {
            task["task_id"]
            for task in run.tasks()
            if task["state"] in RAN
            and task["operator_name"] != EmptyOperator.__name__
            and not task["task_id"].startswith(BEFORE_ANYTHING_RUNS)
        }
    )
    wrong = {
        f"the run ended as {state}, {outcome}": (state, outcome.get("stage")) != ("failed", "build"),
        f"stopped by something else: {outcome.get('reason')}": not by,
        f"tasks ran after the build: {went_on}": bool(went_on),
        "the hosts have something else": changed,
    }
    return by, "; ".join(what for what, is_so in wrong.items() if is_so)


def stopped_by(reason: str) -> str:
    """Tell what stopped a release, by its reason; empty: nothing that has to do with its mutation."""
    if claim := re.search(r"does not hold\. (\w+): expected", reason):
        return f"the claim {claim[1]}"
    if "other bytes are another artifact" in reason:
        return "the artifact's digest"
    return "a report that cannot be read" if re.search(r"(unit|coverage)\.xml|bom\.json|CycloneDX", reason) else ""


def on_hosts(stack: Stack) -> dict[str, str]:
    """Return the files of all releases on the hosts of a service, with their digests, and where its links lead."""
    found: dict[str, str] = {}
    for host in stack.hosts():
        root = stack.settings.host_folder(host.name) / "srv" / stack.service
        for path in (root / "current", *(root / "releases").rglob("*")):
            if path.is_symlink():
                found[f"{host.name}/{path.relative_to(root)}"] = str(path.readlink())
            elif path.is_file():
                found[f"{host.name}/{path.relative_to(root)}"] = sha256_of(path.read_bytes())
    return found


def answers(stack: Stack) -> dict[str, str]:
    """Return the version that each host answers with; empty: nothing runs there."""
    found: dict[str, str] = {}
    for host in stack.hosts():
        try:
            found[host.name] = stack.version_of(host.address)
        except httpx.ConnectError:
            found[host.name] = ""
    return found
