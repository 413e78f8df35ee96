"""The commit that a catalogue was checked out from, if its folder belongs to a git repository."""

from __future__ import annotations

import logging
import os
import subprocess
from pathlib import Path

log = logging.getLogger(__name__)

SECONDS = 20
EDITED = "-edited"
"""At the end of a commit: files of the catalogue are not those of the commit."""


def commit_of(folder: Path) -> str:
    """Return the commit of a catalogue as 40 hexadecimal digits; with :data:`EDITED`, if files differ from it.

    Empty: the folder belongs to no repository, or git cannot read it.
    """
    try:
        commit = _git(folder, "rev-parse", "--verify", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=all", "--", ".")
    except (OSError, subprocess.SubprocessError) as error:
        log.info("The commit of the catalogue is not known: %s", error)
        return ""
    return f"{commit}{EDITED if changed else ''}"


def _git(folder: Path, *arguments: str) -> str:
    """Run git with no configuration but the repository's, and without its hooks and file system monitors."""
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-C", str(folder), *arguments]
    environ = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        # The catalogue may belong to the account that synchronises it.
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
    }
    done = subprocess.run(command, env=environ, check=True, capture_output=True, timeout=SECONDS)
    return done.stdout.decode(errors="replace").strip()
