"""A sandbox: what a build may use, and how its commands are run."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from interlock.adapters import processes
from interlock.domain.catalogue import BuildRules
from interlock.domain.records import BuildEnvironment

from ._first_process import FirstProcess
from ._network_access import Gateway
from ._usage import Watch
from .registries import Registry
from .sandbox_view import DEFAULT_PATH

CHECKOUT, HOME = Path("/build"), Path("/home/build")
"""Where a sandbox has its checkout and its home."""

USER = 60900
"""The user id of sandboxes that root creates: outside of the ranges that systemd assigns, so unused on any system."""

_MIB = 1024 * 1024
_OPEN_FILES = 65536
MARK_VARIABLES = ("INTERLOCK_STATE", processes.MARK)
"""Variables by which the embedded estate and a run find their processes; a sandbox does not get them."""


@dataclass(frozen=True)
class Confines:
    """What a build or a suite is held to, and what it may use.

    :param registries: what it may reach and log in to.
    """

    rules: BuildRules = field(default_factory=BuildRules)
    registries: tuple[Registry, ...] = ()


DEFAULT = Confines()
"""The default: isolated, without a network."""


@dataclass(frozen=True)
class Maker:
    """The program that creates sandboxes on this machine.

    :param own_user: the commands run as :data:`USER`; else in a user namespace of the worker's own account.
    """

    program: str
    version: str
    own_user: bool

    def __str__(self) -> str:
        account = f"as user {USER}" if self.own_user else "in a user namespace"
        return f"{self.version}, {account}"


@dataclass(frozen=True)
class Sandbox:
    """Where commands of a build run; :func:`sandbox` gives one.

    :param folder: the checkout, as the platform sees it.
    :param inside: the same, as the commands see it.
    :param path: the PATH of the commands.
    :param environ: all their variables.
    """

    folder: Path
    inside: Path
    path: str
    environ: Mapping[str, str]
    surroundings: BuildEnvironment
    confines: Confines
    _own: Path
    _maker: Maker | None
    _prefix: tuple[str, ...] = ()
    _gateways: tuple[Gateway, ...] = ()
    _worker: Mapping[str, str] = field(default_factory=dict)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values that must not be logged."""
        return tuple(secret for one in self.confines.registries for secret in one.secrets)

    def run(self, command: Sequence[str], *, seconds: float, cap: int) -> processes.Finished:
        """Run a command to its end, its errors with its output; OSError if there is no such command.

        When this returns, nothing that the command started runs any more.
        """
        self._find(command[0])
        if self._maker is None:
            return processes.run(
                command,
                folder=self.folder,
                environ={**self.environ, **_marks(self._worker)},
                seconds=seconds,
                cap=cap,
                merged=True,
                sweep=True,
            )
        told, telling = os.pipe()
        waiting, going = os.pipe()
        held = FirstProcess(told, telling, going, self._gateways, self._worker)
        watch = Watch(self.confines.rules, (self.folder, self._own))
        try:
            return processes.run(
                [*self._limits(), *_told(self._prefix, telling, waiting), *command],
                folder=self.folder,
                environ={**self.environ, **_marks(self._worker)},
                seconds=seconds,
                cap=cap,
                merged=True,
                pass_fds=(telling, waiting),
                around=held.around,
                watch=watch.reason,
            )
        finally:
            held.close()
            os.close(told)
            os.close(waiting)
            os.close(going)

    def _find(self, program: str) -> None:
        """Raise the OSError that starting a program would end in."""
        if "/" not in program:
            if shutil.which(program, path=self.path) is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)
            return
        place = self.folder / program  # an absolute path stays unchanged
        if Path(program).is_relative_to(self.inside):
            place = self.folder / Path(program).relative_to(self.inside)
        if not place.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)
        if not place.is_file() or not os.stat(place).st_mode & 0o111:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), program)

    def _limits(self) -> list[str]:
        """Return what limits each process; all of them together are watched."""
        prlimit = find_program("prlimit")
        if prlimit is None:
            return []
        of_others = 0 if self._maker and self._maker.own_user else _count_threads(os.getuid())
        return [
            prlimit,
            f"--nproc={self.confines.rules.processes + of_others}",
            f"--fsize={self.confines.rules.disk_mib * _MIB}",
            f"--nofile={min(_OPEN_FILES, _hard_limit_of_files())}",
            "--core=0",
            "--",
        ]


def _told(prefix: Sequence[str], telling: int, waiting: int) -> list[str]:
    """Return the call with the two pipes: by one bubblewrap tells of its process, at the other it waits to go on."""
    program, *options = prefix
    return [program, "--info-fd", str(telling), "--block-fd", str(waiting), *options]


def _marks(worker: Mapping[str, str]) -> dict[str, str]:
    return {name: worker[name] for name in MARK_VARIABLES if name in worker}


def find_program(name: str, path: str = DEFAULT_PATH) -> str | None:
    """Return where a program of the machine is, whatever this process's own PATH says."""
    return shutil.which(name, path=path) or shutil.which(name, path=DEFAULT_PATH)


def _count_threads(user: int) -> int:
    """Return how many threads an account has: the limit counts them all."""
    import psutil

    found = psutil.process_iter(["uids", "num_threads"])
    return sum(one.info["num_threads"] or 0 for one in found if one.info["uids"] and one.info["uids"].real == user)


def _hard_limit_of_files() -> int:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return _OPEN_FILES if hard == resource.RLIM_INFINITY else hard
