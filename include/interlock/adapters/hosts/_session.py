"""A conversation with the program on one host: locked from its first answer to the end of the context."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from time import monotonic

from interlock.domain.errors import DeployError, HostUnreachable, LostRight, PolicyViolation, ReleaseError
from interlock.domain.hosts.appspec import AppSpec, Event
from interlock.domain.hosts.commands import (
    NOTHING,
    UNFINISHED,
    Contents,
    HostState,
    InstalledRelease,
    Site,
    ask_command,
    close_command,
    event_seconds,
    longest,
    look_command,
    named,
    parse_state,
    placing_seconds,
    root_on,
    session_command,
    spec_lines,
)
from interlock.domain.hosts.released_files import Expected, Seen, parse_answer, questions
from interlock.domain.permits.fencing import LOST_RULE
from interlock.domain.permits.on_hosts import ShownPermit

from ._parcel import Parcel
from .transport import Connection, Program, Transport

log = logging.getLogger(__name__)

_MIN_BYTES_PER_SECOND = 64 * 1024  # bytes per second below which a transfer is given up
_MIN_BYTES_READ_PER_SECOND = 4 * 1024 * 1024  # the same of files that a host is asked about
_ANSWER_TIMEOUT_SECONDS = 60.0
_MAX_QUOTED_CHARACTERS = 2000
_GOODBYE_SECONDS = 5.0
_HOLDS_SECONDS = 120
"""Validity of the answer that a host may be changed: the host accepts the command within it. SSM may need a minute."""
_ANSWER_LIMIT = 64 * 1024 * 1024  # of one answer: the longest is the list of a large release's files
_NOISE_LIMIT = 16 * 1024 * 1024  # bytes of unexpected output of one run
_QUOTED = 500
_AT_LOGIN = "~/.bashrc, ~/.zshenv, ~/.ssh/rc, /etc/bash.bashrc or the ForceCommand of sshd"

AS_NOTED = "="
"""Instead of a previous release: the release that the host has noted."""


@cache
def program() -> str:
    """Return the program that runs on hosts."""
    return Path(__file__).with_name("program.sh").read_text(encoding="utf-8")


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
        lines = [_printable(line).removeprefix("tail ").strip() for line in self.lines if line.startswith("tail ")]
        return " | ".join(line for line in lines if line)[-_MAX_QUOTED_CHARACTERS:]


async def ask_host(
    transport: Transport, address: str, deploy_root: str, releases: Iterable[str | None] = ()
) -> HostState:
    """Ask a host what is current, and about releases, without locking it."""
    async with (
        transport.opened(address) as connection,
        _started(connection, address, ask_command(program(), root_on(deploy_root, address), releases)) as channel,
    ):
        answer = await channel.answer(_ANSWER_TIMEOUT_SECONDS)
    if answer.word != "done":
        raise _refusal(address, answer)
    return parse_state(answer.lines, answer.current)


@dataclass(frozen=True, slots=True)
class HostLook:
    """What a host says without being locked: what is current, and what stands where it was asked about.

    :param asked: the files that it was asked about; ``seen``: its answers, by name.
    """

    state: HostState
    asked: tuple[Expected, ...] = ()
    seen: Mapping[str, Seen] = field(default_factory=dict)


async def look_at_host(
    transport: Transport, address: str, deploy_root: str, choose: Callable[[str], Awaitable[Sequence[Expected]]]
) -> HostLook:
    """Ask a host what is current, and about files of it, over one connection and without locking it.

    :param choose: returns the files to ask about, by the release that is current.
    """
    command = look_command(program(), root_on(deploy_root, address))
    async with transport.opened(address) as connection, _started(connection, address, command) as channel:
        answer = await channel.answer(_ANSWER_TIMEOUT_SECONDS)
        if answer.word != "done":
            raise _refusal(address, answer)
        state = parse_state(answer.lines, answer.current)
        asked = tuple(await choose(state.current)) if state.current else ()
        seen: dict[str, Seen] = {}
        until = monotonic() + _ANSWER_TIMEOUT_SECONDS + sum(one.size for one in asked) / _MIN_BYTES_READ_PER_SECOND
        for question in questions(asked):
            await channel.send(question.lines)
            answer = await channel.answer(max(0.0, until - monotonic()))
            if answer.word != "done":
                raise _refusal(address, answer)
            try:
                seen |= parse_answer(answer.lines, question)
            except ValueError as error:
                raise DeployError(
                    f"{address} was asked about files of {state.current}, and {error}.",
                    rule="a host's answer is read for certain, or not at all",
                    who="the operators of the host",
                    next_step="see what sha256sum, find and readlink are on the host",
                ) from error
    return HostLook(state, asked, seen)


async def close_off_host(transport: Transport, address: str, site: Site, *, token: int, closing: ShownPermit) -> None:
    """Have a host refuse all lower tokens than this one."""
    command = close_command(program(), address, site, token=token, permit=closing)
    async with transport.opened(address) as connection, _started(connection, address, command) as channel:
        answer = await channel.answer(_ANSWER_TIMEOUT_SECONDS)
    if answer.word != "done":
        raise _refusal(address, answer)


@dataclass(frozen=True, slots=True)
class StepRun:
    """What a host knows of a program that it was to run once.

    :param outcome: whether it succeeded; none: it was begun, and how it ended is not known.
    :param why: why it did not succeed; ``said``: the end of what it printed.
    :param is_again: it ran before, in an earlier visit.
    """

    outcome: bool | None
    why: str = ""
    said: str = ""
    is_again: bool = False


class HostSession:
    """What can be asked of a host that is locked for this deployment.

    ``current`` is the release that the host named last; ``has_begun`` says that a switch is to be finished,
    ``is_settled`` that what is current came to the end of its start, ``has_left`` that the host's program has ended;
    ``sent`` counts the bytes of releases that were sent; ``warnings`` are what went wrong and does not decide.
    """

    def __init__(
        self,
        channel: _Channel,
        contents: Contents | str | None,
        opening: _Answer,
        watch: Stopwatch,
        hold: Callable[[str], Awaitable[None]],
    ) -> None:
        self._channel = channel
        self._contents = contents
        self._watch = watch
        self._hold = hold
        self.state = parse_state(opening.lines, opening.current)
        self._started = _since_boot() - self.state.uptime if self.state.uptime else None
        self.current = self.state.current
        self.has_begun = self.state.begun is not None
        self.is_settled = self.state.is_settled
        self.has_left = False
        self.sent = 0
        self.warnings: list[str] = []

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
            log.warning(
                "The full release is sent, because the difference to %s could not be applied: %s", base.name, error
            )
            return False
        return True

    async def _manifest(self, release: str) -> bytes:
        await self._channel.send(f"manifest {named(release)}\n".encode())
        answer = await self._channel.answer(_ANSWER_TIMEOUT_SECONDS)
        try:
            return base64.b64decode("".join(line.removeprefix("manifest ") for line in answer.lines))
        except binascii.Error:
            return b""

    async def _deliver(self, command: str, *parts: bytes, work: int = 0) -> None:
        """Send bytes, and wait until the host has processed them.

        :param work: further bytes that the host writes and looks at.
        """
        size = sum(map(len, parts))
        limit = _ANSWER_TIMEOUT_SECONDS + (size + work) / _MIN_BYTES_PER_SECOND
        self.sent += size
        until = await self._until(command.partition(" ")[0])
        await self._channel.send(f"{until}{command}\n".encode(), *parts, limit=limit)
        await self._done(limit)

    async def prepare(self, spec: AppSpec) -> None:
        """Check on the host that the release's hooks can run as their accounts, and that its files can be placed."""
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

    async def activate(self, specs: Mapping[str, AppSpec], on_stop_failure: str) -> None:
        """Switch to the release; when one of its hooks fails, the host goes back by itself before it answers.

        :param on_stop_failure: ``go_on`` or ``refuse``: when what runs cannot be stopped by its own hooks.
        """
        about = self._contents.release if isinstance(self._contents, Contents) else self._contents
        await self._switch([f"activate {on_stop_failure}"], specs, about)

    async def settle(self, release: str | None, specs: Mapping[str, AppSpec]) -> None:
        """Switch to a release that is on the host, or to none, and stay there whatever its hooks say.

        If its files cannot be put in their places, what runs goes on running.
        """
        await self._switch([f"settle {named(release)}"], specs, release)

    async def restore(self, release: str | None, specs: Mapping[str, AppSpec]) -> None:
        """Switch back to what ran before, whatever is in the way of its files meanwhile."""
        await self._switch([f"restore {named(release)}"], specs, release)

    async def finish(self, *, keep: int, previous: str | None = AS_NOTED) -> None:
        """End the switch: the host forgets it, and all releases but ``keep``.

        :param keep: how many releases stay; 0: all.
        :param previous: the release that ran before and stays in any case; AS_NOTED: the one that was noted before.
        """
        self._watch.begin("prune")
        before = previous if previous == AS_NOTED else named(previous)
        until = await self._until("finish")
        await self._channel.send(f"{until}finish {keep} {before}\n".encode())
        await self._done(_ANSWER_TIMEOUT_SECONDS)

    async def run_step(self, id: str, script: str, *, seconds: int, account: str | None) -> StepRun:
        """Run a program of the release; what the host knows of an earlier run with this id counts instead.

        :raises HostUnreachable: the connection was lost. The host ends what it began, and knows how that ended.
        :raises DeployError: it was not begun, and will not be.
        """
        self._watch.begin("step")
        until = await self._until("step")
        await self._channel.send(f"{until}step {id} {seconds} {account or NOTHING} {script}\n".encode())
        answer = await self._channel.answer(_ANSWER_TIMEOUT_SECONDS + seconds)
        self._watch.end()
        for line in answer.lines:
            if line.startswith("warn "):
                self.warn(_printable(line.removeprefix("warn ")))
        is_again = answer.has("again")
        if answer.has("ran") or is_again:
            why = "" if answer.word == "done" else answer.text
            return StepRun(outcome=answer.word == "done", why=why, said=answer.said, is_again=is_again)
        if answer.has("unclear"):
            return StepRun(outcome=None, why=answer.text)
        raise _refusal(self._channel.address, answer)

    async def _switch(self, command: Sequence[str], specs: Mapping[str, AppSpec], release: str | None) -> None:
        self._watch.begin("prepare")
        self.has_begun = True
        await self._tell(specs, command, longest(specs, release, self.current))

    async def _tell(self, specs: Mapping[str, AppSpec], command: Sequence[str], seconds: float) -> None:
        said = spec_lines(specs)
        until = await self._until(command[0])
        lines = [f"hooks {len(said)}", *said, *command]
        await self._channel.send((until + "\n".join(lines) + "\n").encode())
        await self._done(_ANSWER_TIMEOUT_SECONDS + seconds)

    async def _until(self, command: str) -> str:
        """Check that the host may still be changed, and return the line with the validity of that answer.

        The host's clock and this one's count while a process, or a machine, is stopped: what is sent too late, because
        this process was stopped between the answer and the command, is refused there.
        """
        checked = _since_boot()
        await self._hold(f"have {self._channel.address} do: {command}")
        return "" if self._started is None else f"until {int(checked - self._started) + _HOLDS_SECONDS}\n"

    def warn(self, what: str) -> None:
        """Record an error that does not decide the result of the visit."""
        log.warning("%s: %s", self._channel.address, what)
        self.warnings.append(what)

    async def _done(self, limit: float) -> None:
        """Wait until the host has completed the command; DeployError with its message if it could not."""
        answer = await self._channel.answer(limit)
        self._watch.end()
        self.current = None if answer.current == NOTHING else answer.current
        self.is_settled = not answer.has(UNFINISHED)
        self.has_left = answer.has("leave")
        for line in answer.lines:
            if line.startswith("warn "):
                self.warn(_printable(line.removeprefix("warn ")))
        if answer.word != "done":
            raise _refusal(self._channel.address, answer)


