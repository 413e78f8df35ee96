"""The release notes from commits and tickets, and the message to each audience."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC

from interlock.domain.catalogue import Audience, Service
from interlock.domain.records import Commit, ReleasePlan

_CONVENTIONAL = re.compile(
    r"(?P<kind>build|chore|ci|docs|feat|fix|perf|refactor|revert|style|test)"
    r"(?:\((?P<scope>[^()]*)\))?(?P<breaking>!)?: +(?P<text>\S.*)",
    re.IGNORECASE,
)
"""The start of a commit's subject by conventionalcommits.org; other subjects are used unchanged."""
_GROUPS = {"feat": "New", "fix": "Fixed"}
_OTHER = "Also changed"
_BREAKING = "Needs your attention"
_ORDER = (_BREAKING, *_GROUPS.values(), _OTHER)

_SPECIAL = re.compile(r"[\\`*_\[\]<>|~&$@]|(?<=[a-z]):(?=//)|(?<=www)\.", re.IGNORECASE)
_AT_THE_START = re.compile(r"(?P<number>[0-9]{0,9})(?P<mark>#{1,6}(?= |$)|[+-](?= |$)|-(?=-)|(?<=[0-9])[.)](?= |$))")
"""Text that would start a heading, a list or a rule."""


def release_notes(plan: ReleasePlan, service: Service, *, commits: bool = True) -> str:
    """Return the release notes as Markdown: what is new, the tickets, when, and the contact.

    :param commits: name the commit of each change.
    """
    sections = [
        f"# {escaped(service.title)} {escaped(plan.version)}",
        escaped(plan.summary),
        *_changes(plan, commits),
        *_tickets(plan),
        f"## When\n\n{_when(plan)}",
        f"## Contact\n\n{escaped(service.owner)}; the release was requested by {escaped(plan.requested_by)}.",
    ]
    return "\n\n".join(sections) + "\n"


def announcement(
    plan: ReleasePlan, service: Service, audience: Audience, notes: str, *, rollback: bool = False
) -> tuple[str, str]:
    """Return subject and text of the message that tells an audience of a release, or of a rollback.

    :param notes: the notes of a rollback; the message about a release is made from its plan, without commits.
    """
    rehearsal = "[Rehearsal] " if plan.rehearsal else ""
    what = f"{service.title} goes back to {plan.version}" if rollback else f"{service.title} {plan.version}"
    subject = one_line(f"{rehearsal}{what}: {plan.summary}")
    text = [f"To {one_line(audience.title)}:"]
    if rollback:
        text += [notes.strip()]
    else:
        text += [f"{what} is about to be released.", release_notes(plan, service, commits=False).strip()]
    return subject, "\n\n".join(text) + "\n"


def escaped(text: str) -> str:
    """Return an author's text as Markdown that shows it exactly, on one line and without links."""
    line = _SPECIAL.sub(lambda found: f"\\{found[0]}", one_line(text))
    return _AT_THE_START.sub(r"\g<number>\\\g<mark>", line, count=1) if _AT_THE_START.match(line) else line


def one_line(text: str) -> str:
    """Return a text without line breaks, control characters and repeated spaces."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def _changes(plan: ReleasePlan, commits: bool) -> Iterator[str]:
    since = f" since {escaped(plan.previous_version)}" if plan.previous_version else ""
    if not plan.commits:
        yield f"No changes{since}."
        return
    groups: dict[str, list[str]] = {}
    for commit in plan.commits:
        group, line = _change(commit, f" ({commit.sha[:10]})" if commits else "")
        groups.setdefault(group, []).append(line)
    for heading in filter(groups.__contains__, _ORDER):
        yield f"## {heading}\n\n" + "\n".join(groups[heading])
    if (more := plan.commit_count - len(plan.commits)) > 0:
        yield f"…and {more} earlier {'change' if more == 1 else 'changes'}{since}."


def _change(commit: Commit, name: str) -> tuple[str, str]:
    """Return the heading of a commit, and its line, which ends with the commit's id."""
    found = _CONVENTIONAL.fullmatch(one_line(commit.subject))
    if found is None:
        return _OTHER, f"- {escaped(commit.subject)}{name}"
    heading = _BREAKING if found["breaking"] else _GROUPS.get(found["kind"].lower(), _OTHER)
    scope = f"{escaped(found['scope'])}: " if found["scope"] else ""
    return heading, f"- {scope}{escaped(found['text'])}{name}"


def _tickets(plan: ReleasePlan) -> Iterable[str]:
    if not plan.ticket_details:
        return [f"## Tickets\n\n{', '.join(map(escaped, plan.tickets))}"] if plan.tickets else []
    lines = (
        f"- {escaped(one.key)}: {escaped(one.title)} ({escaped(one.status)})"
        if one.found == "read"
        else f"- {escaped(one.key)}"
        for one in plan.ticket_details
    )
    return ["## Tickets\n\n" + "\n".join(lines)]


def _when(plan: ReleasePlan) -> str:
    where = "In the test environment only, as a rehearsal" if plan.rehearsal else "In production"
    if plan.not_before is None:
        return f"{where}, as soon as possible: the release is approved." if not plan.rehearsal else f"{where}."
    return f"{where}, not before {plan.not_before.astimezone(UTC):%Y-%m-%d %H:%M} UTC."
