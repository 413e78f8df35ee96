"""The files in a build's sandbox: the machine's programs and a few of its settings, and no file of the platform.

All of it is options of bubblewrap, in the order in which it lays one thing over another.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from interlock.domain.errors import AssetMissing
from interlock.locations import PROJECT

TOOLS = "INTERLOCK_BUILD_TOOLS"
"""Variable of the worker: folders of further build tools, ``:`` between them; their ``bin`` come first on the PATH."""

DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"

_SYSTEM = tuple(map(Path, ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")))
_SETTINGS = (
    "alternatives", "ant*", "ca-certificates", "crypto-policies", "debian_version", "dotnet", "fonts", "gradle*",
    "java*", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "magic", "maven*", "mime.types", "mono",
    "os-release", "perl", "pki/ca-trust/extracted", "pki/java", "pki/tls/cert.pem", "pki/tls/certs", "protocols",
    "python3*", "services", "sgml", "ssl/cert.pem", "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone", "xml",
)  # fmt: skip
"""What a sandbox has of ``/etc``, beside what is made for it. Never all of it: machines keep secrets there."""


def machine_shown(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the options that show the machine's programs, without files of the platform among them."""
    for path in _SYSTEM:
        if path.is_symlink():
            yield from ("--symlink", os.readlink(path), str(path))
        elif path.is_dir():
            yield from ("--ro-bind", str(path), str(path))
    for path in sorted({path for pattern in _SETTINGS for path in Path("/etc").glob(pattern) if path.exists()}):
        yield from (*passable(path.parent), "--ro-bind", str(path), str(path))
    for path in _hidden(environ):
        if any(path.is_relative_to(root) for root in _SYSTEM):
            yield from ("--tmpfs", str(path))


def tools_shown(tools: Sequence[Path]) -> Iterator[str]:
    """Give the options that show further tools, and the Python of those that are virtual environments."""
    for tool in tools:
        for path in (tool, *_bases(tool)):
            if not any(path.is_relative_to(root) for root in _SYSTEM if not root.is_symlink()):
                yield from (*passable(path.parent), "--ro-bind", str(path), str(path))


def passable(folder: Path) -> Iterator[str]:
    """Yield the options that create a folder and its parents, readable for all users."""
    for path in reversed([folder, *folder.parents][:-1]):
        yield from ("--perms", "0755", "--dir", str(path))


def _platform(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the folders of the platform: its code, its state, its Python."""
    named = [environ[name] for name in ("INTERLOCK_STATE", "AIRFLOW_HOME", "INTERLOCK_CATALOGUE") if environ.get(name)]
    python = [sys.prefix] if sys.prefix != sys.base_prefix else []
    return tuple(Path(path).resolve() for path in [*named, *python, str(PROJECT)])


def _hidden(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return what a sandbox does not have although it may lie below what it has: the platform, and its packages."""
    spec = find_spec("airflow")
    found = spec.submodule_search_locations if spec else None
    packages = [Path(place).resolve().parent for place in found or []]
    return tuple(path for path in dict.fromkeys((*_platform(environ), *packages)) if path.is_dir())


def tools_of(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the folders of further tools that the worker names; AssetMissing if one would show the platform."""
    tools = tuple(Path(name).resolve() for name in environ.get(TOOLS, "").split(os.pathsep) if name)
    for tool in tools:
        if holds := [path for path in _platform(environ) if path.is_relative_to(tool)]:
            raise AssetMissing(
                f"{TOOLS} names {tool}, which contains {holds[0]}.",
                rule="a build has no access to files of the platform",
                who="the operators of the worker",
                next_step="name a folder that contains only the tools",
            )
    return tuple(tool for tool in tools if tool.is_dir())


def _bases(tool: Path) -> Iterator[Path]:
    """Yield the files that a virtual environment uses from its base Python."""
    with suppress(OSError):
        for line in (tool / "pyvenv.cfg").read_text().splitlines():
            name, _, value = line.partition("=")
            if name.strip() == "home":
                base = Path(value.strip())
                real = (base / "python3").resolve().parent
                found = dict.fromkeys(
                    place for at in (base, real) for place in (at, at.parent / "lib", at.parent / "include")
                )
                yield from (place for place in found if place.is_dir())


def path_of(environ: Mapping[str, str], tools: Sequence[Path], *, only_shown: bool) -> str:
    """Return the PATH of a build: its tools first, then the worker's without what is the platform's."""
    first = [str(tool / "bin" if (tool / "bin").is_dir() else tool) for tool in tools]
    hidden = _hidden(environ)
    others = [
        entry
        for entry in environ.get("PATH", DEFAULT_PATH).split(os.pathsep)
        if entry.startswith("/")
        and not any(Path(entry).resolve().is_relative_to(path) for path in hidden)
        and (not only_shown or any(Path(entry).is_relative_to(root) for root in _SYSTEM))
    ]
    return os.pathsep.join(dict.fromkeys((*first, *(others or [DEFAULT_PATH]))))
