"""The witness of the embedded stack: the key and the ledger role of the API server, hidden from tasks.

The components that run tasks start in a user and mount namespace of their own, in which the folder with the key is
empty. So a task and its children can read neither the key nor the memory of the API server, although all processes
belong to one user.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from interlock.adapters.ledger.ledger import WITNESS_URL_FILE
from interlock.adapters.private_files import write_private, write_whole
from interlock.adapters.signing.signing import generate_key
from interlock.adapters.signing.witness import KEY, PUBLIC_KEY
from interlock.estate.settings import Settings
from interlock.estate.stack.postgres import LEDGER_OWNER, LEDGER_WITNESS, ledger_url, secrets_folder

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_REC, MS_PRIVATE, MS_BIND = 0x4000, 0x40000, 0x1000
PR_CAPBSET_DROP = 24
TOGETHER = (
    "This machine allows no user namespaces: tasks here can read the key with which answers are signed. "
    "docs/platform-engineer.md says what to do about it."
)
MAX_CAPABILITIES, CAP_SETFCAP = 64, 31


def folder(settings: Settings) -> Path:
    """Return the folder that only the API server may look into."""
    return settings.state / "witness"


def public_key(settings: Settings) -> Path:
    """Return the file with the public key by which answers count."""
    return settings.state / "keys" / "witness.pem.pub"


def prepare(settings: Settings) -> None:
    """Make the key and the file with the role's login, if they are not there."""
    key = folder(settings) / "witness.pem"
    folder(settings).mkdir(mode=0o700, exist_ok=True)
    generate_key(key)
    write_whole(public_key(settings), key.with_name(f"{key.name}.pub").read_text())
    write_private(folder(settings) / "ledger_url", ledger_url(settings, LEDGER_WITNESS))


def of_the_api_server(settings: Settings) -> dict[str, str]:
    """Return the variables that only the API server has."""
    own = folder(settings)
    return {KEY: (own / "witness.pem").as_uri(), WITNESS_URL_FILE: str(own / "ledger_url")}


def of_all(settings: Settings) -> dict[str, str]:
    """Return the variables that every component has."""
    return {PUBLIC_KEY: str(public_key(settings))}


def hidden(settings: Settings) -> list[Path]:
    """Return the files and folders of the stack that are hidden from tasks."""
    secrets = secrets_folder(settings)
    return [
        folder(settings),
        settings.state / "postgres",
        secrets / "postgres_owner",
        secrets / f"postgres_{LEDGER_OWNER.removeprefix('interlock_')}",
        secrets / f"postgres_{LEDGER_WITNESS.removeprefix('interlock_')}",
    ]


def apart(settings: Settings, command: Sequence[str], *, also: Sequence[Path] = ()) -> tuple[str, ...]:
    """Return a command line that runs a command without access to hidden files; the same if the kernel forbids it.

    :param also: files and folders that are hidden beside those of the witness.
    """
    if not can_be_apart():
        return tuple(command)
    return (sys.executable, "-m", __name__, *map(str, (*hidden(settings), *also)), "--", *command)


@cache
def can_be_apart() -> bool:
    """Tell whether this machine lets a process into a user and mount namespace of its own."""
    tried = subprocess.run([sys.executable, "-m", __name__, "--", sys.executable, "-c", ""], capture_output=True)
    return tried.returncode == 0


def enter(paths: Sequence[Path]) -> None:
    """Enter namespaces in which these folders and files are empty, and keep no capability but CAP_SETFCAP.

    Linux requires CAP_SETFCAP of a root that maps its own number into a further namespace, as isolated builds do.

    :raises OSError: the kernel does not allow it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()

    def call(name: str, *arguments: object) -> None:
        if getattr(libc, name)(*arguments):
            number = ctypes.get_errno()
            raise OSError(number, f"{name}: {os.strerror(number)}")

    call("unshare", CLONE_NEWUSER | CLONE_NEWNS)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    for path in paths:
        name = os.fsencode(path)
        if path.is_dir():
            call("mount", b"tmpfs", name, b"tmpfs", 0, b"size=4k,mode=700")
        elif path.exists():
            call("mount", b"/dev/null", name, None, MS_BIND, None)
    for capability in set(range(MAX_CAPABILITIES)) - {CAP_SETFCAP}:
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails for capabilities that this kernel does not have


def main(arguments: Sequence[str]) -> None:
    """Hide the paths before ``--``, and execute the command after it."""
    end = arguments.index("--")
    enter([Path(one) for one in arguments[:end]])
    os.execvp(arguments[end + 1], [*arguments[end + 1 :]])


if __name__ == "__main__":
    main(sys.argv[1:])
