"""``python -m interlock``: the same as the command ``interlock``."""

from __future__ import annotations

import sys

from interlock.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
