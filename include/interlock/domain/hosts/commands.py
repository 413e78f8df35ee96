"""Commands for a host, and the meaning of its answers: data, without a connection.

The program that runs on a host is constant text (``adapters/hosts/program.sh``). Everything that differs between hosts
and releases is passed as arguments, quoted in one place here, and as lines on the program's standard input.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from interlock.domain.canonical import canonical_bytes
from interlock.domain.catalogue import Health
from interlock.domain.errors import DeployError
from interlock.domain.permits.on_hosts import ShownPermit
from interlock.domain.records import RunningRelease, release_name

from .appspec import MAX_EVENT_SECONDS, AppSpec, Event

NOTHING = "-"
"""The answer of the program that means: no release."""

UNFINISHED = "unfinished"
"""The answer of the program if a switch was interrupted before the current release had started."""

VERIFIED = "verified"
"""The answer of the program if the host verified the permit that it was shown."""

VISIT = "INTERLOCK_VISIT"
"""The variable that names a run of the program on a host: to end what runs of it, when it has lost the right."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")
_PLACING = 600.0  # seconds that copying files to their places may take
_FORWARD = (Event.BEFORE_INSTALL, Event.AFTER_INSTALL, Event.APPLICATION_START, Event.VALIDATE_SERVICE)
_BACK = (Event.APPLICATION_STOP, Event.APPLICATION_START, Event.VALIDATE_SERVICE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where hosts are changed, and how: what is the same whichever way a deployment goes.

    :param deploy_root: ``{host}`` in it stands for the host's address.
    :param health: none: only the release's hooks prove its health.
    """

    service: str
    environment: str
    deployment_id: str
    deploy_root: str
    health: Health | None
    drain_timeout: timedelta


@dataclass(frozen=True, slots=True)
class Contents:
    """A release as bytes: what the host checks, and what it writes beside the release."""

    release: str
    version: str
    commit: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class InstalledRelease:
    """A whole release on a host, as it describes itself."""

    name: str
    version: str | None = None
    commit: str | None = None
    sha256: str | None = None
    appspec: str | None = None
    has_manifest: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether it was installed from the digest in its name."""
        return bool(self.version and self.sha256) and release_name(self.version or "", self.sha256 or "") == self.name


@dataclass(frozen=True, slots=True)
class HostState:
    """The state that a host reports: the current release, an unfinished switch, and the requested releases.

    :param is_settled: there is no unfinished switch, or the current release was started in it.
    :param uptime: seconds since the host was started, including suspended time.
    :param has_verified: it has keys for permits, and verified the one that it was shown.
    """

    current: str | None = None
    begun: tuple[str | None, str | None] | None = None
    is_settled: bool = True
    uptime: int = 0
    has_verified: bool = False
    releases: Mapping[str, InstalledRelease] = field(default_factory=dict)

    def running(self, host: str) -> RunningRelease:
        """Return what is current, as a record."""
        found = self.releases.get(self.current or NOTHING)
        return RunningRelease(
            host=host, release=self.current, version=found and found.version, commit=found and found.commit
        )


def root_on(deploy_root: str, address: str) -> str:
    """Return the deployment folder on a host; ``{host}`` in it is replaced by the host's address."""
    return deploy_root.replace("{host}", address)


def ask_command(program: str, deploy_root: str, releases: Iterable[str | None] = ()) -> str:
    """Return the command that asks what is current, and about ``releases``, without locking anything."""
    return _command(program, "ask", deploy_root, *(named(release) for release in releases if release))


def look_command(program: str, deploy_root: str) -> str:
    """Return the command that asks what is current and then answers questions about files, without locking anything."""
    return _command(program, "look", deploy_root)


def session_command(
    program: str,
    address: str,
    site: Site,
    contents: Contents | str | None,
    *,
    patience: int,
    token: int,
    visit: str,
    permit: ShownPermit | None = None,
) -> str:
    """Return the command that locks a host and then waits for commands.

    :param contents: the release that the session is about: to be received, or on the host already; none: no release.
    :param patience: seconds without a command after which the host gives the lock back.
    :param token: fencing token of the visit; the host refuses a token lower than the highest that it has seen.
    :param permit: what a host of production verifies.
    :param visit: names this run of the program among all others; what it starts carries the name.
    """
    what = (named(contents), "", "0", "") if not isinstance(contents, Contents) else _received(contents, site.service)
    where = (root_on(site.deploy_root, address), site.service, site.environment, _one_line(site.deployment_id))
    shown = (permit.text, permit.signature) if permit else ()
    command = _command(program, "session", *where, str(token), str(patience), *what, *shown)
    return f"env {VISIT}={shlex.quote(visit)} {command}"


def close_command(program: str, address: str, site: Site, *, token: int, permit: ShownPermit) -> str:
    """Return the command by which a host learns that the permits of a closed release are void.

    :param token: the lowest that a later permit can have.
    :param permit: what a host of production verifies.
    """
    where = (root_on(site.deploy_root, address), site.service, site.environment)
    return _command(program, "close", *where, str(token), permit.text, permit.signature)


def _received(contents: Contents, service: str) -> tuple[str, str, str, str]:
    about = {
        "service": service,
        "release": contents.release,
        "version": contents.version,
        "commit": contents.commit,
        "sha256": contents.sha256,
    }
    return named(contents.release), contents.sha256, str(contents.size), canonical_bytes(about).decode()


def _command(program: str, *arguments: str) -> str:
    return shlex.join(["sh", "-c", program, "interlock", *arguments])


def named(release: str | None) -> str:
    """Return a release's name as an argument; DeployError for one that cannot be a folder's name."""
    if release is None:
        return NOTHING
    if not _NAME.fullmatch(release):
        raise DeployError(
            f"{release!r} is not a valid name of a release on a host.",
            rule="a release name is <version>-<first 12 digits of its digest>, with letters, digits, . _ + and - only",
            who="the release manager",
            next_step="release it under another version",
        )
    return release


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def spec_lines(specs: Mapping[str, AppSpec]) -> tuple[str, ...]:
    """Return what AppSpecs say as lines: a release, a word, three values, the rest.

    The word is an event (seconds, account, seconds of the event, script), ``account`` (one that hooks run as),
    ``files`` (what is done with a file that exists, -, -, source and destination), or ``permission`` (command, its
    value, kinds, object, pattern and exceptions).
    """
    lines: list[str] = []
    for release, spec in specs.items():
        said = [*_hook_lines(spec), *_file_lines(spec), *_permission_lines(spec)]
        lines += [f"{named(release)} {line}" for line in said]
    return tuple(lines)


def _hook_lines(spec: AppSpec) -> Iterable[str]:
    for event in Event:
        for hook in spec.hooks.get(event, ()):
            yield f"{event} {hook.timeout} {hook.runas or NOTHING} {MAX_EVENT_SECONDS} {hook.location}"
    for account in sorted(spec.accounts):
        yield f"account {account}"


def _file_lines(spec: AppSpec) -> Iterable[str]:
    for mapping in spec.files:
        yield f"files {spec.file_exists_behavior} {NOTHING} {NOTHING} {mapping.source}\t{mapping.destination}"


def _permission_lines(spec: AppSpec) -> Iterable[str]:
    for one in spec.permissions:
        kinds = one.type[0] if len(set(one.type)) == 1 else "both"
        place = "\t".join((one.object, *map(_glob, (one.pattern, *one.exceptions))))
        mode = one.mode and f"{one.mode:0>5}"  # of fewer digits chmod lets a folder keep its setgid
        wanted = (("chown", one.owner), ("chgrp", one.group), ("chmod", mode))  # chown takes setuid away
        yield from (f"permission {command} {value} {kinds} {place}" for command, value in wanted if value)


def _glob(pattern: str) -> str:
    """Return a pattern of CodeDeploy's, in which only * means anything, as the shell understands it."""
    return re.sub(r"([\[\]?\\])", r"\\\1", pattern)


def longest(specs: Mapping[str, AppSpec], release: str | None, before: str | None) -> float:
    """Return the most seconds that the hooks of a switch may take, with the way back."""
    old, new = specs.get(before or NOTHING, AppSpec()), specs.get(release or NOTHING, AppSpec())
    ways = ((old, (Event.APPLICATION_STOP,)), (new, _FORWARD), (new, _BACK), (old, _BACK))
    hooks = sum(event_seconds(spec, event) for spec, events in ways for event in events)
    return hooks + max(placing_seconds(old), placing_seconds(new))


def event_seconds(spec: AppSpec, event: Event) -> float:
    """Return the most seconds that the hooks of an event may take."""
    return min(MAX_EVENT_SECONDS, sum(hook.timeout for hook in spec.hooks.get(event, ())))


def placing_seconds(spec: AppSpec) -> float:
    """Return the most seconds that a release's files may take to be looked at, or copied to their places."""
    return _PLACING if spec.files else 0


def parse_state(lines: Iterable[str], current: str) -> HostState:
    """Read the state that a host reports.

    :param lines: what came before the end of the answer.
    :param current: the release that the end of the answer named.
    """
    releases: dict[str, InstalledRelease] = {}
    appspecs: dict[str, list[str]] = {}
    listed: set[str] = set()
    begun = None
    is_settled, uptime, has_verified = True, 0, False
    for line in lines:
        word, _, rest = line.partition(" ")
        name, _, text = rest.partition(" ")
        if word == "release":
            releases[name] = _described(name, text)
        elif word == "appspec":
            appspecs.setdefault(name, []).append(text)
        elif word == "manifest":
            listed.add(name)
        elif word == "journal":
            begun = _release(name), _release(text)
        elif word == UNFINISHED:
            is_settled = False
        elif word == VERIFIED:
            has_verified = True
        elif word == "uptime" and name.isdecimal():
            uptime = int(name)
    whole = {
        name: replace(release, appspec=_joined(appspecs.get(name)), has_manifest=name in listed)
        for name, release in releases.items()
    }
    return HostState(_release(current), begun, is_settled, uptime, has_verified, whole)


def _release(word: str) -> str | None:
    return None if word in (NOTHING, "") else word


def _described(name: str, text: str) -> InstalledRelease:
    """Read a release's ``.interlock.json``; what it does not say plainly is not known."""
    try:
        about = json.loads(text)
    except ValueError:
        return InstalledRelease(name)
    if not isinstance(about, dict):
        return InstalledRelease(name)
    said = {key: about[key] for key in ("version", "commit", "sha256") if isinstance(about.get(key), str)}
    return InstalledRelease(name, **said)


def _joined(lines: list[str] | None) -> str | None:
    return None if lines is None else "\n".join(lines) + "\n"
