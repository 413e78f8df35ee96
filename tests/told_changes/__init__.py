"""Releases told to ServiceNow through a proxy that breaks calls: what there is in the end, and what it took."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any
from unittest import mock

from sqlalchemy import text

from interlock.adapters.ledger import deliveries
from interlock.adapters.ledger._rows import ENTRIES, HEADS
from interlock.adapters.ledger.deliveries import Outbox
from interlock.adapters.ledger.ledger import Ledger
from interlock.adapters.outbox.runs import deliver_due, told_of
from interlock.adapters.servicenow.changes import Changes
from interlock.adapters.servicenow.instance import open_instance
from interlock.adapters.signing.signing import Signer
from interlock.domain.canonical import canonical_bytes
from interlock.domain.ledger.chain import HEAD_TYPE, instant
from interlock.domain.outbox import delivery
from interlock.domain.outbox.delivery import Cursor, correlation_of
from tests import service_now as server
from tests.factories.told_releases import chain_of, chained, steps
from tests.fault_proxy import FaultProxy
from tests.integration.test_service_now import DESCRIBED, connection
from tests.service_now import CANCELED, CLOSED, Instance, serving

SYSTEM = "snow"
ENDS = ("deployed", "rejected", "backed_out", "withdrawn")
SETTLES = timedelta(seconds=0.4)
LATE = 0.05


@dataclass
class Result:
    """What there is in the end."""

    changes: int = 0
    missing: int = 0
    doubled: int = 0
    withdrawn: int = 0
    wrong_state: int = 0
    lost_notes: int = 0
    disordered: int = 0
    repeated_notes: int = 0
    doubled_tasks: int = 0
    backwards: int = 0
    not_told: int = 0
    calls: int = 0
    seconds: float = 0
    cpu_seconds: float = 0
    """Of the process that tells: without those of the instance and of the database."""
    after_outage: float = 0
    faults: Counter[str] = field(default_factory=Counter)


def fill(ledger: Ledger, number: int, signer: Signer) -> list[str]:
    """Put releases into the ledger; return their chains."""
    chains = []
    for first in range(0, number, 200):
        rows: list[dict[str, Any]] = []
        heads: list[dict[str, Any]] = []
        for one in range(first, min(number, first + 200)):
            entries = chained(chain_of(one), steps(ENDS[one % len(ENDS)], records={SYSTEM: "mirror"}))
            rows += [entry.model_dump() for entry in entries]
            last = entries[-1]
            claim = {"chain": last.chain, "sequence": last.sequence, "hash": last.hash}
            envelope = signer.sign(canonical_bytes({**claim, "at": instant(last.at)}), HEAD_TYPE)
            heads.append({**claim, "key_id": signer.key_id, "envelope": envelope})
            chains.append(last.chain)
        with ledger.writing() as to:
            to.execute(ENTRIES.insert(), rows)
            to.execute(HEADS.insert(), heads)
    return chains


@contextmanager
def quicker() -> Iterator[None]:
    """Have everything that waits wait for a short time."""
    with (
        mock.patch.object(delivery, "CONFIRM_AFTER", timedelta(seconds=2)),
        mock.patch.object(delivery, "LONGEST_WAIT", timedelta(seconds=0.5)),
        mock.patch.object(deliveries, "LONGEST_PAUSE", timedelta(seconds=0.1)),
    ):
        yield


def run(
    ledger: Ledger, number: int, signer: Signer, *, seed: int, share: float = 0.3, quota: int = 0, outage: float = 0
) -> Result:
    """Tell an instance of so many releases, until all of them are told and confirmed.

    :param share: of calls that the proxy breaks; with 0, everything waits as long as in operation, and it ends when all
        are told.
    :param quota: requests that the instance answers in a second.
    :param outage: seconds for which it answers nothing, at the beginning.
    """
    keys = [signer.public_key]
    chains = fill(ledger, number, signer)
    result, broken, began = Result(changes=number), share > 0, time.monotonic()
    cpu = time.process_time()
    described = DESCRIBED.model_copy(update={"parallel": 8})
    settles = SETTLES if broken else delivery.SETTLES_AFTER
    with apart(quota, seed, share, down=outage > 0) as (url, there), quicker() if broken else nullcontext():
        api = open_instance(connection(url))
        changes = Changes(api, described)
        down, ends = outage > 0, time.monotonic() + outage
        while True:
            deliver_due(SYSTEM, changes, ledger, own_scope, keys, parallel=8, settles_after=settles)
            if down and time.monotonic() > ends:
                there.send("up")
                down, ends = False, time.monotonic()
            if not result.after_outage and _has(ledger, "confirm_at IS NOT NULL", number):
                result.after_outage = time.monotonic() - ends
            if _has(ledger, "confirmed" if broken else "confirm_at IS NOT NULL", number):
                break
            time.sleep(0.05)
        result.calls, result.seconds = api.calls, time.monotonic() - began
        result.cpu_seconds = time.process_time() - cpu
        api.close()
        there.send("end")
        instance, result.faults = there.recv()
    _compare(ledger, keys, instance, chains, result)
    return result


@contextmanager
def apart(quota: int, seed: int, share: float, *, down: bool) -> Iterator[tuple[str, Connection]]:
    """Serve an instance behind a proxy in a process of its own; yield its address, and the pipe to it.

    The first message ends its being down, the last one is answered with the instance, and what became of calls.
    """
    ours, theirs = (context := get_context("spawn")).Pipe()
    process = context.Process(target=_serve, args=(theirs, quota, seed, share, down), daemon=True)
    process.start()
    try:
        yield ours.recv(), ours
    finally:
        process.kill()
        process.join()


def _serve(pipe: Connection, quota: int, seed: int, share: float, down: bool) -> None:
    instance = Instance(quota=quota)
    proxy = FaultProxy(instance, seed=seed, share=share, late=LATE)
    proxy.down = down
    with serving(proxy) as url:
        pipe.send(url)
        while pipe.recv() == "up":
            proxy.down = False
    instance.files.clear()
    instance.files_of.clear()
    instance._lock = None
    pipe.send((instance, proxy.faults))


def _has(ledger: Ledger, condition: str, number: int) -> bool:
    with ledger.writing() as connection:
        counted = text(f"SELECT count(*) FROM ledger.deliveries WHERE system = :system AND {condition}")
        return connection.scalar(counted, {"system": SYSTEM}) == number


def own_scope(service: str) -> tuple[str, ...]:
    """Return what an emergency stop names to concern a service."""
    return (service,)


def _compare(ledger: Ledger, keys: list[bytes], instance: Instance, chains: list[str], result: Result) -> None:
    kept = {one.chain: one for one in Outbox(ledger).all() if one.system == SYSTEM}
    result.withdrawn = sum(one["correlation_id"].startswith("duplicate-of") for one in instance.changes.values())
    open_tasks: dict[str, list[str]] = defaultdict(list)
    for task in instance.tasks.values():
        if task.get("close_notes") != "Made twice.":
            open_tasks[task["correlation_id"].partition("-")[0]].append(task["correlation_id"])
    for chain in chains:
        said = told_of(ledger, chain, own_scope, keys).statements
        live = instance.live(correlation_of(SYSTEM, chain))
        result.missing += not live
        result.doubled += len(live) > 1
        if len(live) != 1:
            continue
        (change,) = live
        wanted = CLOSED if said[-1].change.phase == "closed" else CANCELED
        result.wrong_state += change["state"] != wanted or kept[chain].number != change["number"]
        result.not_told += Cursor.read(change["correlation_display"]) != said[-1].told
        notes = instance.journal[change["sys_id"]]
        journal = "\n\n".join(notes)
        first = [journal.find(one.text) for one in said]
        result.lost_notes += first.count(-1)
        result.disordered += first != sorted(first)
        result.repeated_notes += len(notes) - len(set(notes))
        states = [server.WAY.index(one) for one in instance.history[change["sys_id"]] if one in server.WAY]
        result.backwards += states != sorted(states)
        result.doubled_tasks += len(open_tasks[change["sys_id"]]) - len(set(open_tasks[change["sys_id"]]))
