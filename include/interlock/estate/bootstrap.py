"""Make the environment ``.venv`` with the packages of ``requirements.lock``.

With the argument ``test``, and in later runs, it has the packages of ``requirements-test.lock``, which adds those of
the tests. ``.venv/builds`` has the packages of ``requirements-build.lock``: it is the Python of services' builds, which
do not see the first environment.

The Makefile runs this with the machine's Python before anything is installed. So it uses only the standard library, and
only syntax that an old Python parses, so that it can report that it is too old.
"""

import fcntl
import hashlib
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
TEST_LOCK = ROOT / "requirements-test.lock"
BUILDS = VENV / "builds"
BUILDS_LOCK = ROOT / "requirements-build.lock"
STAMP = VENV / ".installed"  # holds the digest of the lock that was installed; written last
FOR_TESTS = VENV / ".installed-test"  # there if it is the tests' lock
UNFINISHED = VENV / ".installing"  # there while an installation is under way: what it left cannot be trusted
OLDEST, NEWEST = (3, 11), (3, 13)


class CannotInstall(Exception):
    """The machine lacks something that the environment needs."""


def main() -> int:
    """Make the environment, or update it if it does not match the lock."""
    use_a_suitable_python()
    try:
        check_machine()
        with LOCK.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)  # a second make waits here and then finds the work done
            tested = "test" in sys.argv[1:] or FOR_TESTS.exists()
            lock = TEST_LOCK if tested else LOCK
            digest = hashlib.sha256(lock.read_bytes() + BUILDS_LOCK.read_bytes()).hexdigest()
            if installed() != digest:
                install(lock, digest)
            for stamp in [STAMP, FOR_TESTS] if tested else [STAMP]:
                stamp.touch()  # newer than the lock again, so that make asks no more
    except CannotInstall as error:
        print("interlock: {}".format(error), file=sys.stderr)  # noqa: UP032 - may be read by an old Python
        return 1
    except KeyboardInterrupt:
        print("interlock: stopped; the next make goes on from here", file=sys.stderr)
        return 130
    return 0


def use_a_suitable_python() -> None:
    """Continue with another Python of the machine if this version is not supported, or exit with the reason."""
    if suits(sys.executable):
        return
    names = ["python3.{}".format(minor) for minor in range(OLDEST[1], NEWEST[1] + 1)]  # noqa: UP032
    for name in names:
        found = shutil.which(name)
        if found and suits(found):
            os.execv(found, [found, *sys.argv])
    message = (
        "interlock: needs Python 3.11, 3.12 or 3.13; {} is {}.{}, and none of {} is on the PATH. "
        "Install one (Debian and Ubuntu: apt-get install python3.11 python3.11-venv), "
        "or name it: make up PYTHON=/path/to/python3.11"
    )
    sys.exit(message.format(sys.executable, sys.version_info[0], sys.version_info[1], ", ".join(names)))


