"""Answers to one question are taken one after the other, in all API servers, so that the first one stands.

Airflow reads whether a question is answered before it locks the question's row. Of two answers at the same instant, the
later one would overwrite the earlier one. So each answer waits for its turn, by a lock in the ledger's database, and
Airflow then finds the first answer and refuses the second.

An API server works on few answers at once. Airflow holds a connection to its database for each, and the checks of an
answer need another one: with as many answers as the pool has connections, each would wait for the others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from datetime import UTC
from typing import Any

from anyio import CancelScope, CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

from interlock.console.control.lookups import GivenBefore
from interlock.domain.ledger.chain import release_chain

MAX_AT_ONCE = 4
"""Answers that an API server works on at once; Airflow's pool has 15 connections by default."""
_at_once: RunVar[CapacityLimiter] = RunVar("interlock_answers")


@asynccontextmanager
async def turn(names: Mapping[str, str], open_ledger: Callable[[], AbstractContextManager[Any]]) -> AsyncIterator[None]:
    """Wait until no other answer to the same question is worked on.

    :param names: what the path of the answer names.
    :raises ReleaseError: the ledger's database does not answer.
    """
    held = ExitStack()

    def wait() -> None:
        held.enter_context(held.enter_context(open_ledger()).turn(_question(names)))

    async with _limiter():
        try:
            await to_thread.run_sync(wait)
            yield
        finally:
            with CancelScope(shield=True):
                await to_thread.run_sync(held.close)


def refusal_of_second(first: GivenBefore | None) -> str:
    """Say that another answer was first, and whose."""
    who = f"{first.by} answered it at {first.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if first else "it was answered"
    said = f" (“{first.choice}”)" if first else ""
    return (
        f"Your answer was not recorded: {who}{said}. Rule: the first answer to a question stands. Next: if you do not "
        "agree, talk to the person who answered, or to the requester of the release."
    )


def _limiter() -> CapacityLimiter:
    try:
        return _at_once.get()
    except LookupError:
        _at_once.set(limiter := CapacityLimiter(MAX_AT_ONCE))
        return limiter


def _question(names: Mapping[str, str]) -> str:
    return f"answer/{release_chain(names['dag_id'], names['dag_run_id'])}/{names['task_id']}/{names['map_index']}"
