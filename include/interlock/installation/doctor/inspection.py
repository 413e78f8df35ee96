"""Run checks, and say of each what is well, what is wrong, and what fixes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from interlock.domain.errors import ReleaseError

State = Literal["well", "wrong", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    :param check: the name of the check.
    :param state: ``unknown``: it could not be looked at from here, which is no fault.
    :param what: what was found, in a sentence.
    :param fix: the command or the change that fixes it.
    """

    check: str
    state: State
    what: str
    fix: str = ""


Check = Callable[[], Iterable[Finding]]


def well(check: str, what: str) -> Finding:
    """Return that something is as it must be."""
    return Finding(check, "well", what)


def wrong(check: str, what: str, fix: str) -> Finding:
    """Return that something is not as it must be."""
    return Finding(check, "wrong", what, fix)


def inspect(checks: Iterable[tuple[str, Check]]) -> Iterator[Finding]:
    """Run checks one after the other; one that fails is a finding, and the others run all the same.

    :param checks: the name of each, for what it raises.
    """
    for name, check in checks:
        try:
            yield from check()
        except ReleaseError as error:
            yield wrong(name, error.what, error.next_step or "see docs/platform-engineer.md")
        except Exception as error:  # of any kind: an installation can be broken in any way
            said = " ".join(str(error).split())[:300]
            yield wrong(name, f"{type(error).__name__}: {said}", "see docs/platform-engineer.md")