@asynccontextmanager
async def host_session(
    transport: Transport,
    address: str,
    site: Site,
    contents: Contents | str | None,
    *,
    patience: float,
    watch: Stopwatch,
) -> AsyncIterator[HostSession]:
    """Lock a host for a deployment; DeployError names the deployment that has it already.

    :param patience: seconds without a command after which the host gives the lock back, in case this side is gone.
    """
    watch.begin("connect")
    async with transport.opened(address) as connection:
        watch.begin("lock")
        visit = secrets.token_hex(8)
        command = session_command(
            program(),
            address,
            site,
            contents,
            patience=int(patience),
            token=transport.token,
            visit=visit,
            permit=transport.permit,
        )
        async with _started(connection, address, command, watch) as channel:
            opening = await channel.answer(patience + _ANSWER_TIMEOUT_SECONDS)
            watch.end()
            if opening.word != "done":
                raise _refusal(address, opening)
            yield HostSession(channel, contents, opening, watch, transport.hold)


def _refusal(address: str, answer: _Answer) -> ReleaseError:
    if answer.word == "busy":
        return DeployError(
            f"{address} is locked by {answer.text or 'another deployment'}.",
            rule="a host runs one deployment at a time",
            who="the owner of that deployment",
            next_step="wait until it has ended, then try again",
        )
    if answer.word == "fenced":
        return LostRight(
            f"{address} takes no lower token than {answer.text}, but this deployment has one and may no longer change "
            "it: a later deployment came, or its release was closed.",
            rule=LOST_RULE,
            who="no user",
            next_step="no action is needed: if there is a later deployment, it continues",
        )
    if answer.word == "refused":
        return PolicyViolation(
            f"{address} is a host of production, and it refused to be changed: {answer.text}.",
            rule="a host of production is changed only with a permit that it has verified",
            who="the release manager (permit); the platform engineer (/etc/interlock on the host)",
            next_step="release through the process; if the permit is right, compare the host's clock, keys and names",
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
    """The input and the answers of one run of the program."""

    def __init__(self, connection: Connection, address: str, watch: Stopwatch | None) -> None:
        self._connection = connection
        self.address = address
        self._watch = watch
        self._mark = _new_mark()
        self._lines = MarkedLines(self._mark)

    async def start(self, command: str) -> None:
        try:
            self._program: Program = await self._connection.start(command)
        except OSError as error:
            raise self._lost() from error
        await self.send(self._mark + b"\n")

    async def send(self, *parts: bytes, limit: float = _ANSWER_TIMEOUT_SECONDS) -> None:
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
        """Read until the end of an answer; who has not said a word of it soon is not the program."""
        lines: list[str] = []
        length = 0
        until = asyncio.get_running_loop().time() + limit
        try:
            async with asyncio.timeout(limit if self._lines.has_begun else _ANSWER_TIMEOUT_SECONDS) as patience:
                while (line := await self._line()) is not None:
                    patience.reschedule(until)
                    word, _, rest = line.partition(" ")
                    if word in ("done", "failed", "busy", "fenced", "refused"):
                        current, _, text = rest.partition(" ")
                        return _Answer(word, current, _printable(text).strip(), tuple(lines))
                    if word == "step" and self._watch:
                        self._watch.begin(rest)
                    lines.append(line)
                    length += len(self._mark) + len(line)
                    if length > _ANSWER_LIMIT:
                        raise self._endless()
                said = await self._program.said(_QUOTED)
        except OSError as error:  # also when it took too long
            raise (self._lost() if self._lines.has_begun else self._mute(b"")) from error
        raise self._lost(said) if self._lines.has_begun else self._mute(said)

    async def _line(self) -> str | None:
        """Return the next line of an answer, or None at the end of the output."""
        while (line := self._lines.pop()) is None:
            if self._lines.noise > _NOISE_LIMIT:
                raise self._drowned()
            if not (more := await self._program.read()):
                return None
            self._lines.feed(more)
        return line

    async def end(self) -> None:
        """Close the program's input and wait a little until it has let go of the host."""
        try:
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await self._program.close()
        except (OSError, HostUnreachable):
            # The result is already known, so an unclean end of the connection does not matter.
            return

    def _lost(self, said: bytes = b"") -> HostUnreachable:
        step = f" during {self._watch.running}" if self._watch and self._watch.running else ""
        words = " ".join(_printable(said.decode(errors="replace")).split())
        return HostUnreachable(
            f"The connection to {self.address} was lost{step}.{f' It said: {words}' if words else ''}",
            who="the operators of the host",
            next_step="try again: the host completes the current step, and the next try continues from its state",
        )

    def _mute(self, said: bytes) -> HostUnreachable:
        printed = self._lines.printed + said
        return HostUnreachable(
            f"{self.address} accepted the login, but the program that Interlock started there did not answer. "
            f"The login {f'printed {_quoted(printed)}' if printed else 'printed nothing'}.",
            rule="the login shell runs the given command and does not read its input",
            who="the operators of the host",
            next_step=f"check what runs at login in {_AT_LOGIN}, and limit it to terminals",
        )

    def _drowned(self) -> HostUnreachable:
        return HostUnreachable(
            f"{self.address} printed more than {_NOISE_LIMIT >> 20} MiB of unexpected output. "
            f"They begin with {_quoted(self._lines.printed)}.",
            rule="unexpected output of a host is skipped up to a limit",
            who="the operators of the host",
            next_step=f"check what is printed at login in {_AT_LOGIN}, and limit it to terminals",
        )

    def _endless(self) -> HostUnreachable:
        return HostUnreachable(
            f"{self.address} gave an answer of more than {_ANSWER_LIMIT >> 20} MiB, and it was not read to its end.",
            rule="a host's answer is read up to a limit",
            who="the operators of the host",
            next_step="find out what answers there: the program that Interlock runs on hosts says less",
        )


class MarkedLines:
    """Finds the lines that begin with a mark in what a program's output brings; all else is noise.

    The mark may stand anywhere: what was printed before it without an end of line is noise, too. ``noise`` counts what
    is no line of an answer, ``printed`` is the beginning of it.
    """

    def __init__(self, mark: bytes) -> None:
        self._mark = mark + b" "
        self._unread = b""
        self._skipped = 0
        self.has_begun = False
        self._first = b""

    @property
    def printed(self) -> bytes:
        """The start of output that is not, or not yet, an answer."""
        return (self._first + self._unread)[:_QUOTED]

    @property
    def noise(self) -> int:
        """The number of bytes that are not, or not yet, an answer."""
        return self._skipped + len(self._unread)

    def feed(self, more: bytes) -> None:
        """Take more of the output."""
        self._unread += more
        self._skip()

    def _skip(self) -> None:
        """Forget what is before the next mark."""
        if (skipped := self._unread.find(self._mark)) < 0:
            skipped = max(0, len(self._unread) - len(self._mark) + 1)  # the rest may be the start of a mark
        self._first = (self._first + self._unread[:skipped])[:_QUOTED]
        self._skipped += skipped
        self._unread = self._unread[skipped:]

    def pop(self) -> str | None:
        """Return the next line without its mark; None if it is not there yet."""
        if b"\n" not in self._unread or not self._unread.startswith(self._mark):
            return None
        line, _, self._unread = self._unread.partition(b"\n")
        self._skip()
        self.has_begun = True
        return line.removeprefix(self._mark).decode(errors="replace")


def _since_boot() -> float:
    """Return seconds by a clock that goes on while a process is stopped, and while the machine is suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))  # macOS has one for both


def _new_mark() -> bytes:
    return secrets.token_hex(16).encode()


def _quoted(printed: bytes) -> str:
    return repr(printed.decode(errors="replace"))


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text)
