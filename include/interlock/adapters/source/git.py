"""Git: what a ref means, what changed between two commits, and a clean checkout of one.

Git runs as a command, with no configuration but what is given here: no system or user settings, no hooks, no prompts,
no helpers, and only the transports https, ssh, file and git. A repository is first fetched whole into a bare folder of
this machine; everything after that asks the folder.

Submodules and files in Git LFS are refused: what they fetch is named by the commit itself, not by the catalogue.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from interlock.adapters import processes
from interlock.domain.errors import AssetMissing, SourceError, TransientError
from interlock.domain.records import Commit

SCHEMES = ("https", "ssh", "file", "git")
"""The transports that a repository may be fetched by."""

_FETCH_SECONDS = 900.0
_LOCAL_SECONDS = 120.0
_OUTPUT_CAP = 64 * 1024 * 1024
_FILE_CAP = 16 * 1024 * 1024
LARGEST_CHECKOUT = 1024**3
"""Bytes that the files of a commit may have together."""
MOST_FILES = 200_000
"""Files that a commit may have: as many as a bundle."""
LARGEST_FETCH = 4 * 1024**3
"""Bytes that one fetch of a repository may bring."""
_LATEST = 4354819198  # 2107-12-31: the latest time that every archive format can write
_PASSED_ON = ("PATH", "INTERLOCK_STATE", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
_SCP_FORM = re.compile(
    r"(?!(?:https?|ssh|file|git|ext|fd|ftps?):)([A-Za-z0-9_][\w.-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*:[^:].*"
)
_HAD_A_HAND = re.compile(
    r"^[ \t>*-]*(?:co-?-?(?:authored|developed|committed|written)|authored|author|committed|signed-off|pair(?:ed)?"
    r"(?:-programmed)?)(?:-(?:by|with))?[ \t]*:(.*)$",
    re.IGNORECASE | re.MULTILINE,
)
"""Trailers of a commit that name people who made it, and not only looked at it; a squash leaves them anywhere."""
_ADDRESS = re.compile(r"[^\s<>,;()\"']+@[^\s<>,;()\"']+")
_DUBIOUS = re.compile(r"dubious ownership in repository at '([^'\n]*)'")
_SHA = re.compile(r"^[0-9a-f]{40}$")
_NETWORK_TROUBLE = (
    "Could not resolve host",
    "Connection refused",
    "Connection timed out",
    "Connection reset",
    "Operation timed out",
    "Network is unreachable",
    "No route to host",
    "early EOF",
    "The requested URL returned error: 5",
    "unable to connect to",
)
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.autocrlf=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    "i18n.logOutputEncoding=UTF-8",
)


@dataclass(frozen=True)
class Repository:
    """A repository, fetched into a bare folder of this machine.

    :param url: where it came from, without any password.
    """

    url: str
    folder: Path

    def resolve(self, ref: str) -> Commit:
        """Return the one commit that a tag, a branch or a full or shortened commit id names."""
        _check_ref(ref)
        found = self._named(ref) | self._abbreviated(ref)
        if not found:
            raise SourceError(
                f"{self.url} has no tag, branch or commit {ref!r}.",
                who="whoever may push to the repository",
                next_step="push it, or correct the spelling",
            )
        if len(set(found.values())) > 1:
            meanings = ", ".join(f"{what} is {sha[:12]}" for what, sha in found.items())
            raise SourceError(
                f"{ref!r} means more than one commit of {self.url}: {meanings}.",
                rule="a release names one commit",
                next_step="write refs/tags/…, refs/heads/… or all 40 digits of the commit",
            )
        return self._commit(next(iter(found.values())))

    def full_name(self, ref: str) -> str:
        """Return ``refs/tags/…`` or ``refs/heads/…`` of a name; of a commit, what was given."""
        _check_ref(ref)
        kinds = {"tag": "refs/tags/", "branch": "refs/heads/"}
        named = (what.split(" ", 1) for what in self._named(ref))
        return next((f"{kinds[kind]}{name}" for kind, name in named), ref)

    def commits(self, since: str | None, until: str, limit: int = 200) -> tuple[tuple[Commit, ...], int]:
        """Return the commits that ``until`` has and ``since`` has not, newest first, and how many there are in all.

        :param since: 40 digits; none: from the beginning.
        """
        span = [self._present(until), *([f"^{self._present(since)}"] if since else [])]
        count = int(self._git("rev-list", "--count", *span))
        listed = self._git("log", "--date-order", f"--max-count={limit}", _LOG_FORMAT, "-z", "--no-mailmap", *span)
        return _commits(listed), count

    def authors(self, since: str | None, until: str) -> tuple[str, ...]:
        """Return the e-mail addresses of everybody who had a hand in one of the commits, however many there are.

        That is who wrote it, who committed it, and whom its trailers name beside them: who wrote with them, or signed
        it off as theirs to give.

        :param since: 40 digits; none: from the beginning.
        """
        span = [self._present(until), *([f"^{self._present(since)}"] if since else [])]
        listed = self._git("log", "-z", "--format=%ae%n%ce%n%B", "--no-mailmap", *span).decode(errors="replace")
        found: set[str] = set()
        for commit in listed.split("\0"):
            author, committer, message = (*commit.split("\n", 2), "", "")[:3]
            trailers = " ".join(_HAD_A_HAND.findall(message))
            found |= {author.strip().casefold(), committer.strip().casefold()}
            found |= {address.casefold() for address in _ADDRESS.findall(trailers)}
        return tuple(sorted(found - {""}))

    def changed_lines(self, since: str | None, until: str) -> dict[str, frozenset[int]]:
        """Return the lines of each file that ``until`` has and ``since`` has not, or has otherwise.

        :param since: 40 digits; none: every line is new.
        """
        before = self._present(since) if since else self._git("hash-object", "-t", "tree", "/dev/null").decode().strip()
        shown = self._git(
            "-c", "core.quotePath=false", "diff", "--unified=0", "--no-color", "--no-ext-diff", "--no-textconv",
            "--no-renames", "--diff-filter=AMT", "--src-prefix=a/", "--dst-prefix=b/", before, self._present(until),
        )  # fmt: skip
        return _changed(shown.decode(errors="replace").split("\n"))

    def tags(self) -> tuple[str, ...]:
        """Return the names of all tags."""
        listed = self._git("for-each-ref", "--format=%(refname:lstrip=2)", "refs/tags")
        return tuple(sorted(listed.decode(errors="replace").splitlines()))

    def checkout(self, sha: str, folder: Path) -> None:
        """Make a clean, detached clone of one commit at ``folder``, which must not exist or be empty.

        Every file has the commit's time as its own, so that archives made of them do not differ from build to build.
        """
        self._refuse_contents(self._present(sha))
        if folder.exists() and any(folder.iterdir()):
            raise SourceError(f"{folder} is not empty.", rule="a build starts from a clean checkout")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".checkout-") as aside:
            clone = Path(aside) / "clone"
            # Copied, not linked: a build may do to its own clone whatever it likes.
            _git("clone", "--quiet", "--local", "--no-hardlinks", "--no-checkout", "--template=", "--origin=source",
                 "--", str(self.folder), str(clone))  # fmt: skip
            _git("-C", str(clone), "remote", "remove", "source")
            _git("-C", str(clone), "checkout", "--quiet", "--detach", sha)
            _refuse_lfs(clone)
            _set_times(clone, commit_epoch(clone))
            os.replace(clone, folder)

    def read(self, sha: str, path: str) -> bytes:
        """Return the bytes of one file at a commit, at most 16 MiB."""
        entry = self._git("--literal-pathspecs", "ls-tree", "-z", "-l", self._present(sha), "--", path)
        fields, _, name = entry.rstrip(b"\0").partition(b"\t")
        mode, _, blob, size = (fields.decode().split() + [""] * 4)[:4]
        if name != os.fsencode(path) or mode not in ("100644", "100755"):
            raise SourceError(
                f"{self.url} has no file {path!r} at commit {sha[:12]}.",
                next_step="commit the file, or name another one in the service's YAML",
            )
        if int(size) > _FILE_CAP:
            raise SourceError(f"{path!r} at commit {sha[:12]} has {size} bytes; at most {_FILE_CAP} are read.")
        return self._git("cat-file", "blob", blob)

    def is_ancestor(self, a: str, b: str) -> bool:
        """Tell whether commit ``a`` is ``b`` or one of its ancestors."""
        command = ["merge-base", "--is-ancestor", self._present(a), self._present(b)]
        return _run_git([f"--git-dir={self.folder}", *command], allowed=(0, 1)).code == 0

    def _named(self, ref: str) -> dict[str, str]:
        """Find tags and branches of that name."""
        full = [ref] if ref.startswith(("refs/tags/", "refs/heads/")) else [f"refs/tags/{ref}", f"refs/heads/{ref}"]
        found = {}
        for name in full:
            kind = "tag" if name.startswith("refs/tags/") else "branch"
            answer = _run_git(
                [f"--git-dir={self.folder}", "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"],
                allowed=(0, 1, 128),
            )
            if answer.code == 0:
                found[f"{kind} {name.split('/', 2)[2]}"] = answer.output.decode().strip()
        return found

    def _abbreviated(self, ref: str) -> dict[str, str]:
        """Find commits whose id begins so and that a branch or tag still holds."""
        prefix = ref.lower()
        if not re.fullmatch(r"[0-9a-f]{7,40}", prefix):
            return {}
        objects = self._git("rev-parse", f"--disambiguate={prefix}").decode().split()
        return {f"commit {sha}": sha for sha in objects if self._is_held_commit(sha)}

    def _is_held_commit(self, sha: str) -> bool:
        kind = _run_git([f"--git-dir={self.folder}", "cat-file", "-t", sha], allowed=(0, 128))
        if kind.output.strip() != b"commit":
            return False
        return bool(self._git("for-each-ref", "--count=1", f"--contains={sha}"))

    def _commit(self, sha: str) -> Commit:
        return _commits(self._git("log", "--max-count=1", _LOG_FORMAT, "-z", "--no-mailmap", sha))[0]

    def _present(self, sha: str) -> str:
        """Return ``sha`` if it is a commit of this repository."""
        if not _SHA.fullmatch(sha):
            raise SourceError(f"{sha!r} is not a full commit id.", rule="a commit is named by 40 hexadecimal digits")
        kind = _run_git([f"--git-dir={self.folder}", "cat-file", "-t", sha], allowed=(0, 128))
        if kind.output.strip() != b"commit":
            raise SourceError(
                f"{self.url} has no commit {sha}.",
                next_step="push the branch that holds it; if history was rewritten, release a commit of the new one",
            )
        return sha

    def _refuse_contents(self, sha: str) -> None:
        """Refuse submodules, and more than a checkout may bring: a little of git can hide any amount of files."""
        listing = [f"--git-dir={self.folder}", "ls-tree", "-r", "-l", "-z", sha]
        listed = _run_git(listing, about=f"Commit {sha[:12]} of {self.url} has too many files", stop=True)
        entries = [entry.partition(b"\t") for entry in listed.output.split(b"\0") if entry]
        sizes = (fields.split()[3] for fields, _, _ in entries)
        size = sum(int(one) for one in sizes if one.isdigit())  # a submodule has none
        if size > LARGEST_CHECKOUT or len(entries) > MOST_FILES:
            raise SourceError(
                f"Commit {sha[:12]} of {self.url} has {len(entries):,} files with {size:,} bytes in all.",
                rule=f"a checkout has at most {MOST_FILES:,} files and {LARGEST_CHECKOUT:,} bytes",
                who="the service's team",
                next_step="keep large files in a registry or an artifact store, and let the build fetch them by digest",
            )
        found = [os.fsdecode(name) for fields, _, name in entries if fields.startswith(b"160000 ")]
        if found:
            raise SourceError(
                f"Commit {sha[:12]} of {self.url} has submodules: {', '.join(found)}.",
                rule="what is built comes from the repository that the catalogue names, and from no other",
                who="the service's team",
                next_step="put the code into the repository (git subtree), or depend on a published package of it",
            )

    def _git(self, *arguments: str) -> bytes:
        return _git(f"--git-dir={self.folder}", *arguments)


def open_repository(url: str, folder: Path, *, login: str | None = None, password: str | None = None) -> Repository:
    """Fetch every branch and tag of a repository into the bare ``folder``; again: only what is new.

    :param login: for https, with ``password``; given to that host only, and in no command line or file.
    """
    address, login, password = _address(url, login, password)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        _git("init", "--quiet", "--bare", "--template=", "--initial-branch=main", "--", str(folder))
        _git(
            f"--git-dir={folder}", "fetch", "--quiet", "--force", "--prune", "--no-tags", "--no-recurse-submodules",
            "--no-write-fetch-head", "--", address, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*",
            seconds=_FETCH_SECONDS,
            largest=LARGEST_FETCH,
            environ=_credentials(address, login, password),
            about=f"{public_url(url)} cannot be fetched",
        )  # fmt: skip
    return Repository(public_url(url), folder)


def public_url(url: str) -> str:
    """Return a repository's URL without any password, to be shown and recorded."""
    parts = _split(url)
    if parts is None or "@" not in parts.netloc:
        return url
    login, host = parts.netloc.rpartition("@")[::2]
    # In https the login alone may be a token; in ssh it is part of the address.
    kept = "" if parts.scheme in ("http", "https") else login.partition(":")[0] + "@"
    return urlunsplit(parts._replace(netloc=kept + host))


