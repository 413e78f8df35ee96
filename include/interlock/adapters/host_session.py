"""A conversation with the program on one host: locked from its first answer to the end of the context."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import monotonic

from include.interlock.domain.appspec import AppSpec, Event
from include.interlock.domain.errors import DeployError, HostUnreachable
from include.interlock.domain.host_commands import (
    NOTHING,
    UNFINISHED,
    Contents,
    HostState,
    InstalledRelease,
    Site,
    ask_command,
    event_seconds,
    longest,
    named,
    parse_state,
    placing_seconds,
    root_on,
    session_command,
    spec_lines,
)

from .parcel import Parcel
from .transport import Connection, Door, Program

log = logging.getLogger(__name__)

_SLOWEST = 64 * 1024  # bytes per second below which a transfer is given up
_ANSWER_SECONDS = 60.0
_SAID_LIMIT = 2000
_GOODBYE_SECONDS = 5.0

AS_NOTED = "="
"""In place of the release that ran before: the one that the host has noted."""


@cache
def program() -> str:
    """Return the program that runs on hosts."""
    return Path(__file__).with_name("host_program.sh").read_text(encoding="utf-8")


class Stopwatch:
    """The steps of one host's deployment, each with its seconds."""

    def __init__(self) -> None:
        self._steps: list[tuple[str, float]] = []
        self._started = self._since = monotonic()
        self._name = ""

    def begin(self, name: str) -> None:
        """End the step before, and begin another."""
        self.end()
        self._name, self._since = name, monotonic()

    def end(self) -> None:
        """End the step that runs."""
        if self._name:
            self._steps.append((self._name, round(monotonic() - self._since, 3)))
        self._name = ""

    @property
    def running(self) -> str:
        """The step that runs."""
        return self._name

    @property
    def steps(self) -> tuple[tuple[str, float], ...]:
        """What has been done, in order."""
        return tuple(self._steps)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return round(monotonic() - self._started, 3)


@dataclass(frozen=True, slots=True)
class _Answer:
    word: str
    current: str
    text: str
    lines: tuple[str, ...]

    def has(self, word: str) -> bool:
        """Say whether a line begins with a word."""
        return any(line.partition(" ")[0] == word for line in self.lines)

    @property
    def said(self) -> str:
        """The end of what a hook printed."""
        lines = [line.removeprefix("tail ").strip() for line in self.lines if line.startswith("tail ")]
        return " | ".join(line for line in lines if line)[-_SAID_LIMIT:]


async def ask_host(door: Door, address: str, deploy_root: str, releases: Iterable[str | None] = ()) -> HostState:
    """Ask a host what is current, and about releases, without locking it."""
    async with (
        door.opened(address) as connection,
        _started(connection, address, ask_command(program(), root_on(deploy_root, address), releases)) as channel,
    ):
        answer = await channel.answer(_ANSWER_SECONDS)
    if answer.word != "done":
        raise _refusal(address, answer)
    return parse_state(answer.lines, answer.current)


