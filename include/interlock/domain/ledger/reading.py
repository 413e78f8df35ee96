"""Reading records out of the entries of a chain. A payload may say more than its record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from interlock.domain.records import Record, RolloutPlan

from .chain import Entry
from .kinds import KINDS, ROLLOUT_FROZEN

R = TypeVar("R", bound=Record)


def all_in(entries: Iterable[Entry], kind: str, model: type[R]) -> list[R]:
    """Return the records of one kind in a chain, in their order."""
    return [model.model_validate(entry.payload, extra="ignore") for entry in entries if entry.kind == kind]


def last_in(entries: Sequence[Entry], kind: str, model: type[R]) -> R | None:
    """Return the last record of one kind in a chain; none: there is none."""
    last = [entry for entry in entries if entry.kind == kind][-1:]
    return next(iter(all_in(last, kind, model)), None)


def last_of_each(entries: Iterable[Entry], kind: str, model: type[R]) -> dict[str, R]:
    """Return the last record of one kind for each environment, or whatever the kind has one each of."""
    each = KINDS[kind].each
    last = {str(entry.payload[each]): entry for entry in entries if entry.kind == kind}
    return {name: model.model_validate(entry.payload, extra="ignore") for name, entry in last.items()}


def plan_in(entries: Sequence[Entry]) -> RolloutPlan | None:
    """Return the plan that was frozen last; none: none was."""
    return last_in(entries, ROLLOUT_FROZEN, RolloutPlan)
