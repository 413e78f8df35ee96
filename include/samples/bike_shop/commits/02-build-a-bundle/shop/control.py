"""Start, stop and validate the shop on a host.

The running shop holds a lock on its pid file, so a stale file, or a pid that something else has by now, is never
taken for the shop.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from . import config

START_TIME, STOP_TIME = 20.0, 10.0


def pid_file() -> Path:
    """Return the pid file of this host's shop."""
    return Path(os.environ["INTERLOCK_SHARED"]) / "shop.pid"


@contextmanager
def claim() -> Iterator[None]:
    """Be the shop of this host; BlockingIOError if another process is."""
    with pid_file().open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(f"{os.getpid()} {config.ROOT}\n")
        file.flush()
        yield


def running() -> tuple[int, Path] | None:
    """Return the pid and the release of the shop that runs on this host, if one does."""
    while _locked():
        pid, _, release = pid_file().read_text("utf-8").strip().partition(" ")
        if pid:
            return int(pid), Path(release)
        time.sleep(0.005)  # locked a moment ago: its line is being written
    return None


def start() -> str:
    """Start this release's shop, unless it runs already; come back when it answers."""
    found = running()
    if found and found[1] == config.ROOT:
        return "runs already"
    stop()
    log = pid_file().with_name("shop.log")
    with log.open("ab") as output:
        shop = subprocess.Popen(
            [sys.executable, "-B", *(["-S"] if sys.flags.no_site else []), "-m", "shop"],
            cwd=config.ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    if not _within(START_TIME, lambda: shop.poll() is not None or _answers(shop.pid)):
        shop.kill()
        sys.exit(f"the shop did not answer within {START_TIME:.0f} s; see {log}")
    if shop.poll() is not None:
        sys.exit(f"the shop ended with exit code {shop.returncode}; the end of {log}:\n{_end_of(log)}")
    return f"runs with pid {shop.pid}"


def stop() -> str:
    """Stop the shop that runs on this host, gently at first."""
    said = "does not run"
    for how in (signal.SIGTERM, signal.SIGKILL):
        found = running()
        if not found:
            return said
        with suppress(ProcessLookupError):
            os.kill(found[0], how)
        if _within(STOP_TIME, lambda: not _locked()):
            return f"stopped after {how.name}"
        said = "stopped late"
    sys.exit(f"the shop of {pid_file()} does not stop")


def validate() -> str:
    """Fail unless it is this release that answers."""
    settings = config.load()
    answer = _health(settings)
    if (answer["status"], answer["version"], answer["commit"]) != ("ok", settings.version, settings.commit):
        sys.exit(f"expected version {settings.version} of commit {settings.commit}, but found {answer}")
    return f"version {settings.version} answers"


def _locked() -> bool:
    """Return whether a shop holds its lock on the pid file."""
    try:
        with pid_file().open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _health(settings: config.Settings) -> dict[str, str]:
    with urllib.request.urlopen(f"http://{settings.address}:{settings.port}/health", timeout=5) as answer:
        return dict(json.load(answer))


def _answers(pid: int) -> bool:
    try:
        return (running() or (0,))[0] == pid and bool(_health(config.load()))
    except OSError:
        return False


def _within(seconds: float, done: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if done():
            return True
        time.sleep(0.02)
    return done()


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-10:])


def main(arguments: list[str]) -> int:
    """Do what the hook asks and say what came of it."""
    actions: dict[str, Callable[[], str]] = {"start": start, "stop": stop, "validate": validate}
    print(f"bike-shop {actions[arguments[0]]()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
