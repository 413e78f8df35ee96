"""Run a module that survives errors while it writes its output: a full disk must not end the supervisor.

``python -m interlock.estate.stack.patient supervisor.supervisord …``
"""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import sys


class Patient(io.TextIOBase):
    """A stream that ignores errors while writing."""

    def __init__(self, file: int) -> None:
        """Write to an open file."""
        self._file = file

    def fileno(self) -> int:
        """Return the open file."""
        return self._file

    def write(self, text: str) -> int:
        """Write without a buffer, as far as possible."""
        with contextlib.suppress(OSError):
            os.write(self._file, text.encode(errors="replace"))
        return len(text)


def main() -> None:
    """Run the module that the first argument names, with the others."""
    sys.stdout, sys.stderr = Patient(1), Patient(2)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
