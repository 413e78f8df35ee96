"""Names in files of the catalogue: which ones there are, and the problem of a name that there is not."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from interlock.domain.catalogue import BoardBook, Policy
from interlock.domain.catalogue.problem import Place, Problem

from .problems import quoted

MAX_LISTED_NAMES = 30


@dataclass(frozen=True, slots=True)
class Known:
    """The names that a calendar or a train may use; none: not looked at."""

    services: frozenset[str] | None = None
    business_units: frozenset[str] | None = None
    environments: frozenset[str] | None = None
    roles: frozenset[str] | None = None
    boards: frozenset[str] | None = None
    people: frozenset[str] | None = None
    questions: frozenset[str] | None = None

    @classmethod
    def by(
        cls, policy: Policy, book: BoardBook, services: Collection[str], environments: frozenset[str] | None = None
    ) -> Known:
        """Return the names that a catalogue has."""
        return cls(
            services=frozenset(services),
            business_units=frozenset(policy.business_units),
            environments=environments,
            roles=frozenset(person.role for person in book.people),
            boards=frozenset(book.boards),
            people=frozenset(book.names),
            questions=frozenset(question.key for question in policy.risk.questions),
        )


def unknown_name(place: Place, name: str, known: Collection[str] | None, what: str) -> Iterator[Problem]:
    """Yield the problem of a name that there is not.

    :param known: the names that there are; none: not looked at.
    :param what: what the name should be, such as ``an existing service``.
    """
    if known is not None and name not in known:
        yield Problem(place, quoted(name), f"{what}: {listed(known)}")


def other_name(name: str, stem: str) -> Iterator[Problem]:
    """Yield the problem of a file that is not named after what it describes."""
    if name != stem:
        yield Problem(("name",), quoted(name), f"the name of the file without .yaml, {stem}")


def listed(names: Collection[str]) -> str:
    """Return names as messages list them, the first ones in their order."""
    shown = sorted(names)[:MAX_LISTED_NAMES]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return (", ".join(shown) or "none") + more
