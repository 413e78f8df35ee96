"""A git repository that a test writes itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

START = 1_767_225_600  # 2026-01-01


@dataclass
class GitProject:
    """A repository with a work tree, whose commits are an hour apart and always the same."""

    folder: Path
    count: int = 0

    def git(self, *arguments: str, given: bytes = b"", **environment: str) -> str:
        at = f"{START + 3600 * self.count} +0000"
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "GIT_CONFIG_NOSYSTEM": "1",
            **{f"GIT_{who}_NAME": "Sam Smith" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_EMAIL": "sam@example.com" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_DATE": at for who in ("AUTHOR", "COMMITTER")},
            **environment,
        }
        command = ["git", "-C", str(self.folder), *arguments]
        done = subprocess.run(command, env=environ, check=True, capture_output=True, input=given)
        return done.stdout.decode().strip()

    def commit(self, files: Mapping[str, str | bytes], subject: str = "Change it") -> str:
        """Write files, commit all of them, and return the commit's id."""
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            if content.startswith("#!" if isinstance(content, str) else b"#!"):
                path.chmod(0o755)
        self.count += 1
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", subject)
        return self.git("rev-parse", "HEAD")


def git_project(folder: Path) -> GitProject:
    """Make an empty repository."""
    folder.mkdir(parents=True)
    project = GitProject(folder)
    project.git("init", "--quiet", "--initial-branch=main")
    return project
