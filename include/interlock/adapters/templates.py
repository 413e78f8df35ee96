"""Texts for people, in Markdown, from the templates in ``templates/``.

What a template puts out is escaped, unless the template says otherwise with a filter: commit messages, summaries and
comments come from outside and must not be able to add a row to a table, a link, or a heading to what a board reads.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import quote

from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from interlock.domain.catalogue.values import in_words, roughly
from interlock.domain.quality.rows import SUITE_TITLES
from interlock.locations import TEMPLATES

MAX_LINE_LENGTH = 300
"""Maximum characters of one value; the records have the full value."""
NOTHING = "—"

MEANS_SOMETHING = re.compile(r"([\\`*\[\]~]|(?<![^\W_])_|_(?![^\W_]))")
"""What Markdown reads within a line; what it reads only at a line's beginning cannot get there from a value."""
REFERENCES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}
"""Characters that are written as references, which also work within tables."""
LINKED = re.compile(r"(://|www(?=\.)|@)", re.IGNORECASE)
"""Text that GitHub's Markdown turns into links even if it is escaped; an invisible joiner prevents that."""
LEADS_SOMEWHERE = re.compile(r"(\](?=[(\[:])|<(?=[A-Za-z/!?])|&(?=[#A-Za-z]))")
"""What begins the target of a link or an image, a tag, or a character by its number."""
_ADDRESS = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~%/-]*)?")
"""Addresses that need no escaping within a link of Markdown."""
JOINER = "\N{WORD JOINER}"
MAX_DOCUMENT_LENGTH = 20_000
"""Characters of a document that are shown."""
HIDDEN = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}
"""Unicode's control, format and private characters, which are invisible or change the direction of text."""


class Markdown(str):
    """Text that is Markdown already; it is put out as it is."""


def render(name: str, **records: Any) -> str:
    """Fill in a template; a record that it names and is not given is an error."""
    return _environment().get_template(name).render(**records)


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        finalize=escape,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        address=address,
        code=code,
        counted=counted,
        in_words=in_words,
        instant=instant,
        link=link,
        named=named,
        quoted=quoted,
        roughly=roughly,
        short=short,
        suite=suite,
        whole=whole,
        worded=worded,
    )
    return environment


def escape(value: Any) -> str:
    """Return a value as Markdown that shows exactly the value's text, on one line."""
    if isinstance(value, Markdown):
        return value
    return _escaped(_one_line(_said(value)))


def whole(text: str) -> Markdown:
    """Return a text whose length its model limits: escaped, on one line, and nothing of it left out."""
    return Markdown(_escaped(visible(" ".join(text.split())) or NOTHING))


def _escaped(line: str) -> str:
    text = MEANS_SOMETHING.sub(r"\\\1", LINKED.sub(rf"\1{JOINER}", line))
    return "".join(REFERENCES.get(character, character) for character in text)


def code(value: Any) -> Markdown:
    """Return a value in code style, for digests, commits and names of files."""
    text = _one_line(_said(value)).replace("`", "'").replace("|", "¦")
    return Markdown(f"`{text}`" if text != NOTHING else NOTHING)


def address(url: str) -> Markdown:
    """Return a web address as a link that shows it; what is none is shown as text."""
    text = escape(url)
    return Markdown(f"[{text}](<{url}>)") if _ADDRESS.fullmatch(url) else Markdown(text)


def short(digest: str | None) -> Markdown:
    """Return the first twelve digits of a digest or a commit, in code style."""
    return code(digest[:12] if digest else None)


def instant(value: datetime | None) -> str:
    """Return an instant for people, in UTC."""
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if value else NOTHING


def link(text: str, path: str) -> Markdown:
    """Return a link to a page of Airflow's.

    :param path: below Airflow's own address, without a slash at its beginning.
    """
    return Markdown(f"[{escape(text)}]({quote(path, safe='/%')})")


def named(user: str, names: Mapping[str, str]) -> str:
    """Return a person's name with the user name; only the user name, if the board book does not list the person."""
    return f"{names[user]} ({user})" if user in names else user


def worded(key: str) -> str:
    """Return a key as words: ``peak_hours`` as *Peak hours*."""
    words = re.sub(r"[_-]+", " ", key).strip()
    return words[:1].upper() + words[1:]


def suite(name: str) -> str:
    """Return what people call a suite of quality review."""
    return SUITE_TITLES.get(name, worded(name))


def counted(number: int, noun: str) -> str:
    """Return a number of things: *1 host*, *3 hosts*."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def quoted(text: str) -> Markdown:
    """Return another author's document as a quotation, which the document cannot end.

    Its headings, lists and emphasis stay; its links, images and HTML are shown as they are written, and lead nowhere.
    What is too long ends with a line that says so.
    """
    lines = (inert(visible(line.expandtabs(4))) for line in text[:MAX_DOCUMENT_LENGTH].splitlines())
    said = [f"> {line}".rstrip() for line in lines]
    if (more := len(text) - MAX_DOCUMENT_LENGTH) > 0:
        said += [">", f"> … {more:,} more characters are in the document itself"]
    return Markdown("\n".join(said))


def inert(line: str) -> str:
    """Keep a line of Markdown from making links, images, references and HTML, as its reader sees it."""
    return LINKED.sub(rf"\1{JOINER}", LEADS_SOMEWHERE.sub(rf"\1{JOINER}", line))


def _said(value: Any) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, datetime):
        return instant(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(map(_said, value))
    return str(value)


def _one_line(text: str) -> str:
    line = visible(" ".join(text.split())) or NOTHING
    return line if len(line) <= MAX_LINE_LENGTH else f"{line[: MAX_LINE_LENGTH - 1]}…"


def visible(line: str) -> str:
    """Return a line without characters that are invisible or change the direction of text."""
    return "".join(character for character in line if unicodedata.category(character) not in HIDDEN)
