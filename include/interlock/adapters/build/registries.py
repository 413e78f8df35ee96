"""Package registries that builds and suites may use, each an Airflow connection, and the settings that tools read.

A build can read its settings, and so can the authors of its code: a registry's login should be able to read
packages, and nothing else.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from xml.sax.saxutils import escape

from interlock.domain.errors import AssetMissing

from ._network_access import place_of

KINDS = ("pip", "npm", "maven")
"""Tools whose settings files are written; any other reads the variables ``REGISTRY_<CONNECTION>_…``."""

_MAX_HOSTS = 20
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:\d{1,5})?")
_SCOPE = re.compile(r"@[a-z0-9._-]+")
_PRINTABLE = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True)
class Registry:
    """A package registry.

    :param name: its connection.
    :param url: without a login.
    :param kind: the tool that it serves: one of :data:`KINDS`, or nothing.
    :param scope: of npm packages that come from it; none: all.
    :param hosts: further hosts that it sends tools to, each with a port if that is not the URL's.
    """

    name: str
    url: str
    login: str = ""
    password: str = ""
    kind: str = ""
    scope: str = ""
    hosts: tuple[str, ...] = ()

    @property
    def urls(self) -> tuple[str, ...]:
        """Its own URL, and those of the further hosts."""
        scheme = urlsplit(self.url).scheme
        return (self.url, *(f"{scheme}://{host}" for host in self.hosts))

    @property
    def secrets(self) -> tuple[str, ...]:
        """Secrets that must not be logged: the password, in each form in which a tool may print it."""
        if not self.password:
            return ()
        both = f"{self.login}:{self.password}".encode()
        forms = (base64.b64encode(both).decode(), base64.b64encode(self.password.encode()).decode())
        return (self.password, quote(self.password, safe=""), *forms)


def registry_of(connection: Any) -> Registry:
    """Return the registry that an Airflow connection names; AssetMissing if it names none.

    ``host`` is the URL; ``login`` and ``password`` are optional; the extra may have ``kind``, ``scope``, ``hosts``.
    """
    extra = connection.extra_dejson
    url = str(connection.host or "").strip()
    registry = Registry(
        name=connection.conn_id,
        url=url if "://" in url else f"{connection.schema or 'https'}://{url}",
        login=connection.login or "",
        password=connection.password or "",
        kind=str(extra.get("kind", "")),
        scope=str(extra.get("scope", "")),
        hosts=tuple(_listed(extra.get("hosts", ()))),
    )
    if problem := _problem(registry):
        raise AssetMissing(
            f"The connection {registry.name} is not a valid registry for builds: {problem}.",
            rule="a registry's host is an http or https URL; its extra may have kind, scope and hosts",
            who="the platform engineer",
            next_step="correct the connection",
        )
    return registry


def _listed(hosts: Any) -> Sequence[str]:
    return [str(one) for one in hosts] if isinstance(hosts, list | tuple) else str(hosts).replace(",", " ").split()


def _problem(registry: Registry) -> str:
    parts = urlsplit(registry.url)
    problems = {
        f"its URL {registry.url.rpartition('@')[2]!r} is neither http nor https": parts.scheme not in ("http", "https"),
        "its URL contains credentials, which belong in login and password": "@" in parts.netloc,
        f"kind is one of {', '.join(KINDS)}, or left out": registry.kind not in ("", *KINDS),
        "scope is a name such as @company": bool(registry.scope) and not _SCOPE.fullmatch(registry.scope),
        f"hosts are at most {_MAX_HOSTS} names": len(registry.hosts) > _MAX_HOSTS
        or not all(_NAME.fullmatch(host) for host in registry.hosts),
        "URL, login and password are printable ASCII": not _PRINTABLE.fullmatch(
            registry.url + registry.login + registry.password
        ),
    }
    found = next((problem for problem, is_so in problems.items() if is_so), "")
    if not found:
        for url in registry.urls:
            place_of(url)
    return found


def variables(registries: Sequence[Registry]) -> Mapping[str, str]:
    """Return the variables that configure the registries of any tool."""
    found = {}
    for one in registries:
        name = "REGISTRY_" + re.sub(r"[^A-Z0-9]", "_", one.name.upper())
        found[f"{name}_URL"] = one.url
        if one.password:
            found[f"{name}_LOGIN"], found[f"{name}_PASSWORD"] = one.login, one.password
    return found


def write_settings(home: Path, registries: Sequence[Registry]) -> None:
    """Write the settings of pip, npm and Maven to a home: the registries and their logins."""
    files = {
        ".netrc": "".join(_netrc(one) for one in registries if one.kind == "pip" and one.password),
        ".config/pip/pip.conf": _pip([one for one in registries if one.kind == "pip"]),
        ".npmrc": "".join(_npm(one) for one in registries if one.kind == "npm"),
        ".m2/settings.xml": _maven([one for one in registries if one.kind == "maven"]),
    }
    for name, text in files.items():
        if text:
            path = home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(text)


def _netrc(one: Registry) -> str:
    return f"machine {urlsplit(one.url).hostname} login {_quoted(one.login)} password {_quoted(one.password)}\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _pip(registries: Sequence[Registry]) -> str:
    if not registries:
        return ""
    first, *others = registries
    further = "".join(f"extra-index-url = {one.url}\n" for one in others[:1]) + "".join(
        f"    {one.url}\n" for one in others[1:]
    )
    return f"[global]\nindex-url = {first.url}\n{further}"


def _npm(one: Registry) -> str:
    url = one.url.rstrip("/") + "/"
    text = f"{one.scope + ':' if one.scope else ''}registry={url}\n"
    if one.password:
        place = "//" + url.partition("://")[2]
        basic = base64.b64encode(f"{one.login}:{one.password}".encode()).decode()
        text += f"{place}:_auth={basic}\n" if one.login else f"{place}:_authToken={one.password}\n"
    return text


def _maven(registries: Sequence[Registry]) -> str:
    """Return settings in which the first registry is the mirror of all others, and each has its login."""
    if not registries:
        return ""
    servers = "".join(
        f"<server><id>{escape(one.name)}</id><username>{escape(one.login)}</username>"
        f"<password>{escape(one.password)}</password></server>"
        for one in registries
        if one.password
    )
    first = registries[0]
    mirror = (
        f"<mirror><id>{escape(first.name)}</id><mirrorOf>external:*</mirrorOf><url>{escape(first.url)}</url></mirror>"
    )
    if len(registries) > 1:
        names = ",".join(["external:*", *(f"!{one.name}" for one in registries[1:])])
        mirror = mirror.replace("external:*", escape(names))
    return f"<settings><servers>{servers}</servers><mirrors>{mirror}</mirrors></settings>\n"