class HostSession:
    """What can be asked of a host that is locked for this deployment.

    ``current`` is the release that the host named last; ``has_begun`` says that a switch is to be finished,
    ``is_settled`` that what is current came to the end of its start, ``has_left`` that the host's program has ended;
    ``sent`` counts the bytes of releases that were sent.
    """

    def __init__(self, channel: _Channel, contents: Contents | str | None, opening: _Answer, watch: Stopwatch) -> None:
        self._channel = channel
        self._contents = contents
        self._watch = watch
        self.state = parse_state(opening.lines, opening.current)
        self.current = self.state.current
        self.has_begun = self.state.begun is not None
        self.is_settled = self.state.is_settled
        self.has_left = False
        self.sent = 0

    async def receive(self, parcel: Parcel) -> None:
        """Send the release; the host checks its digest, unpacks it, and has it then.

        If the host has a release already that the engine knows file by file, only what differs travels.
        """
        base = self.state.releases.get(self.current or NOTHING)
        if base is not None and base.has_manifest and base.is_whole and await self._patch(parcel, base):
            return
        self._watch.begin("transfer")
        manifest = await parcel.manifest()
        await self._deliver(f"receive {len(manifest)}", manifest, parcel.bundle)

    async def _patch(self, parcel: Parcel, base: InstalledRelease) -> bool:
        """Send what differs from a release that the host has; False if the whole bundle is to be sent."""
        self._watch.begin("compare")
        difference = await parcel.difference(base, lambda: self._manifest(base.name))
        if difference is None:
            return False
        self._watch.begin("transfer")
        command = f"patch {difference.sha256} {len(difference.archive)} {named(base.name)}"
        try:
            await self._deliver(command, difference.archive, work=len(parcel.bundle))
        except HostUnreachable:
            raise
        except DeployError as error:
            if self.has_left:
                raise
            log.warning("Sent whole, for what differs from %s did not do: %s", base.name, error)
            return False
        return True

    async def _manifest(self, release: str) -> bytes:
        await self._channel.send(f"manifest {named(release)}\n".encode())
        answer = await self._channel.answer(_ANSWER_SECONDS)
        try:
            return base64.b64decode("".join(line.removeprefix("manifest ") for line in answer.lines))
        except binascii.Error:
            return b""

    async def _deliver(self, command: str, *parts: bytes, work: int = 0) -> None:
        """Send bytes, and wait until the host has done with them what it was told.

        :param work: further bytes that the host writes and looks at.
        """
        size = sum(map(len, parts))
        limit = _ANSWER_SECONDS + (size + work) / _SLOWEST
        self.sent += size
        await self._channel.send(f"{command}\n".encode(), *parts, limit=limit)
        await self._done(limit)

    async def prepare(self, spec: AppSpec) -> None:
        """Have the host say whether the release's hooks may run as whom they are to, and its files be placed."""
        about = self._contents.release if isinstance(self._contents, Contents) else self._contents
        if about is not None and (spec.accounts or spec.files):
            self._watch.begin("prepare")
            await self._tell({about: spec}, ["prepare"], placing_seconds(spec))

    async def traffic(self, event: Event, release: str | None, specs: Mapping[str, AppSpec]) -> None:
        """Run a release's hooks for an event around traffic; DeployError if one of them fails."""
        spec = specs.get(release or NOTHING)
        if spec is not None and spec.hooks.get(event):
            self._watch.begin(str(event))
            await self._tell(specs, [f"traffic {event} {named(release)}"], event_seconds(spec, event))

    async def activate(self, specs: Mapping[str, AppSpec]) -> None:
        """Switch to the release; when one of its hooks fails, the host goes back by itself before it answers."""
        about = self._contents.release if isinstance(self._contents, Contents) else self._contents
        await self._switch(["activate"], specs, about)

    async def settle(self, release: str | None, specs: Mapping[str, AppSpec]) -> None:
        """Switch to a release that is on the host, or to none, and stay there whatever its hooks say."""
        await self._switch([f"settle {named(release)}"], specs, release)

    async def finish(self, *, keep: int, previous: str | None = AS_NOTED) -> None:
        """End the switch: the host forgets it, and all releases but ``keep``.

        :param keep: how many releases stay; 0: all.
        :param previous: the release that ran before and stays in any case; AS_NOTED: the one that was noted before.
        """
        self._watch.begin("prune")
        before = previous if previous == AS_NOTED else named(previous)
        await self._channel.send(f"finish {keep} {before}\n".encode())
        await self._done(_ANSWER_SECONDS)

    async def _switch(self, command: Sequence[str], specs: Mapping[str, AppSpec], release: str | None) -> None:
        self._watch.begin("prepare")
        self.has_begun = True
        await self._tell(specs, command, longest(specs, release, self.current))

    async def _tell(self, specs: Mapping[str, AppSpec], command: Sequence[str], seconds: float) -> None:
        said = spec_lines(specs)
        lines = [f"hooks {len(said)}", *said, *command]
        await self._channel.send(("\n".join(lines) + "\n").encode())
        await self._done(_ANSWER_SECONDS + seconds)

    async def _done(self, limit: float) -> None:
        """Wait until the host has done what it was told; DeployError with its words if it could not."""
        answer = await self._channel.answer(limit)
        self._watch.end()
        self.current = None if answer.current == NOTHING else answer.current
        self.is_settled = not answer.has(UNFINISHED)
        self.has_left = answer.has("leave")
        for line in answer.lines:
            if line.startswith("warn "):
                log.warning("%s: %s", self._channel.address, line.removeprefix("warn "))
        if answer.word != "done":
            raise _refusal(self._channel.address, answer)


