"""Making a sandbox: its folders, its files in ``/etc``, and the call of bubblewrap."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from interlock.domain.errors import AssetMissing
from interlock.domain.records import BuildEnvironment

from ._network_access import Gateway
from .registries import write_settings
from .sandbox_view import TOOLS, machine_shown, passable, path_of, tools_of, tools_shown
from .sandboxes import CHECKOUT, HOME, MARK_VARIABLES, USER, Confines, Maker, Sandbox, find_program

_PASSED_ON = (
    "LANG", "LC_ALL", "TZ",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "PIP_CERT",
    "npm_config_cafile", "NPM_CONFIG_CAFILE",
)  # fmt: skip
_PASSED_ON_BESIDE = (
    "http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
)  # fmt: skip


def make_sandbox(
    checkout: Path,
    own: Path,
    maker: Maker | None,
    environ: Mapping[str, str],
    names: Sequence[str],
    confines: Confines,
    gateways: tuple[Gateway, ...],
) -> Sandbox:
    for name in ("home", "tmp", "shm", "etc"):
        (own / name).mkdir(mode=0o755)
    (own / "shm").chmod(0o1777)
    write_settings(own / "home", confines.registries)
    tools = tools_of(environ)
    if maker and maker.own_user:
        _refuse_unreadable(tools)
    passed_on = _PASSED_ON if maker else (*_PASSED_ON, *_PASSED_ON_BESIDE)
    seen = {name: value for name, value in environ.items() if name in passed_on or name in names}
    home, temporary = (HOME, Path("/tmp")) if maker else (own / "home", own / "tmp")
    path = path_of(environ, tools, only_shown=maker is not None)
    variables_of_all = {"LANG": "C.UTF-8", "TZ": "UTC", **seen, "PATH": path, "HOME": str(home)}
    box = Sandbox(
        folder=checkout,
        inside=CHECKOUT if maker else checkout,
        path=path,
        environ={**variables_of_all, "TMPDIR": str(temporary)},
        surroundings=BuildEnvironment(isolated=False, how="", reaches=()),
        confines=confines,
        _own=own,
        _maker=maker,
        _worker=environ,
    )
    if maker is None:
        return box
    _write_etc(own / "etc", gateways)
    if maker.own_user:
        for folder in (checkout, own / "home", own / "tmp"):
            _change_owner(folder, USER)
    return replace(box, _prefix=_prefix(maker, checkout, own, tools, environ), _gateways=gateways)


def _refuse_unreadable(tools: Sequence[Path]) -> None:
    """Refuse tools that a build could not run: they would be missing without a word."""
    if closed := [tool for tool in tools if tool.stat().st_mode & 0o005 != 0o005]:
        raise AssetMissing(
            f"{TOOLS} names {closed[0]}, which builds cannot read.",
            rule=f"builds run as user {USER} if the worker runs as root",
            who="the operators of the worker",
            next_step=f"make it readable for all users: chmod -R a+rX {closed[0]}",
        )


def _write_etc(folder: Path, gateways: Sequence[Gateway]) -> None:
    """Write what a sandbox has in ``/etc`` instead of the machine's: an account, and the names of what it may reach."""
    names = "".join(f"{gateway.inside} {gateway.host}\n" for gateway in gateways if gateway.is_named)
    files = {
        "passwd": f"root:x:0:0::/:/bin/false\nbuild:x:{USER}:{USER}::{HOME}:/bin/sh\n",
        "group": f"root:x:0:\nbuild:x:{USER}:\n",
        "hosts": f"127.0.0.1 localhost\n::1 localhost\n{names}",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
        "resolv.conf": "",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o644)


def _change_owner(folder: Path, user: int) -> None:
    os.chown(folder, user, user)
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(os.path.join(where, name), user, user, follow_symlinks=False)


def _prefix(
    maker: Maker, checkout: Path, own: Path, tools: Sequence[Path], environ: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the call of bubblewrap that a command is put behind."""
    apart = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if maker.own_user:
        # To become another user, in a folder of that user's; nothing of it is left when the command starts.
        needed = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_DAC_READ_SEARCH")
        capabilities = [part for name in needed for part in ("--cap-add", name)]
        behind = [
            find_program("setpriv") or "setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups",
            "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--",
        ]  # fmt: skip
    else:
        apart += ["--unshare-user", "--uid", str(USER), "--gid", str(USER)]
        capabilities, behind = [], []
    folders = [
        ("--bind", own / "tmp", "/tmp"),
        ("--bind", own / "shm", "/dev/shm"),
        ("--bind", own / "home", HOME),
        ("--bind", checkout, CHECKOUT),
    ]
    return (
        maker.program,
        *apart,
        *("--die-with-parent", "--new-session", "--cap-drop", "ALL", *capabilities, "--hostname", "build"),
        *machine_shown(environ),
        *("--proc", "/proc", *_kernel_out_of_reach()),
        *("--dev", "/dev"),
        *passable(HOME),
        *(str(part) for one in folders for part in one),
        *tools_shown(tools),
        *(part for path in sorted((own / "etc").iterdir()) for part in ("--ro-bind", str(path), f"/etc/{path.name}")),
        *(part for name in MARK_VARIABLES for part in ("--unsetenv", name)),
        *("--remount-ro", "/", "--chdir", str(CHECKOUT), "--"),
        *behind,
    )


def _kernel_out_of_reach() -> Iterator[str]:
    """Give the options that keep a sandbox from the kernel's parameters: as root, no right is needed to set them."""
    yield from ("--ro-bind", "/proc/sys", "/proc/sys")
    if Path("/proc/sysrq-trigger").exists():
        yield from ("--ro-bind", "/dev/null", "/proc/sysrq-trigger")