def commit_epoch(checkout: Path) -> int:
    """Return the time of the commit that is checked out, in seconds since 1970."""
    told = _git("-C", str(checkout), "log", "--max-count=1", "--format=%ct", "HEAD").decode().strip()
    return min(max(_whole(told), 0), _LATEST)


_LOG_FORMAT = "--format=%H%x00%an%x00%ae%x00%cI %ct%x00%s"


def _commits(listed: bytes) -> tuple[Commit, ...]:
    """Read what git printed in :data:`_LOG_FORMAT` with ``-z``: five fields for each commit, each ended by NUL."""
    fields = [field.decode(errors="replace") for field in listed.split(b"\0")[:-1]]
    return tuple(
        Commit(sha=sha, author=author, email=email, at=_instant(at), subject=subject)
        for sha, author, email, at, subject in zip(*[iter(fields)] * 5, strict=True)
    )


_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


def _changed(diff: Iterable[str]) -> dict[str, frozenset[int]]:
    """Read a diff without context: the number of each line that it adds, by the file's path."""
    found: dict[str, set[int]] = {}
    name, left = "", 0
    for line in diff:
        if left:  # a line of the files, whatever it looks like
            left -= line[:1] in ("+", "-")
        elif line.startswith("+++ "):
            name = line[4:].removesuffix("\t").strip('"').removeprefix("b/")
        elif hunk := _HUNK.match(line):
            removed, added = (int(part) if part is not None else 1 for part in (hunk[1], hunk[3]))
            left = removed + added
            found.setdefault(name, set()).update(range(int(hunk[2]), int(hunk[2]) + added))
    return {path: frozenset(numbers) for path, numbers in found.items() if numbers}


