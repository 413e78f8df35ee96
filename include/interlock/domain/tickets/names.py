"""Which tickets a release names: those of its request, and those in the messages of its commits.

A message is full of what looks like a ticket (UTF-8, SHA-256, ``Merge pull request #12``). A key counts only if
``policy.yaml`` says where its tickets are, and a bare number only after a word such as *fixes*, as the systems that
keep such tickets have it themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from interlock.domain.catalogue.outside.tickets import NUMBERS, TicketProject, TicketRules

REQUEST = "request"
_NUMBER = r"[1-9][0-9]{0,9}(?![0-9A-Za-z_])"
_WORDS = (
    r"clos(?:e[sd]?|ing)|fix(?:e[sd]|ing)?|resolv(?:e[sd]?|ing)|implement(?:s|ed|ing)?|refs?|references?|related to"
)
_LISTED = re.compile(
    rf"(?<![A-Za-z])(?:(?:{_WORDS}):?[ \t]+|AB(?=#))(#{_NUMBER}(?:(?:,|,? and)[ \t]+#{_NUMBER})*)", re.IGNORECASE
)


def project_of(key: str, rules: TicketRules) -> TicketProject | None:
    """Return where a ticket is kept; None: nowhere.

    :param key: a ticket, such as SHOP-12 or #12.
    :param rules: those that concern the service.
    """
    name = NUMBERS if key.startswith(NUMBERS) else key.rpartition("-")[0]
    return next((project for project in rules.projects if project.key == name), None)


def tickets_named(
    requested: Iterable[str], messages: Iterable[tuple[str, str]], rules: TicketRules
) -> dict[str, tuple[str, ...]]:
    """Return the tickets of a release, each with what names it: the request first, then the commits, in their order.

    :param messages: of each commit, its id of 40 digits and its message.
    :param rules: those that concern the service.
    """
    found: dict[str, list[str]] = {key: [REQUEST] for key in requested}
    for sha, message in messages:
        for key in dict.fromkeys(_in_message(message, rules)):
            found.setdefault(key, []).append(sha[:12])
    return {key: tuple(by[:5]) for key, by in found.items()}


def _in_message(message: str, rules: TicketRules) -> Iterator[str]:
    keys = {project.key for project in rules.projects}
    if words := sorted(keys - {NUMBERS}, key=len, reverse=True):
        pattern = rf"(?<![A-Za-z0-9_-])(?:{'|'.join(map(re.escape, words))})-{_NUMBER}"
        yield from re.findall(pattern, message)
    if NUMBERS in keys:
        for listed in _LISTED.findall(message):
            yield from re.findall(rf"#{_NUMBER}", listed)
