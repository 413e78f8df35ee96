"""An invalid value in a file that people edit, found by whatever reads or checks it."""

from __future__ import annotations

from dataclasses import dataclass

Place = tuple[str | int, ...]
"""The keys and indexes that lead to a value in its file."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An invalid value in a file.

    :param found: as people see it in the file; empty if the sentence in ``allowed`` says it.
    """

    place: Place
    found: str
    allowed: str

    def __str__(self) -> str:
        return f"found {self.found}; allowed: {self.allowed}" if self.found else self.allowed
