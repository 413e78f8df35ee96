"""The total usage of all processes of a build, measured while it runs: system limits apply to single processes."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from interlock.domain.catalogue import BuildRules

_MIB = 1024 * 1024
_POLL_INTERVAL_SECONDS = 1.0


class Watch:
    """Looks at what all processes of a build use together."""

    def __init__(self, rules: BuildRules, folders: Sequence[Path]) -> None:
        self._rules, self._folders = rules, folders
        self._next = time.monotonic() + _POLL_INTERVAL_SECONDS

    def reason(self, process: subprocess.Popen[bytes]) -> str:
        """Return why the build has to be stopped; looks not more often than a tenth of the time can pay for."""
        begun = time.monotonic()
        if begun < self._next:
            return ""
        reason = self._memory(process) or self._disk()
        self._next = time.monotonic() + max(_POLL_INTERVAL_SECONDS, 10 * (time.monotonic() - begun))
        return reason

    def _memory(self, process: subprocess.Popen[bytes]) -> str:
        import psutil

        used = 0
        with suppress(psutil.NoSuchProcess):
            for one in psutil.Process(process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    used += one.memory_info().rss
        limit = self._rules.memory_mib
        return f"it used more than {limit} MiB of memory (builds.memory_mib)" if used > limit * _MIB else ""

    def _disk(self) -> str:
        limit = self._rules.disk_mib
        used = sum(_used(folder) for folder in self._folders)
        return f"it had more than {limit} MiB on disk (builds.disk_mib)" if used > limit * _MIB else ""


def _used(folder: Path) -> int:
    """Return the bytes that a folder has on disk; it changes meanwhile, and links in it lead nowhere."""
    total = 0
    with suppress(OSError):
        for _, _, files, descriptor in os.fwalk(folder, follow_symlinks=False, onerror=None):
            for name in files:
                with suppress(OSError):
                    total += os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_blocks * 512
    return total
