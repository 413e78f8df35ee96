"""Git: the commit of a ref, the changes between two commits, and a clean checkout.

Git runs as a command, with no configuration but what is given here: no system or user settings, no hooks, no prompts,
no helpers, and only the transports https, ssh, file and git. A repository is first fetched whole into a bare folder of
this machine; everything after that asks the folder.

Submodules and files in Git LFS are refused: what they fetch is named by the commit itself, not by the catalogue.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from semver import Version

from interlock.domain.errors import SourceError
from interlock.domain.records import Commit

from ._command import git_output, run_git
from ._output import LOG_FORMAT, parse_commits, parse_diff, parse_integer
from .addresses import credential_settings, fetch_address, public_url

_FETCH_TIMEOUT_SECONDS = 900.0
_LOOK_TIMEOUT_SECONDS = 10.0
"""How long a person may have to wait at a form."""
_FILE_CAP = 16 * 1024 * 1024
MAX_CHECKOUT_BYTES = 1024**3
"""Bytes that the files of a commit may have together."""
MAX_FILES = 200_000
"""Files that a commit may have: as many as a bundle."""
MAX_FETCH_BYTES = 4 * 1024**3
"""Maximum bytes of one fetch of a repository."""
_LATEST = 4354819198  # 2107-12-31: the latest time that every archive format can write
_AUTHOR_TRAILERS = re.compile(
    r"^[ \t>*-]*(?:co-?-?(?:authored|developed|committed|written)|authored|author|committed|signed-off|pair(?:ed)?"
    r"(?:-programmed)?)(?:-(?:by|with))?[ \t]*:(.*)$",
    re.IGNORECASE | re.MULTILINE,
)
"""Trailers of a commit that name its authors, not its reviewers; a squash may leave them anywhere."""
_ADDRESS = re.compile(r"[^\s<>,;()\"']+@[^\s<>,;()\"']+")
_SHA = re.compile(r"^[0-9a-f]{40}$")
_ABBREVIATED = re.compile(r"[0-9a-f]{7,40}")


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
        found = self._find_names(ref) | self._find_abbreviated(ref)
        if not found:
            raise SourceError(
                f"{self.url} has no tag, branch or commit {ref!r}.",
                who="a person who can push to the repository",
                next_step="push it, or correct the spelling",
            )
        if len(set(found.values())) > 1:
            meanings = ", ".join(f"{what} is {sha[:12]}" for what, sha in found.items())
            raise SourceError(
                f"{ref!r} is ambiguous in {self.url}: {meanings}.",
                rule="a release names one commit",
                next_step="use refs/tags/…, refs/heads/… or all 40 digits of the commit",
            )
        return self._commit(next(iter(found.values())))

    def full_name(self, ref: str) -> str:
        """Return ``refs/tags/…`` or ``refs/heads/…`` of a name; of a commit, what was given."""
        _check_ref(ref)
        kinds = {"tag": "refs/tags/", "branch": "refs/heads/"}
        named = (what.split(" ", 1) for what in self._find_names(ref))
        return next((f"{kinds[kind]}{name}" for kind, name in named), ref)

    def commits(self, since: str | None, until: str, limit: int = 200) -> tuple[tuple[Commit, ...], int]:
        """Return the commits that ``until`` has and ``since`` has not, newest first, and how many there are in all.

        :param since: 40 digits; none: from the beginning.
        """
        span = [self._checked(until), *([f"^{self._checked(since)}"] if since else [])]
        count = int(self._git("rev-list", "--count", *span))
        listed = self._git("log", "--date-order", f"--max-count={limit}", LOG_FORMAT, "-z", "--no-mailmap", *span)
        return parse_commits(listed), count

    def authors(self, since: str | None, until: str) -> tuple[str, ...]:
        """Return the e-mail addresses of all people who contributed to the commits, however many there are.

        That is who wrote it, who committed it, and whom its trailers name beside them: who wrote with them, or signed
        it off as theirs to give.

        :param since: 40 digits; none: from the beginning.
        """
        span = [self._checked(until), *([f"^{self._checked(since)}"] if since else [])]
        listed = self._git("log", "-z", "--format=%ae%n%ce%n%B", "--no-mailmap", *span).decode(errors="replace")
        found: set[str] = set()
        for commit in listed.split("\0"):
            author, committer, message = (*commit.split("\n", 2), "", "")[:3]
            trailers = " ".join(_AUTHOR_TRAILERS.findall(message))
            found |= {author.strip().casefold(), committer.strip().casefold()}
            found |= {address.casefold() for address in _ADDRESS.findall(trailers)}
        return tuple(sorted(found - {""}))

    def messages(self, since: str | None, until: str) -> tuple[tuple[str, str], ...]:
        """Return the id and the whole message of each of the commits, newest first, however many there are.

        :param since: 40 digits; none: from the beginning.
        """
        span = [self._checked(until), *([f"^{self._checked(since)}"] if since else [])]
        listed = self._git("log", "--date-order", "-z", "--format=%H%n%B", "--no-mailmap", *span)
        commits = (one.partition("\n") for one in listed.decode(errors="replace").split("\0") if one)
        return tuple((sha, message) for sha, _, message in commits)

    def changed_lines(self, since: str | None, until: str) -> dict[str, frozenset[int]]:
        """Return the lines of each file that ``until`` has and ``since`` has not, or has otherwise.

        :param since: 40 digits; none: every line is new.
        """
        before = self._checked(since) if since else self._git("hash-object", "-t", "tree", "/dev/null").decode().strip()
        shown = self._git(
            "-c", "core.quotePath=false", "diff", "--unified=0", "--no-color", "--no-ext-diff", "--no-textconv",
            "--no-renames", "--diff-filter=AMT", "--src-prefix=a/", "--dst-prefix=b/", before, self._checked(until),
        )  # fmt: skip
        return parse_diff(shown.decode(errors="replace").split("\n"))

    def changed_files(self, since: str, until: str) -> frozenset[str]:
        """Return the paths of the files that differ between two commits; a renamed file has two."""
        spans = (self._checked(since), self._checked(until))
        shown = self._git("diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", *spans)
        return frozenset(os.fsdecode(path) for path in shown.split(b"\0") if path)

    def tags(self) -> tuple[str, ...]:
        """Return the names of all tags."""
        listed = self._git("for-each-ref", "--format=%(refname:lstrip=2)", "refs/tags")
        return tuple(sorted(listed.decode(errors="replace").splitlines()))

    def checkout(self, sha: str, folder: Path) -> None:
        """Create a clean, detached clone of one commit at ``folder``, which must not exist or be empty.

        Every file has the commit's time as its own, so that archives made of them do not differ from build to build.
        """
        self._refuse_contents(self._checked(sha))
        if folder.exists() and any(folder.iterdir()):
            raise SourceError(f"{folder} is not empty.", rule="a build starts with a clean checkout")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".checkout-") as aside:
            clone = Path(aside) / "clone"
            # Copied, not linked: a build may do to its own clone whatever it likes.
            git_output(
                "clone", "--quiet", "--local", "--no-hardlinks", "--no-checkout", "--template=", "--origin=source",
                "--", str(self.folder), str(clone),
            )  # fmt: skip
            git_output("-C", str(clone), "remote", "remove", "source")
            git_output("-C", str(clone), "checkout", "--quiet", "--detach", sha)
            _refuse_lfs(clone)
            _set_times(clone, commit_epoch(clone))
            os.replace(clone, folder)

    def read(self, sha: str, path: str) -> bytes:
        """Return the bytes of one file at a commit, at most 16 MiB."""
        entry = self._git("--literal-pathspecs", "ls-tree", "-z", "-l", self._checked(sha), "--", path)
        fields, _, name = entry.rstrip(b"\0").partition(b"\t")
        mode, _, blob, size = (fields.decode().split() + [""] * 4)[:4]
        if name != os.fsencode(path) or mode not in ("100644", "100755"):
            raise SourceError(
                f"{self.url} has no file {path!r} at commit {sha[:12]}.",
                next_step="commit the file, or name another file in the service's YAML",
            )
        if int(size) > _FILE_CAP:
            raise SourceError(f"{path!r} at commit {sha[:12]} has {size} bytes; at most {_FILE_CAP} are read.")
        return self._git("cat-file", "blob", blob)

    def is_ancestor(self, a: str, b: str) -> bool:
        """Tell whether commit ``a`` is ``b`` or one of its ancestors."""
        command = ["merge-base", "--is-ancestor", self._checked(a), self._checked(b)]
        return run_git([f"--git-dir={self.folder}", *command], allowed=(0, 1)).code == 0

    def _find_names(self, ref: str) -> dict[str, str]:
        """Find tags and branches of that name."""
        found = {}
        for name in _full_names(ref):
            kind = "tag" if name.startswith("refs/tags/") else "branch"
            answer = run_git(
                [f"--git-dir={self.folder}", "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"],
                allowed=(0, 1, 128),
            )
            if answer.code == 0:
                found[f"{kind} {name.split('/', 2)[2]}"] = answer.output.decode().strip()
        return found

    def _find_abbreviated(self, ref: str) -> dict[str, str]:
        """Find commits with an id prefix that a branch or tag still contains."""
        prefix = ref.lower()
        if not _ABBREVIATED.fullmatch(prefix):
            return {}
        objects = self._git("rev-parse", f"--disambiguate={prefix}").decode().split()
        return {f"commit {sha}": sha for sha in objects if self._is_held_commit(sha)}

    def _is_held_commit(self, sha: str) -> bool:
        kind = run_git([f"--git-dir={self.folder}", "cat-file", "-t", sha], allowed=(0, 128))
        if kind.output.strip() != b"commit":
            return False
        return bool(self._git("for-each-ref", "--count=1", f"--contains={sha}"))

    def _commit(self, sha: str) -> Commit:
        return parse_commits(self._git("log", "--max-count=1", LOG_FORMAT, "-z", "--no-mailmap", sha))[0]

    def _checked(self, sha: str) -> str:
        """Return ``sha`` if it is a commit of this repository."""
        if not _SHA.fullmatch(sha):
            raise SourceError(f"{sha!r} is not a full commit id.", rule="a commit is named by 40 hexadecimal digits")
        kind = run_git([f"--git-dir={self.folder}", "cat-file", "-t", sha], allowed=(0, 128))
        if kind.output.strip() != b"commit":
            raise SourceError(
                f"{self.url} has no commit {sha}.",
                next_step="push the branch that contains it; if the history was rewritten, release a commit of the "
                "new history",
            )
        return sha

    def _refuse_contents(self, sha: str) -> None:
        """Refuse submodules, and more than a checkout may bring: a little of git can hide any amount of files."""
        listing = [f"--git-dir={self.folder}", "ls-tree", "-r", "-l", "-z", sha]
        listed = run_git(listing, about=f"Commit {sha[:12]} of {self.url} has too many files", stop=True)
        entries = [entry.partition(b"\t") for entry in listed.output.split(b"\0") if entry]
        sizes = (fields.split()[3] for fields, _, _ in entries)
        size = sum(int(one) for one in sizes if one.isdigit())  # a submodule has none
        if size > MAX_CHECKOUT_BYTES or len(entries) > MAX_FILES:
            raise SourceError(
                f"Commit {sha[:12]} of {self.url} has {len(entries):,} files with {size:,} bytes in all.",
                rule=f"a checkout has at most {MAX_FILES:,} files and {MAX_CHECKOUT_BYTES:,} bytes",
                who="the service's team",
                next_step="store large files in a registry or an artifact store, and have the build fetch them by "
                "digest",
            )
        found = [os.fsdecode(name) for fields, _, name in entries if fields.startswith(b"160000 ")]
        if found:
            raise SourceError(
                f"Commit {sha[:12]} of {self.url} has submodules: {', '.join(found)}.",
                rule="a build uses only the repository that the catalogue names",
                who="the service's team",
                next_step="add the code to the repository (git subtree), or use a published package of it",
            )

    def _git(self, *arguments: str) -> bytes:
        return git_output(f"--git-dir={self.folder}", *arguments)


def open_repository(url: str, folder: Path, *, login: str | None = None, password: str | None = None) -> Repository:
    """Fetch every branch and tag of a repository into the bare ``folder``; again: only what is new.

    :param login: for https, with ``password``; given to that host only, and in no command line or file.
    """
    address, login, password = fetch_address(url, login, password)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        git_output("init", "--quiet", "--bare", "--template=", "--initial-branch=main", "--", str(folder))
        git_output(
            f"--git-dir={folder}", "fetch", "--quiet", "--force", "--prune", "--no-tags", "--no-recurse-submodules",
            "--no-write-fetch-head", "--", address, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*",
            seconds=_FETCH_TIMEOUT_SECONDS,
            largest=MAX_FETCH_BYTES,
            environ=credential_settings(address, login, password),
            about=f"{public_url(url)} cannot be fetched",
        )  # fmt: skip
    return Repository(public_url(url), folder)


def has_ref(url: str, ref: str, *, login: str | None = None, password: str | None = None) -> bool:
    """Tell whether a repository has a tag or a branch of that name, without fetching it.

    What can be the id of a commit is taken for one, because a repository does not list its commits.

    :param login: as for :func:`open_repository`.
    """
    _check_ref(ref)
    if _ABBREVIATED.fullmatch(ref.lower()):
        return True
    names = _full_names(ref)
    lines = _listed(url, login, password, names=names)
    return not {line.partition("\t")[2] for line in lines}.isdisjoint(names)


def tags_of(url: str, *, login: str | None = None, password: str | None = None) -> tuple[str, ...]:
    """Return the names of a repository's tags, without fetching it: the highest version first, other tags last.

    :param login: as for :func:`open_repository`.
    """
    names = (line.partition("\trefs/tags/")[2] for line in _listed(url, login, password, options=["--tags"]))
    return tuple(sorted(filter(None, names), key=_by_version, reverse=True))


def _by_version(tag: str) -> tuple[bool, Version, str]:
    """Return what sorts tags: ``v1.10.0`` after ``1.9.0``, and what is no version before both."""
    plain = tag.removeprefix("v")
    known = Version.is_valid(plain)
    return known, Version.parse(plain) if known else Version(0), tag


def _listed(
    url: str, login: str | None, password: str | None, *, options: Sequence[str] = (), names: Sequence[str] = ()
) -> list[str]:
    """Return the lines of a repository's list of names; each is a commit, a tab and the full name."""
    address, login, password = fetch_address(url, login, password)
    listed = git_output(
        "ls-remote", "--quiet", "--refs", *options, "--", address, *names,
        seconds=_LOOK_TIMEOUT_SECONDS,
        environ=credential_settings(address, login, password),
        about=f"{public_url(url)} cannot be read",
    )  # fmt: skip
    return listed.decode(errors="replace").splitlines()


