"""Running git: without settings of the user or the machine, with time limits, and with errors that say what to do."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from interlock.adapters import processes
from interlock.domain.errors import AssetMissing, SourceError, TransientError

from .addresses import SCHEMES

_LOCAL_TIMEOUT_SECONDS = 120.0
_OUTPUT_CAP = 64 * 1024 * 1024
_PASSED_ON = ("PATH", "INTERLOCK_STATE", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
_DUBIOUS = re.compile(r"dubious ownership in repository at '([^'\n]*)'")
_NETWORK_TROUBLE = (
    "Could not resolve host",
    "Connection refused",
    "Connection timed out",
    "Connection reset",
    "Operation timed out",
    "Network is unreachable",
    "No route to host",
    "early EOF",
    "The requested URL returned error: 5",
    "unable to connect to",
)
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.autocrlf=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    "i18n.logOutputEncoding=UTF-8",
)


def _environment() -> dict[str, str]:
    """Return the environment of git, without settings of the user or the machine."""
    names = [*_PASSED_ON, *_PROXIES, *(name.upper() for name in _PROXIES)]
    return {name: os.environ[name] for name in names if name in os.environ} | {
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS": "",
        "GIT_ALLOW_PROTOCOL": ":".join(SCHEMES),
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=30",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
    }


def git_output(
    *arguments: str,
    seconds: float = _LOCAL_TIMEOUT_SECONDS,
    environ: Mapping[str, str] | None = None,
    about: str = "the git command failed",
    largest: int | None = None,
) -> bytes:
    """Run git and return what it printed.

    :param about: how a refusal begins.
    :param largest: bytes that a file which it writes may have.
    """
    return run_git(arguments, seconds=seconds, environ=environ, about=about, largest=largest).output


def run_git(
    arguments: Sequence[str],
    *,
    allowed: Sequence[int] = (0,),
    seconds: float = _LOCAL_TIMEOUT_SECONDS,
    environ: Mapping[str, str] | None = None,
    about: str = "the git command failed",
    largest: int | None = None,
    stop: bool = False,
) -> processes.Finished:
    if shutil.which("git") is None:
        raise AssetMissing("git is not on this machine.", next_step="install it (apt-get install git)")
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    done = processes.run(
        ["git", *settings, *arguments],
        folder=Path("/"),
        environ=_environment() | dict(environ or {}),
        seconds=seconds,
        cap=_OUTPUT_CAP,
        largest=largest,
        stop=stop,
    )
    if done.left_out:
        raise SourceError(f"{about}: git printed more than the {_OUTPUT_CAP:,} bytes that are read.")
    if done.code not in allowed and _too_large(done):
        raise SourceError(
            f"{about}: it is more than {largest:,} bytes.",
            rule="the size of a fetch is limited, so that a repository cannot fill the disk",
            who="the owner of the repository",
            next_step="remove the large files from its history (git filter-repo), and store them in a registry",
        )
    if done.timed_out:
        raise TransientError(f"{about}: git took longer than {seconds:.0f} s.", next_step="try again")
    if done.code not in allowed:
        raise _refusal(about, done.errors.decode(errors="replace"))
    return done


def _too_large(done: processes.Finished) -> bool:
    return done.code == -signal.SIGXFSZ or b"File too large" in done.errors or b"signal 25" in done.errors


def _refusal(about: str, said: str) -> SourceError | TransientError:
    """Turn what git complained of into an error: the network's troubles pass, others do not."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    text = f"{about}: {' '.join(lines[-4:]) or 'git gave no reason'}"
    if any(sign in said for sign in _NETWORK_TROUBLE):
        return TransientError(text, next_step="try again when the network is back")
    if found := _DUBIOUS.search(said):
        return _explain_foreign_owner(about, found[1])
    return SourceError(
        text,
        who="the platform engineer, or the owner of the repository",
        next_step="check the address, and that this machine has read access",
    )


def _explain_foreign_owner(about: str, place: str) -> SourceError:
    """Explain why git does not read a repository of this machine; the settings that git names are not read here."""
    path = Path(place)
    try:
        owner = f"account {path.owner()} ({path.stat().st_uid})"
    except (KeyError, OSError):
        owner = f"account {path.stat().st_uid}" if path.exists() else "another account"
    return SourceError(
        f"{about}: {place} belongs to {owner}, but Interlock runs as account {os.geteuid()}.",
        rule="git reads a local repository only if it belongs to the same account, because its settings could run "
        "commands",
        who="the platform engineer",
        next_step=f"change its owner to this account (chown --recursive {os.geteuid()} {place}), or name it in the "
        "connection by ssh or https; git's own settings of safe folders are not read by Interlock",
    )