def suits(python: str) -> bool:
    """Say whether Interlock supports the version of a Python."""
    question = "import sys; sys.exit(not {} <= sys.version_info[:2] <= {})".format(OLDEST, NEWEST)  # noqa: UP032
    try:
        return subprocess.call([python, "-c", question], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False  # there is no such program, or not for this machine


def check_machine() -> None:
    """Raise CannotInstall if the machine lacks something, before anything is downloaded."""
    if not sys.platform.startswith("linux"):
        raise CannotInstall(
            "the embedded estate gives every host a loopback address of its own, which only Linux has ready; "
            f"this is {sys.platform}. Use a Linux machine, a virtual machine or a container."
        )
    if not shutil.which("git"):
        raise CannotInstall(
            "git is missing: releases are built from a git repository. Install it (Debian and Ubuntu: "
            "apt-get install git) and run make again."
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        version = "python{}.{}".format(*sys.version_info[:2])
        raise CannotInstall(
            f"{sys.executable} cannot make virtual environments: its module venv or ensurepip is missing. "
            f"Install it (Debian and Ubuntu: apt-get install {version}-venv) and run make again."
        ) from None


def installed() -> str:
    """Return the digest of the installed lock; empty if the environment is incomplete."""
    python = VENV / "bin/python"
    if UNFINISHED.exists() or not STAMP.exists() or not python.exists() or not suits(str(python)):
        return ""
    return STAMP.read_text().strip()


def install(lock: Path, digest: str) -> None:
    """Install a lock, hashes checked; a half-made environment is made from scratch."""
    fresh = UNFINISHED.exists() or not STAMP.exists() or not suits(str(VENV / "bin/python")) or not has_pip()
    print(f"interlock: {'making' if fresh else 'renewing'} .venv from {lock.name} (once; takes some minutes)")
    if fresh:
        run([sys.executable, "-m", "venv", "--clear", str(VENV)])
    UNFINISHED.touch()
    STAMP.unlink(missing_ok=True)
    python = str(VENV / "bin/python")
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    with tempfile.TemporaryDirectory() as folder:
        pin = Path(folder, "uv.txt")
        pin.write_text(pinned("uv"))
        pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input"]
        run([*pip, "install", "--quiet", "--require-hashes", "--no-deps", "-r", str(pin)], environment)
    environment = {**certificates(), **index_of_pip(python), **environment}
    sync(lock, python, environment)
    run([python, "-m", "venv", "--clear", "--without-pip", str(BUILDS)], environment)
    sync(BUILDS_LOCK, str(BUILDS / "bin/python"), environment)
    open_to_all(BUILDS)
    STAMP.write_text(digest + "\n")
    UNFINISHED.unlink()


def sync(lock: Path, python: str, environment: "dict[str, str]") -> None:
    """Bring an environment to a lock, hashes checked."""
    uv = [str(VENV / "bin/uv"), "pip", "sync", "--require-hashes", "--compile-bytecode", "--python", python, str(lock)]
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    run([*uv, *quiet], environment)


def open_to_all(folder: Path) -> None:
    """Let every account read a folder, regardless of the umask: builds run as an account of their own."""
    for where, _, files in os.walk(folder):
        for path in (where, *(os.path.join(where, name) for name in files)):
            if not os.path.islink(path):
                mode = os.stat(path).st_mode & 0o777
                os.chmod(path, mode | 0o044 | (0o011 if mode & 0o100 else 0))


def has_pip() -> bool:
    """Say whether the environment has pip; an environment that another tool made may lack it."""
    return any(VENV.glob("lib/*/site-packages/pip"))


def pinned(name: str) -> str:
    """Return a package's lines of the lock: its version and its hashes."""
    found = re.search(rf"^{re.escape(name)}==.*?(?=^\S|\Z)", LOCK.read_text(), re.MULTILINE | re.DOTALL)
    if not found:
        raise CannotInstall(f"requirements.lock does not pin {name}: resolve it again with make lock")
    return found.group()


def index_of_pip(python: str) -> "dict[str, str]":
    """Return pip's configured package index for uv, which does not read pip's settings."""
    if any(name in os.environ for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_CONFIG_FILE")):
        return {}
    if "PIP_INDEX_URL" in os.environ:
        return {"UV_DEFAULT_INDEX": os.environ["PIP_INDEX_URL"]}
    asked = subprocess.run([python, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True)
    return {"UV_DEFAULT_INDEX": asked.stdout.strip()} if asked.returncode == 0 and asked.stdout.strip() else {}


def certificates() -> "dict[str, str]":
    """Let uv trust the machine's certificates, such as a company's own authority, if it has any."""
    paths = ssl.get_default_verify_paths()
    known = paths.cafile or (paths.capath and any(Path(paths.capath).iterdir()))
    return {"UV_SYSTEM_CERTS": "1"} if known else {}


def run(command: "list[str]", environment: "dict[str, str] | None" = None) -> None:
    """Run a step of the installation; its output shows what failed."""
    ended = subprocess.call(command, env=environment)
    if ended:
        raise CannotInstall(
            f"`{' '.join(command[:4])} …` ended with {ended} (its messages are above); nothing is lost, "
            "the next make goes on from here."
        )


if __name__ == "__main__":
    sys.exit(main())
