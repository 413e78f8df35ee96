"""The way of a record to the state of a phase: which states are ahead of it, and to which it goes next."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from .facts import Phase
from .systems_file import States


def states_ahead(states: States, phase: Phase, at: str) -> tuple[str, ...]:
    """Return the states from where a record is to that of a phase, which is the last; none: it is there, or further.

    :param at: the state of the record, in the system's words; if it is none of the mapping, all states are ahead.
    """
    wanted = getattr(states, phase)[-1]
    order = states.in_order if phase != "cancelled" else states.cancelled
    if at == wanted or (at in order and order.index(at) > order.index(wanted)):
        return ()
    return (*order[order.index(at) + 1 if at in order else 0 : order.index(wanted)], wanted)


def next_state(ahead: Sequence[str], may_go_to: Callable[[str], bool], seen: Collection[str]) -> str:
    """Return the furthest of the states ahead that a record may go to now; empty: it may go to none.

    :param seen: where it was on this way; it does not go in circles.
    """
    return next((one for one in reversed(ahead) if one not in seen and may_go_to(one)), "")