@asynccontextmanager
async def host_session(
    door: Door, address: str, site: Site, contents: Contents | str | None, *, patience: float, watch: Stopwatch
) -> AsyncIterator[HostSession]:
    """Lock a host for a deployment; DeployError names the deployment that has it already.

    :param patience: seconds without a command after which the host gives the lock back, in case this side is gone.
    """
    command = session_command(program(), address, site, contents, patience=int(patience))
    watch.begin("connect")
    async with door.opened(address) as connection:
        watch.begin("lock")
        async with _started(connection, address, command, watch) as channel:
            opening = await channel.answer(patience + _ANSWER_SECONDS)
            watch.end()
            if opening.word != "done":
                raise _refusal(address, opening)
            yield HostSession(channel, contents, opening, watch)


def _refusal(address: str, answer: _Answer) -> DeployError:
    if answer.word == "busy":
        return DeployError(
            f"{address} is locked by {answer.text or 'another deployment'}.",
            rule="one deployment at a time to a host",
            who="whoever runs that deployment",
            next_step="wait until it has ended, then try again",
        )
    said = f" It said: {answer.said}" if answer.said else ""
    return DeployError(f"{address}: {answer.text}.{said}")


@asynccontextmanager
async def _started(
    connection: Connection, address: str, command: str, watch: Stopwatch | None = None
) -> AsyncIterator[_Channel]:
    """Start the program; at the end, let it see the end of its input and wait until it has let go of the host.

    However it ends: otherwise the host would stay locked for as long as it waits for a command.
    """
    channel = _Channel(connection, address, watch)
    await channel.start(command)
    try:
        yield channel
    finally:
        await channel.end()


class _Channel:
    """The lines to and from one run of the program."""

    def __init__(self, connection: Connection, address: str, watch: Stopwatch | None) -> None:
        self._connection = connection
        self.address = address
        self._watch = watch

    async def start(self, command: str) -> None:
        try:
            self._program: Program = await self._connection.start(command)
        except OSError as error:
            raise self._lost() from error

    async def send(self, *parts: bytes, limit: float = _ANSWER_SECONDS) -> None:
        """Send bytes to the program."""
        try:
            async with asyncio.timeout(limit):
                for part in parts:
                    await self._program.write(memoryview(part))
        except TimeoutError as error:
            raise self._lost() from error
        except OSError:
            # The program has ended before it had everything: its answer, which is read next, says why.
            return

    async def answer(self, limit: float) -> _Answer:
        """Read until the end of an answer."""
        lines: list[str] = []
        try:
            async with asyncio.timeout(limit):
                while line := await self._program.readline():
                    word, _, rest = line.decode(errors="replace").rstrip("\n").partition(" ")
                    if word in ("done", "failed", "busy"):
                        current, _, text = rest.partition(" ")
                        return _Answer(word, current, text.strip(), tuple(lines))
                    if word == "step" and self._watch:
                        self._watch.begin(rest)
                    lines.append(f"{word} {rest}")
                raise self._lost(await self._program.said(_SAID_LIMIT))
        except TimeoutError as error:
            raise self._lost() from error
        except OSError as error:
            raise self._lost() from error

    async def end(self) -> None:
        """Close the program's input and wait a little until it has let go of the host."""
        try:
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await self._program.close()
        except (OSError, HostUnreachable):
            # Whatever came of it is known already: a connection that ends less politely changes nothing.
            return

    def _lost(self, said: bytes = b"") -> HostUnreachable:
        step = f" during {self._watch.running}" if self._watch and self._watch.running else ""
        words = " ".join(said.decode(errors="replace").split())
        return HostUnreachable(
            f"The connection to {self.address} was lost{step}.{f' It said: {words}' if words else ''}",
            who="the operators of the host",
            next_step="try again: the host ends by itself what was begun, and a new try goes on from what it says",
        )
