"""The environment of a worker whose builds find a Python with pytest, coverage and build: that of .venv/builds."""

from __future__ import annotations

import os
import sys

from interlock.adapters.build.sandbox_view import TOOLS

WORKER = {"PATH": os.environ["PATH"], TOOLS: f"{sys.prefix}/builds"}