def _instant(told: str) -> datetime:
    """Read a commit's time, in ISO 8601 and in seconds; git holds times and time zones that Python cannot.

    A time zone that is none is taken for UTC, and a time outside of the calendar for its first or last day: whatever a
    commit's author writes there, the commit is released by its id, and nothing is decided by its time.
    """
    written, _, seconds = told.rpartition(" ")
    try:
        return datetime.fromisoformat(written)
    except ValueError:
        first, last = (datetime.combine(day, time(), UTC) for day in (date(1970, 1, 1), date.max))
        return datetime.fromtimestamp(min(max(_whole(seconds), first.timestamp()), last.timestamp()), UTC)


def _whole(text: str) -> int:
    return int(text) if re.fullmatch(r"-?[0-9]{1,20}", text) else 0


def _check_ref(ref: str) -> None:
    """Refuse what is not a plain name: options, revision arithmetic, reflogs, paths."""
    answer = None
    if ref and not ref.startswith("-") and ref.isprintable() and len(ref) <= 250:
        answer = _run_git(["check-ref-format", f"refs/tags/{ref}"], allowed=(0, 1))
    if answer is None or answer.code:
        raise SourceError(
            f"{ref!r} is not the name of a tag, branch or commit.",
            rule="a ref is a plain name as git check-ref-format allows it: no options, no ranges, no HEAD~1",
            next_step="give a tag, a branch or a commit id",
        )


