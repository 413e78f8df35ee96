"""A file system root of its own for each host: what a release writes to /var/www is on that host and nowhere else.

A root is a folder of the state. Bubblewrap mounts it at / in a mount namespace of the host's, with this machine's
programs in it, read only; where the kernel gives namespaces to users, this needs no root. The login's home has the same
path inside and outside. What runs on the host enters the namespace (``nsenter``); processes, network and accounts are
the machine's.

Where a machine has no bubblewrap, or its kernel gives no namespaces, hosts share this machine's root, with a warning.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from interlock.domain.errors import ReleaseError, TransientError

COMMAND_TIMEOUT_SECONDS = 30
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""The folders of this machine's programs, which a host has, too; a link is the same link there."""
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}
FOLDERS = ("dev", "home", "media", "mnt", "opt", "proc", "root", "run", "srv", "sys", "var/log", "var/www", "usr")
FOR_ALL = ("tmp", "var/tmp", "dev/shm")
ETC = (
    *("alternatives", "ca-certificates", "ca-certificates.conf", "crypto-policies", "group", "host.conf", "hostname"),
    *("hosts", "java*", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "mime.types", "networks", "npmrc"),
    *("nsswitch.conf", "os-release", "passwd", "pki", "profile", "protocols", "resolv.conf", "services", "shells"),
    *("ssl", "terminfo", "timezone"),
)
"""What a new host has in /etc: copies of what programs need, without secrets."""
SECRET = ("private",)


class NoNamespaces(Exception):
    """Bubblewrap does not work here, and why."""


class Root:
    """The namespaces of one host, kept by open files; what runs in them keeps them, too."""

    def __init__(self, files: Mapping[str, int]) -> None:
        """Take over the open files of the namespaces, by the option of nsenter that enters each."""
        self._files = dict(files)

    @property
    def enter(self) -> tuple[str, ...]:
        """Return what a command on the host begins with: it then runs in HOME, with the host's root."""
        spaces = [f"--{name}=/proc/{os.getpid()}/fd/{file}" for name, file in self._files.items()]
        kept = ["--preserve-credentials"] if "user" in self._files else []
        return (_tool("nsenter"), *spaces, *kept, "--", "/bin/sh", "-c", 'cd -- "$HOME" || exit 255; exec "$@"', "sh")

    def close(self) -> None:
        """Close the namespaces."""
        while self._files:
            os.close(self._files.popitem()[1])


def open_root(folder: Path, home: Path, environ: Mapping[str, str]) -> Root:
    """Make a host's root if it is new, and mount it.

    :param folder: the root's own folder; what is in it stays.
    :param home: the login's home, which is outside of it.
    :raises TransientError: it cannot be mounted.
    """
    if not (folder / "etc").exists():
        _furnish(folder)
    command = mounted(folder, home, ("/bin/sh", "-c", "echo $$; read -r nothing"))
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=dict(environ), stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT) as process:
        # It ends as its input does.
        said = process.stdout.readline().decode(errors="replace").strip() if process.stdout else ""
        if said.isdecimal():
            return Root(_namespaces(int(said)))
    raise TransientError(f"The root of {home.name} cannot be mounted: {said or 'bwrap says nothing'}.")


def mounted(folder: Path, home: Path, command: Sequence[str]) -> list[str]:
    """Return the command that runs another with a folder as its root."""
    system = [(path, path) for path in SYSTEM if Path(path).is_dir() and not Path(path).is_symlink()]
    binds = [word for path, place in system for word in ("--ro-bind", path, place)]
    binds += [word for path in pythons() for word in ("--ro-bind", path, path)]
    binds += [word for name in DEVICES for word in ("--dev-bind-try", f"/dev/{name}", f"/dev/{name}")]
    places = ("--bind", "/proc", "/proc", "--ro-bind-try", "/sys", "/sys", "--bind", str(home), str(home))
    return [*bubblewrap(), "--bind", str(folder), "/", *binds, *places, "--chdir", "/", "--", *command]


