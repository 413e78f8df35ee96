"""A host without a network: the program that Interlock runs on hosts, started here by the shell that is asked for.

What happens on a host does not depend on the way to it. Where many cases are tried, this one costs no SSH server.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from interlock.adapters.artifacts.bundle import pack
from interlock.adapters.hosts._parcel import Parcel
from interlock.adapters.hosts._session import close_off_host
from interlock.adapters.hosts._visit import Delivery, StopFailure, Visit, VisitContext
from interlock.domain.hosts.appspec import parse_appspec
from interlock.domain.hosts.commands import Contents, Site
from interlock.domain.permits.on_hosts import ShownPermit
from interlock.domain.records import Host, HostResult, release_name

from .deployments import Balance

ADDRESS = "localhost"


class LocalProgram:
    """A program that runs here."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._process, self._input, self._output = process, process.stdin, process.stdout
        self._said = asyncio.ensure_future(process.stderr.read())

    async def write(self, data: memoryview) -> None:
        self._input.write(bytes(data))
        await self._input.drain()

    async def read(self) -> bytes:
        return await self._output.read(65536)

    async def said(self, limit: int) -> bytes:
        return (await self._said)[-limit:]

    async def close(self) -> None:
        self._input.close()
        await self._process.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await self._output.read()  # to its end: otherwise the pipe stays open


@dataclass
class LocalHost:
    """A folder that is a host, with a load balancer, and small releases for it.

    ``path`` is where its tools are found, ``shell`` what it runs commands with.
    """

    folder: Path
    path: str = field(default_factory=lambda: os.environ["PATH"])
    shell: str = "sh"
    service: str = "shop"
    deploy_root: str = "root"
    balance: Balance = field(default_factory=Balance)
    permit: ShownPermit | None = None
    has_token: int = 1

    @property
    def root(self) -> Path:
        return self.folder / self.deploy_root

    @property
    def enrolment(self) -> Path:
        """What makes it a host of production, if it is there."""
        return self.folder / "enrolment"

    @property
    def www(self) -> Path:
        return self.folder / "www"

    @property
    def current(self) -> str | None:
        link = self.root / "current"
        return os.readlink(link).removeprefix("releases/") if link.is_symlink() else None

    @property
    def events(self) -> list[str]:
        """The hooks that ran: event and version."""
        noted = self.root / "shared/events"
        return noted.read_text().splitlines() if noted.exists() else []

    # --- a way to hosts, as transport.py wants it ---------------------------------------------------------------------

    @property
    def token(self) -> int:
        """That of each deployment here."""
        return self.has_token

    async def hold(self, what: str) -> None:
        """Let everything go on."""

    async def admit(self, address: str) -> None:
        """Let everybody in."""

    @asynccontextmanager
    async def opened(self, address: str) -> AsyncIterator[LocalHost]:
        yield self

    async def start(self, command: str) -> LocalProgram:
        pipe = asyncio.subprocess.PIPE
        # The command names its shell: sh.
        environment = {"PATH": self.path, "HOME": str(self.folder), "INTERLOCK_ENROLMENT": str(self.enrolment)}
        return LocalProgram(
            await asyncio.create_subprocess_exec(
                self.shell, "-c", command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=self.folder, env=environment
            )
        )

    # --- releases -----------------------------------------------------------------------------------------------------

    def deploy(self, release: LocalRelease, on_stop_failure: StopFailure = "go_on") -> HostResult:
        async def visit() -> HostResult:
            bundle = release.bundle.read_bytes()
            parcel = Parcel(release.contents, bundle)
            delivery = Delivery(parcel, parse_appspec(release.appspec), 3, on_stop_failure)
            return await self._visit().deploy(delivery)

        return asyncio.run(visit())

    def back_out(self, release: LocalRelease) -> HostResult:
        async def visit() -> HostResult:
            return await self._visit().back_out(release.contents.release, release.contents.version)

        return asyncio.run(visit())

    def close_off(self, token: int, closing: ShownPermit) -> None:
        """Tell it that the permits with lower tokens are void."""
        asyncio.run(close_off_host(self, ADDRESS, self._site(), token=token, closing=closing))

    def _visit(self) -> Visit:
        host = Host(instance_id="i-00000000000000001", name="shop-1", address=ADDRESS, zone="eu-central-1a")
        return Visit(host, VisitContext(self._site(), self, self.balance, None))

    def _site(self) -> Site:
        return Site(
            service=self.service,
            environment="production",
            deployment_id="release_shop/manual__1",
            deploy_root=str(self.root),
            health=None,
            drain_timeout=timedelta(seconds=1),
        )


EVENTS = ("ApplicationStop", "BeforeInstall", "AfterInstall", "ApplicationStart", "ValidateService")


@dataclass(frozen=True)
class LocalRelease:
    """A release that notes which of its hooks run, and fails in one of them if it is to."""

    contents: Contents
    bundle: Path
    appspec: str


def make_local_release(
    folder: Path, version: str, files: Mapping[str, str | None], spec: str, *, fails: str = "", script: str = ""
) -> LocalRelease:
    """Build a release.

    :param files: path below its folder: text; ``-> target`` makes a link; none: an empty folder.
    :param fails: the hook that fails.
    :param script: what each hook does besides.
    """
    tree = folder / f"tree-{version}"
    tree.mkdir(parents=True)
    for name, text in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path, text)
    note = f'#!/bin/sh\necho "$LIFECYCLE_EVENT {version}" >>"$INTERLOCK_SHARED/events"\n'
    (tree / "hook").write_text(f'{note}{script}[ "$LIFECYCLE_EVENT" != "{fails}" ]\n')
    appspec = f"version: 0.0\nos: linux\n{spec}hooks:\n" + "".join(f"  {one}: [{{location: hook}}]\n" for one in EVENTS)
    (tree / "appspec.yml").write_text(appspec)
    bundle = folder / f"{version}.tar.gz"
    pack(tree, bundle)
    content = bundle.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return LocalRelease(
        Contents(release_name(version, digest), version, "c" * 40, digest, len(content)), bundle, appspec
    )


def make(path: Path, text: str | None) -> None:
    """Make a file, a link (``-> target``) or a folder (none)."""
    if text is None:
        path.mkdir()
    elif text.startswith("-> "):
        path.symlink_to(text.removeprefix("-> "))
    else:
        path.write_text(text)


def tree_of(folder: Path) -> dict[str, str]:
    """Return what is in a folder, but for empty folders: path: text or ``-> target``."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = f"-> {os.readlink(path)}"
        elif path.is_file():
            found[str(path.relative_to(folder))] = path.read_text()
    return found
