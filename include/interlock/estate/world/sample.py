"""The sample service's git repository, made from ``include/samples/bike_shop`` with the same commit ids every time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, TypeAdapter

from interlock.domain.canonical import Model
from interlock.domain.errors import AssetMissing, SourceError
from interlock.locations import PROJECT

SAMPLE = PROJECT / "include" / "samples" / "bike_shop"
BRANCH = "refs/heads/main"


class Change(Model):
    """A commit of the sample: author, date, message, and the folder with the files that it adds or changes."""

    folder: str = Field(pattern=r"^[0-9]{2}-[a-z0-9.-]+$")
    author: str = Field(pattern=r"^[^<>]+ <[^<>@ ]+@[^<> ]+>$")
    date: datetime
    message: str
    remove: tuple[str, ...] = ()
    tag: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")] | None = None


def make_repository(repository: Path, sample: Path = SAMPLE) -> dict[str, str]:
    """Make the bare repository, or correct its tags, and return the commit of each tag; other refs are kept."""
    repository.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".sample-", dir=repository.parent) as folder:
        fresh = Path(folder) / "fresh.git"
        _git("init", "--quiet", "--bare", "--initial-branch=main", "--template=", str(fresh))
        _git("-C", str(fresh), "fast-import", "--quiet", stdin=b"".join(_stream(read_history(sample), sample)))
        tags = tagged_commits(fresh)
        if not (repository / "HEAD").exists():
            shutil.rmtree(repository, ignore_errors=True)
            fresh.rename(repository)
        elif not tags.items() <= tagged_commits(repository).items():
            refs = (f"{BRANCH}:{BRANCH}", "refs/tags/*:refs/tags/*")
            _git("-C", str(repository), "fetch", "--quiet", "--force", str(fresh), *refs)
    return tags


def read_history(sample: Path = SAMPLE) -> tuple[Change, ...]:
    """Read ``history.yaml``."""
    return TypeAdapter(tuple[Change, ...]).validate_python(yaml.safe_load((sample / "history.yaml").read_text("utf-8")))


def tagged_commits(repository: Path) -> dict[str, str]:
    """Return the commit that each tag of a repository names."""
    listed = _git("-C", str(repository), "for-each-ref", "--format=%(refname:strip=2) %(*objectname)", "refs/tags")
    return dict(line.split(" ", 1) for line in listed.decode().splitlines() if not line.endswith(" "))


def _stream(history: tuple[Change, ...], sample: Path) -> Iterator[bytes]:
    """Yield the history in the language of ``git fast-import``."""
    for change in history:
        when = f"{int(change.date.timestamp())} {change.date:%z}"
        yield f"commit {BRANCH}\nauthor {change.author} {when}\ncommitter {change.author} {when}\n".encode()
        yield _data(change.message.strip().encode() + b"\n")
        for path in change.remove:
            yield f"D {path}\n".encode()
        yield from _files(sample / "commits" / change.folder)
        yield b"\n"
        if change.tag:
            yield f"tag {change.tag}\nfrom {BRANCH}\ntagger {change.author} {when}\n".encode()
            yield _data(f"The bike shop {change.tag}\n".encode())


def _files(folder: Path) -> Iterator[bytes]:
    """Yield a commit's files; whether one is executable is decided by its path, as copies of the project lose modes."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    if not files:
        raise SourceError(f"The sample's folder {folder} has no files.", next_step="restore it from the project")
    for file in files:
        path = file.relative_to(folder).as_posix()
        yield f"M {'100755' if path.startswith('bin/') else '100644'} inline {path}\n".encode()
        yield _data(file.read_bytes())


def _data(content: bytes) -> bytes:
    return b"data %d\n%b\n" % (len(content), content)


def _git(*arguments: str, stdin: bytes = b"") -> bytes:
    """Run git with nothing of this machine's or person's configuration."""
    if not shutil.which("git"):
        raise AssetMissing("git is not installed.", next_step="install it, for instance with apt-get install git")
    environ = _environment(os.environ)
    ran = subprocess.run(["git", *arguments], input=stdin, capture_output=True, env=environ, check=False)
    if ran.returncode:
        raise SourceError(f"git {arguments[0]} failed: {ran.stderr.decode(errors='replace').strip()}")
    return ran.stdout


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in environ.items() if not re.match("GIT_|HOME$|XDG_", name)}
    return {**kept, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