def _split(url: str) -> SplitResult | None:
    """Take a URL apart; None if it is none, or has characters that have no place in one."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    plain = not re.search(r"[\x00-\x20]", url) and url.startswith(f"{parts.scheme}://")
    return parts if plain and not (parts.hostname or "").startswith("-") else None


def _address(url: str, login: str | None, password: str | None) -> tuple[str, str | None, str | None]:
    """Return what git is given, and the credentials that were in the URL or beside it; refuse other transports."""
    if re.fullmatch(r"/[^\x00-\x1f]*", url):
        return f"file://{url}", None, None
    parts = _split(url)
    if parts and parts.scheme in SCHEMES and (parts.netloc or parts.scheme == "file"):
        given = [unquote(text) if text else None for text in (parts.username, parts.password)]
        return public_url(url), login or given[0], password or given[1]
    if "://" not in url and _SCP_FORM.fullmatch(url) and not re.search(r"[\x00-\x20]", url):
        return url, None, None
    raise SourceError(
        f"{public_url(url)!r} is not the address of a repository.",
        rule=f"a repository is fetched by {', '.join(SCHEMES)} only",
        who="whoever may edit Airflow connections",
        next_step="correct the host of the source's connection",
    )


def _credentials(address: str, login: str | None, password: str | None) -> dict[str, str]:
    """Return settings that answer git's question for a password, for this one host."""
    if not password or not address.startswith("https://"):
        return {}
    parts = urlsplit(address)
    # The answer is read from the environment, which only this user's processes see.
    helper = '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" "$SOURCE_LOGIN" "$SOURCE_PASSWORD"; }; f'
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"credential.{parts.scheme}://{parts.netloc}.helper",
        "GIT_CONFIG_VALUE_0": helper,
        "SOURCE_LOGIN": login or "",
        "SOURCE_PASSWORD": password,
    }


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time write into ``folder``; take away the lock files that a killed git left."""
    with open(folder.with_name(folder.name + ".lock"), "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for stale in folder.rglob("*.lock"):
            stale.unlink(missing_ok=True)
        yield


def _refuse_lfs(checkout: Path) -> None:
    found = _git("-C", str(checkout), "ls-files", "-z", "--", ":(attr:filter=lfs)").split(b"\0")
    if names := [os.fsdecode(name) for name in found if name]:
        raise SourceError(
            f"The commit keeps files in Git LFS: {', '.join(names[:5])}.",
            rule="what is built comes from the repository that the catalogue names, and from no other",
            who="the service's team",
            next_step="commit the files themselves, or let the build fetch them by digest",
        )


def _set_times(checkout: Path, epoch: int) -> None:
    """Give every file and folder of the work tree the same time."""
    for where, folders, files in os.walk(checkout):
        if ".git" in folders and Path(where) == checkout:
            folders.remove(".git")
        for name in [*folders, *files]:
            os.utime(os.path.join(where, name), (epoch, epoch), follow_symlinks=False)


def _environment() -> dict[str, str]:
    """Return what git sees: nothing of the user's or the machine's settings."""
    names = [*_PASSED_ON, *_PROXIES, *(name.upper() for name in _PROXIES)]
    return {name: os.environ[name] for name in names if name in os.environ} | {
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS": "",
        "GIT_ALLOW_PROTOCOL": ":".join(SCHEMES),
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=30",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
    }


def _git(
    *arguments: str,
    seconds: float = _LOCAL_SECONDS,
    environ: Mapping[str, str] | None = None,
    about: str = "git could not do its work",
    largest: int | None = None,
) -> bytes:
    """Run git and return what it printed.

    :param about: how a refusal begins.
    :param largest: bytes that a file which it writes may have.
    """
    return _run_git(arguments, seconds=seconds, environ=environ, about=about, largest=largest).output


def _run_git(
    arguments: Sequence[str],
    *,
    allowed: Sequence[int] = (0,),
    seconds: float = _LOCAL_SECONDS,
    environ: Mapping[str, str] | None = None,
    about: str = "git could not do its work",
    largest: int | None = None,
    stop: bool = False,
) -> processes.Finished:
    if shutil.which("git") is None:
        raise AssetMissing("git is not on this machine.", next_step="install it (apt-get install git)")
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    done = processes.run(
        ["git", *settings, *arguments],
        folder=Path("/"),
        environ=_environment() | dict(environ or {}),
        seconds=seconds,
        cap=_OUTPUT_CAP,
        largest=largest,
        stop=stop,
    )
    if done.left_out:
        raise SourceError(f"{about}: git printed more than the {_OUTPUT_CAP:,} bytes that are read.")
    if done.code not in allowed and _too_large(done):
        raise SourceError(
            f"{about}: it is more than {largest:,} bytes.",
            rule="a fetch is bounded, so that no repository fills the disk",
            who="whoever owns the repository",
            next_step="take the large files out of its history (git filter-repo), and keep them in a registry",
        )
    if done.timed_out:
        raise TransientError(f"{about}: git took longer than {seconds:.0f} s.", next_step="try again")
    if done.code not in allowed:
        raise _refusal(about, done.errors.decode(errors="replace"))
    return done


def _too_large(done: processes.Finished) -> bool:
    return done.code == -signal.SIGXFSZ or b"File too large" in done.errors or b"signal 25" in done.errors


def _refusal(about: str, said: str) -> SourceError | TransientError:
    """Turn what git complained of into an error: the network's troubles pass, others do not."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    text = f"{about}: {' '.join(lines[-4:]) or 'git gave no reason'}"
    if any(sign in said for sign in _NETWORK_TROUBLE):
        return TransientError(text, next_step="try again when the network is back")
    if found := _DUBIOUS.search(said):
        return _of_another(about, found[1])
    return SourceError(
        text,
        who="whoever may edit Airflow connections, or owns the repository",
        next_step="check the address, and that this machine may read it",
    )


def _of_another(about: str, place: str) -> SourceError:
    """Explain why git does not read a repository of this machine; the settings that git names are not read here."""
    path = Path(place)
    try:
        owner = f"account {path.owner()} ({path.stat().st_uid})"
    except (KeyError, OSError):
        owner = f"account {path.stat().st_uid}" if path.exists() else "another account"
    return SourceError(
        f"{about}: {place} belongs to {owner}, and Interlock runs as account {os.geteuid()}.",
        rule="git reads a folder of this machine only if it belongs to who reads it: its settings could run commands",
        who="the platform engineer",
        next_step=f"give it to this account (chown --recursive {os.geteuid()} {place}), or name it in the connection "
        "by ssh or https; git's own settings of safe folders are not read by Interlock",
    )