def commit_epoch(checkout: Path) -> int:
    """Return the time of the commit that is checked out, in seconds since 1970."""
    told = git_output("-C", str(checkout), "log", "--max-count=1", "--format=%ct", "HEAD").decode().strip()
    return min(max(parse_integer(told), 0), _LATEST)


def _full_names(ref: str) -> list[str]:
    """Return the full names of the tag and the branch that a ref can be."""
    return [ref] if ref.startswith(("refs/tags/", "refs/heads/")) else [f"refs/tags/{ref}", f"refs/heads/{ref}"]


def _check_ref(ref: str) -> None:
    """Refuse what is not a plain name: options, revision arithmetic, reflogs, paths."""
    answer = None
    if ref and not ref.startswith("-") and ref.isprintable() and len(ref) <= 250:
        answer = run_git(["check-ref-format", f"refs/tags/{ref}"], allowed=(0, 1))
    if answer is None or answer.code:
        raise SourceError(
            f"{ref!r} is not the name of a tag, branch or commit.",
            rule="a ref is a plain name as git check-ref-format allows it: no options, no ranges, no HEAD~1",
            next_step="give a tag, a branch or a commit id",
        )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time write to ``folder``; remove the lock files of a killed git."""
    with open(folder.with_name(folder.name + ".lock"), "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for stale in folder.rglob("*.lock"):
            stale.unlink(missing_ok=True)
        yield


def _refuse_lfs(checkout: Path) -> None:
    found = git_output("-C", str(checkout), "ls-files", "-z", "--", ":(attr:filter=lfs)").split(b"\0")
    if names := [os.fsdecode(name) for name in found if name]:
        raise SourceError(
            f"The commit keeps files in Git LFS: {', '.join(names[:5])}.",
            rule="a build uses only the repository that the catalogue names",
            who="the service's team",
            next_step="commit the files themselves, or have the build fetch them by digest",
        )


def _set_times(checkout: Path, epoch: int) -> None:
    """Give every file and folder of the work tree the same time."""
    for where, folders, files in os.walk(checkout):
        if ".git" in folders and Path(where) == checkout:
            folders.remove(".git")
        for name in [*folders, *files]:
            os.utime(os.path.join(where, name), (epoch, epoch), follow_symlinks=False)