def pythons() -> tuple[str, ...]:
    """Return the folders of the Python that hosts have on their PATH, and of those that it is made of."""
    found: dict[str, None] = {}
    program = Path(sys.executable)
    for _ in range(10):
        for prefix in (program.parent.parent, program.parent.parent.resolve()):
            if not any(prefix.is_relative_to(path) for path in SYSTEM) and prefix != Path("/"):
                found[str(prefix)] = None
        if not program.is_symlink():
            break
        program = program.parent / program.readlink()
    return tuple(found)


def why_not() -> str:
    """Return why hosts have no root of their own on this machine; nothing if they have."""
    for name in ("bwrap", "nsenter"):
        if not _has(name):
            package = {"bwrap": "bubblewrap", "nsenter": "util-linux"}[name]
            return f"{name} is not installed (Debian and Ubuntu: apt-get install {package})"
    said = _trial()
    return f"this machine gives {getpass.getuser()} no namespaces: {said}" if said else ""


@cache
def _trial() -> str:
    """Mount a root and enter it, and return what was in the way; nothing if it worked."""
    with tempfile.TemporaryDirectory(prefix="interlock-root-") as folder:
        home = Path(folder, "home")
        home.mkdir()
        environ = {"HOME": str(home), "PATH": os.environ.get("PATH", os.defpath)}
        try:
            root = open_root(Path(folder, "root"), home, environ)
        except (NoNamespaces, ReleaseError, OSError) as error:
            return str(error)
        command = [*root.enter, "/bin/sh", "-c", ":"]
        entered = subprocess.run(
            command, env=environ, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_SECONDS, check=False
        )
        root.close()
    return "" if entered.returncode == 0 else entered.stderr.strip() or f"nsenter ended with {entered.returncode}"


@cache
def bubblewrap() -> tuple[str, ...]:
    """Return bubblewrap with what it needs here: a root that may not mount needs a user namespace, as others do."""
    said = ""
    for options in ((), ("--unshare-user",)):
        command = (_tool("bwrap"), *options)
        with tempfile.TemporaryDirectory() as folder:
            tried = subprocess.run(
                [*command, "--ro-bind", "/", "/", "--bind", folder, folder, "--", "/bin/sh", "-c", ":"],
                capture_output=True,
                text=True,
                timeout=COMMAND_TIMEOUT_SECONDS,
                check=False,
            )
        if tried.returncode == 0:
            return command
        said = tried.stderr.strip() or f"bwrap ended with {tried.returncode}"
    raise NoNamespaces(said)


def _namespaces(pid: int) -> dict[str, int]:
    """Open the namespaces of a process that are not our own."""
    opened = {}
    for name, option in (("user", "user"), ("mnt", "mount")):
        path = f"/proc/{pid}/ns/{name}"
        if os.readlink(path) != os.readlink(f"/proc/self/ns/{name}"):
            opened[option] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return opened


def _furnish(folder: Path) -> None:
    """Make what a new host has beside this machine's programs."""
    for name in (*FOLDERS, *FOR_ALL):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in FOR_ALL:
        (folder / name).chmod(0o1777)
    links = {f"dev/{name}": target for name, target in DEVICE_LINKS.items()} | {"var/run": "../run"}
    links |= {path[1:]: str(Path(path).readlink()) for path in SYSTEM if Path(path).is_symlink()}
    for name, target in links.items():
        with contextlib.suppress(FileExistsError):
            (folder / name).symlink_to(target)
    with tempfile.TemporaryDirectory(prefix=".etc-", dir=folder) as aside:
        made = Path(aside) / "etc"
        made.mkdir()
        for pattern in ETC:
            for source in Path("/etc").glob(pattern):
                _copy(source, made / source.name)
        made.rename(folder / "etc")  # last: it says that all is there


def _copy(source: Path, target: Path) -> None:
    """Copy what this user may read."""
    with contextlib.suppress(OSError):  # shutil.Error is one: what could be copied is there
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns(*SECRET))
        else:
            shutil.copy(source, target)  # where it is a link, such as resolv.conf, what is behind it


def _has(name: str) -> bool:
    return shutil.which(name) is not None


def _tool(name: str) -> str:
    return shutil.which(name) or name
