from __future__ import annotations

import os
import random
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from interlock.adapters.source import _command, git
from interlock.adapters.source.addresses import public_url
from interlock.adapters.source.git import Repository, commit_epoch, has_ref, open_repository, tags_of
from interlock.domain.errors import SourceError, TransientError
from tests.git_project import START, GitProject, git_project


@pytest.fixture
def project(tmp_path: Path) -> GitProject:
    project = git_project(tmp_path / "project")
    project.commit({"README.md": "The shop\n"}, "Open the shop")
    return project


def opened(project: GitProject, tmp_path: Path) -> Repository:
    return open_repository(str(project.folder), tmp_path / "bare.git")


def test_tags_branches_and_commit_ids_resolve_to_their_commit(project: GitProject, tmp_path: Path) -> None:
    first = project.git("rev-parse", "HEAD")
    project.git("tag", "1.0.0")
    project.git("tag", "--annotate", "--message", "Better", "1.0.1")
    second = project.commit({"a": "1"}, "Sell bikes · naïvely")
    project.git("branch", "team/bikes")
    repository = opened(project, tmp_path)
    for ref in ("1.0.0", "1.0.1", "refs/tags/1.0.0", first, first[:8], first.upper()):
        assert repository.resolve(ref).sha == first
    for ref in ("main", "team/bikes", "refs/heads/main", second):
        assert repository.resolve(ref).sha == second
    commit = repository.resolve("main")
    assert (commit.author, commit.email, commit.subject) == ("Sam Smith", "sam@example.com", "Sell bikes · naïvely")
    assert commit.at == datetime.fromtimestamp(START + 7200, UTC)


@pytest.mark.parametrize(
    "ref",
    ["", "-", "--upload-pack=touch /tmp/x", "HEAD~1", "main^", "main@{1}", "a..b", "main:README.md", "@{u}", "a b",
     "a\nb", "main^{commit}", "*", "x" * 300, "a.lock", "/main", "main/", "\x00"],
)  # fmt: skip
def test_a_ref_that_is_no_plain_name_is_refused(project: GitProject, tmp_path: Path, ref: str) -> None:
    with pytest.raises(SourceError, match="is not the name of a tag, branch or commit"):
        opened(project, tmp_path).resolve(ref)


@pytest.mark.parametrize("ref", ["9.9.9", "abcdef1", "0" * 40, "HEAD", "refs/remotes/main", "FETCH_HEAD"])
def test_a_ref_that_is_not_there_is_refused(project: GitProject, tmp_path: Path, ref: str) -> None:
    with pytest.raises(SourceError, match="has no tag, branch or commit"):
        opened(project, tmp_path).resolve(ref)


def test_a_tag_or_a_branch_is_looked_for_without_a_fetch(project: GitProject) -> None:
    project.git("tag", "1.0.0")
    project.git("tag", "--annotate", "--message", "Better", "v1")
    project.git("branch", "team/bikes")
    project.git("update-ref", "refs/tags/old/refs/tags/2.0.0", "HEAD")
    where = str(project.folder)
    for ref in ("1.0.0", "v1", "refs/tags/v1", "team/bikes", "refs/heads/main"):
        assert has_ref(where, ref), ref
    for ref in ("2.0.0", "9.9.9", "bikes", "team", "refs/tags/main", "HEAD"):
        assert not has_ref(where, ref), ref
    assert has_ref(where, "abcdef1"), "it may be a commit"
    with pytest.raises(SourceError, match="is not the name of a tag, branch or commit"):
        has_ref(where, "--upload-pack=touch /tmp/x")
    with pytest.raises(SourceError, match="cannot be read"):
        has_ref(f"{where}-elsewhere", "1.0.0")


def test_the_tags_of_a_repository_are_listed_by_version_without_a_fetch(project: GitProject) -> None:
    assert tags_of(str(project.folder)) == ()
    for tag in ("1.9.0", "v1.10.0", "1.10.0-rc.1", "weekly"):
        project.git("tag", tag)
    project.git("tag", "--annotate", "--message", "Better", "2.0.0")
    project.git("branch", "3.0.0")
    assert tags_of(str(project.folder)) == ("2.0.0", "v1.10.0", "1.10.0-rc.1", "1.9.0", "weekly")
    with pytest.raises(SourceError, match="cannot be read"):
        tags_of(f"{project.folder}-elsewhere")


def test_a_name_of_two_commits_is_refused_until_it_is_written_in_full(project: GitProject, tmp_path: Path) -> None:
    first = project.git("rev-parse", "HEAD")
    project.git("tag", "next")
    second = project.commit({"a": "1"})
    project.git("branch", "next")
    repository = opened(project, tmp_path)
    with pytest.raises(SourceError, match=r"ambiguous.*tag next is .*branch next is"):
        repository.resolve("next")
    assert repository.resolve("refs/tags/next").sha == first
    assert repository.resolve("refs/heads/next").sha == second


def test_a_branch_that_is_called_like_another_commit_is_refused(project: GitProject, tmp_path: Path) -> None:
    first = project.git("rev-parse", "HEAD")
    project.commit({"a": "1"})
    project.git("branch", first[:12])
    project.git("update-ref", f"refs/heads/{first}", "HEAD")
    repository = opened(project, tmp_path)
    for ref in (first, first[:12]):
        with pytest.raises(SourceError, match="is ambiguous"):
            repository.resolve(ref)


def test_a_commit_that_no_branch_or_tag_holds_any_more_is_refused(project: GitProject, tmp_path: Path) -> None:
    project.commit({"a": "1"})
    lost = project.git("rev-parse", "HEAD")
    assert opened(project, tmp_path).resolve(lost).sha == lost
    project.git("reset", "--hard", "--quiet", "HEAD~1")
    with pytest.raises(SourceError, match="has no tag, branch or commit"):
        opened(project, tmp_path).resolve(lost)


def test_fetching_again_follows_moved_and_deleted_refs(project: GitProject, tmp_path: Path) -> None:
    project.git("tag", "candidate")
    project.git("branch", "topic")
    opened(project, tmp_path)
    second = project.commit({"a": "1"})
    project.git("tag", "--force", "candidate")
    project.git("branch", "--delete", "topic")
    project.git("branch", "topic/deeper")  # a folder now stands where a branch's file stood
    repository = opened(project, tmp_path)
    assert repository.resolve("candidate").sha == second
    assert repository.resolve("topic/deeper").sha == second
    with pytest.raises(SourceError):
        repository.resolve("topic")


def test_fetching_goes_on_after_a_git_that_was_killed(project: GitProject, tmp_path: Path) -> None:
    bare = opened(project, tmp_path).folder
    second = project.commit({"a": "1"})
    (bare / "packed-refs.lock").touch()
    (bare / "refs" / "heads" / "main.lock").touch()
    assert opened(project, tmp_path).resolve("main").sha == second


def test_the_commits_of_a_release_come_newest_first_with_their_number(project: GitProject, tmp_path: Path) -> None:
    first = project.git("rev-parse", "HEAD")
    shas = [project.commit({"a": str(number)}, f"Change {number}") for number in range(5)]
    repository = opened(project, tmp_path)
    commits, count = repository.commits(first, shas[-1])
    assert [commit.sha for commit in commits] == shas[::-1]
    assert count == 5
    commits, count = repository.commits(None, shas[-1], limit=2)
    assert [commit.subject for commit in commits] == ["Change 4", "Change 3"]
    assert count == 6
    assert repository.commits(shas[-1], shas[0]) == ((), 0)
    assert repository.authors(first, shas[-1]) == ("sam@example.com",)
    assert repository.authors(shas[-1], shas[0]) == ()


def test_who_wrote_the_first_of_many_commits_is_an_author(project: GitProject, tmp_path: Path) -> None:
    first = project.git("rev-parse", "HEAD")
    project.git("commit", "--quiet", "--allow-empty", "--author=Ben <Ben@Example.com>", "--message", "One")
    for _ in range(205):
        project.git("commit", "--quiet", "--allow-empty", "--message", "More")
    head = project.git("rev-parse", "HEAD")
    repository = opened(project, tmp_path)
    assert "Ben" not in {commit.author for commit in repository.commits(first, head)[0]}
    assert repository.authors(first, head) == ("ben@example.com", "sam@example.com")


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("Pair\n\nCo-authored-by: Cora <Cora@Example.com>", id="co-author"),
        pytest.param("Pair\n\nco-AUTHORED-by:Cora <cora@example.com>\nRefs: #7", id="in any case"),
        pytest.param("Squash\n\n* One\n\nCo-authored-by: Cora <cora@example.com>\n\n* Two\n\nText", id="in a squash"),
        pytest.param("Pair\n\nCo-developed-by: Cora <cora@example.com>\nSigned-off-by: Sam <s@x>", id="developed"),
        pytest.param("Pair\n\nSigned-off-by: Cora <cora@example.com>", id="signed off"),
        pytest.param("Pair\n\nCo-authored-by: cora@example.com", id="an address alone"),
        pytest.param("Pair\n\nPair-programmed-with: Ben <b@x>, Cora <cora@example.com>", id="two in a line"),
    ],
)
def test_whom_a_commit_names_beside_its_author_made_it_too(project: GitProject, tmp_path: Path, message: str) -> None:
    first = project.git("rev-parse", "HEAD")
    project.git("commit", "--quiet", "--allow-empty", "--message", message)
    authors = opened(project, tmp_path).authors(first, project.git("rev-parse", "HEAD"))
    assert "cora@example.com" in authors


def test_who_commits_what_another_wrote_made_it_too_and_who_reviews_it_did_not(
    project: GitProject, tmp_path: Path
) -> None:
    first = project.git("rev-parse", "HEAD")
    message = (
        "One\n\nReviewed-by: Ann <ann@example.com>\nAcked-by: Al <al@example.com>\nReported-by: Ed <ed@example.com>"
    )
    command = ["commit", "--quiet", "--allow-empty", "--message", message, "--author=Ben <ben@example.com>"]
    project.git(*command, GIT_COMMITTER_EMAIL="Cora@Example.com")
    authors = opened(project, tmp_path).authors(first, project.git("rev-parse", "HEAD"))
    assert authors == ("ben@example.com", "cora@example.com")


def test_a_name_is_told_in_full_as_a_tag_or_a_branch(project: GitProject, tmp_path: Path) -> None:
    project.git("tag", "v1.0.0-x")
    repository = opened(project, tmp_path)
    head = project.git("rev-parse", "HEAD")
    assert [repository.full_name(name) for name in ("v1.0.0-x", "main", "refs/heads/main", head)] == [
        "refs/tags/v1.0.0-x",
        "refs/heads/main",
        "refs/heads/main",
        head,
    ]


def test_commits_since_one_that_is_gone_say_so(project: GitProject, tmp_path: Path) -> None:
    repository, head = opened(project, tmp_path), project.git("rev-parse", "HEAD")
    with pytest.raises(SourceError, match="has no commit 1111"):
        repository.commits("1" * 40, head)
    with pytest.raises(SourceError, match="not a full commit id"):
        repository.commits("--all", head)


@pytest.mark.parametrize(
    ("date", "year"),
    [
        pytest.param("1700000000 +051800", 2023, id="a time zone of seconds"),
        pytest.param("1700000000 -7530", 2023, id="a time zone beyond the day"),
        pytest.param("1700000000 +2400", 2023, id="a whole day"),
        pytest.param("253402300800 +0000", 9999, id="the year 10000"),
        pytest.param("99999999999999999999999 +0000", 1970, id="no time at all"),
        pytest.param("18446744073709551615 +0000", 9999, id="the last second that git holds"),
        pytest.param("1700000000 +0200", 2023, id="an ordinary one"),
    ],
)
def test_a_commit_of_any_time_is_planned_checked_out_and_released(
    project: GitProject, tmp_path: Path, date: str, year: int
) -> None:
    project.commit({"a.txt": "a"})
    tree = project.git("rev-parse", "HEAD^{tree}")
    raw = f"tree {tree}\nauthor A <a@example.com> {date}\ncommitter A <a@example.com> {date}\n\nodd\n"
    sha = project.git("hash-object", "-t", "commit", "-w", "--stdin", "--literally", given=raw.encode())
    later = project.git("commit-tree", tree, "-p", sha, "-m", "later")
    project.git("update-ref", "refs/heads/odd", later)
    project.git("update-ref", "refs/tags/odd-1", sha)
    repository = opened(project, tmp_path)
    ((_, odd), count) = repository.commits(None, later)
    assert (count, odd.subject) == (2, "odd")
    assert odd.at.year in {year, 1970, 9999}
    assert repository.resolve("odd-1").sha == sha
    repository.checkout(sha, tmp_path / "clone")
    assert 0 <= commit_epoch(tmp_path / "clone") < 2**33


def test_a_repository_of_another_account_is_refused_with_what_helps(
    project: GitProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = _command._environment
    monkeypatch.setattr(_command, "_environment", lambda: {**environment(), "GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"})
    with pytest.raises(SourceError) as refused:
        opened(project, tmp_path)
    assert f"belongs to account {project.folder.owner()}" in str(refused.value)
    assert "chown" in str(refused.value)
    assert "safe.directory" not in str(refused.value)


def test_more_than_a_checkout_may_bring_is_refused_with_the_numbers(
    project: GitProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A little of git is any amount of files: 2,000 zeros, ten times over, and once more below a folder."""
    sha = project.commit({f"{where}{number}": "0" * 2000 for where in ("", "below/") for number in range(10)})
    repository = opened(project, tmp_path)
    monkeypatch.setattr(git, "MAX_CHECKOUT_BYTES", 40_100)
    repository.checkout(sha, tmp_path / "fits")
    monkeypatch.setattr(git, "MAX_CHECKOUT_BYTES", 39_999)
    with pytest.raises(SourceError, match=r"has 2\d files with 40,0\d\d bytes in all"):
        repository.checkout(sha, tmp_path / "clone")
    assert not (tmp_path / "clone").exists()
    monkeypatch.setattr(git, "MAX_CHECKOUT_BYTES", 10**9)
    monkeypatch.setattr(git, "MAX_FILES", 19)
    with pytest.raises(SourceError, match=r"has 2\d files with"):
        repository.checkout(sha, tmp_path / "clone")


def test_trees_within_trees_are_not_counted_to_their_end(
    project: GitProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten folders of ten folders, ten times: ten thousand million files in some hundred bytes."""
    blob, kind = project.git("hash-object", "-w", "--stdin", given=b"x"), "100644 blob"
    tree = ""
    for _ in range(10):
        rows = "".join(f"{kind} {tree or blob}\t{number}\n" for number in range(10))
        tree, kind = project.git("mktree", given=rows.encode()), "040000 tree"
    sha = project.git("commit-tree", tree, "-m", "bomb")
    project.git("update-ref", "refs/heads/bomb", sha)
    monkeypatch.setattr(_command, "_OUTPUT_CAP", 1024 * 1024)
    with pytest.raises(SourceError, match="has too many files"):
        opened(project, tmp_path).checkout(sha, tmp_path / "clone")


def test_a_repository_that_is_too_large_is_not_fetched_to_its_end(
    project: GitProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.commit({"large.bin": random.Random(1).randbytes(300_000)})
    monkeypatch.setattr(git, "MAX_FETCH_BYTES", 100_000)
    with pytest.raises(SourceError, match="cannot be fetched: it is more than 100,000 bytes"):
        opened(project, tmp_path)
    monkeypatch.setattr(git, "MAX_FETCH_BYTES", 10_000_000)
    assert opened(project, tmp_path).resolve("main")


def test_ancestors_are_told_from_strangers(project: GitProject, tmp_path: Path) -> None:
    first = project.git("rev-parse", "HEAD")
    second = project.commit({"a": "1"})
    repository = opened(project, tmp_path)
    assert repository.is_ancestor(first, second)
    assert repository.is_ancestor(first, first)
    assert not repository.is_ancestor(second, first)


def test_a_checkout_is_detached_clean_and_has_the_commits_time(project: GitProject, tmp_path: Path) -> None:
    first = project.commit({"bin/run": "#!/bin/sh\n", "deep/er/file": "x"})
    project.commit({"bin/run": "later"})
    folder = tmp_path / "checkout"
    opened(project, tmp_path).checkout(first, folder)
    assert (folder / "bin/run").read_text() == "#!/bin/sh\n"
    assert os.access(folder / "bin/run", os.X_OK)
    times = {path.lstat().st_mtime for path in folder.rglob("*") if ".git" not in path.relative_to(folder).parts}
    assert times == {git.commit_epoch(folder)} == {START + 7200}
    status = subprocess.run(["git", "-C", folder, "status", "--short", "--branch"], capture_output=True, check=True)
    assert status.stdout == b"## HEAD (no branch)\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare.git", "bare.git.lock", "checkout", "project"]


def test_a_checkout_needs_an_empty_folder(project: GitProject, tmp_path: Path) -> None:
    repository, head = opened(project, tmp_path), project.git("rev-parse", "HEAD")
    (tmp_path / "checkout").mkdir()
    repository.checkout(head, tmp_path / "checkout")
    with pytest.raises(SourceError, match="not empty"):
        repository.checkout(head, tmp_path / "checkout")


def test_nothing_of_the_users_git_settings_or_hooks_is_run(
    project: GitProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "trap"
    hooks = tmp_path / "template" / "hooks"
    hooks.mkdir(parents=True)
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {trap}\n")
        (hooks / name).chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        f"[init]\n\ttemplateDir = {tmp_path}/template\n[core]\n\thooksPath = {hooks}\n\tfsmonitor = 'touch {trap}'\n"
        f'[filter "trap"]\n\tsmudge = touch {trap}\n[url "/nowhere"]\n\tinsteadOf = {project.folder}\n'
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(tmp_path / "template"))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    sha = project.commit({".gitattributes": "* filter=trap\n", "a": "1"})
    opened(project, tmp_path).checkout(sha, tmp_path / "checkout")
    assert (tmp_path / "checkout" / "a").read_text() == "1"
    assert not trap.exists()


def test_submodules_are_refused_by_name(project: GitProject, tmp_path: Path) -> None:
    head = project.git("rev-parse", "HEAD")
    project.git("update-index", "--add", "--cacheinfo", f"160000,{head},vendor/wheels")
    project.git("commit", "--quiet", "--message", "Borrow wheels")
    sha = project.git("rev-parse", "HEAD")
    with pytest.raises(SourceError, match="has submodules: vendor/wheels"):
        opened(project, tmp_path).checkout(sha, tmp_path / "checkout")
    assert not (tmp_path / "checkout").exists()


def test_files_in_git_lfs_are_refused_by_name(project: GitProject, tmp_path: Path) -> None:
    sha = project.commit({".gitattributes": "*.bin filter=lfs\n", "photo.bin": "version https://git-lfs…\n"})
    with pytest.raises(SourceError, match=r"Git LFS: photo\.bin"):
        opened(project, tmp_path).checkout(sha, tmp_path / "checkout")


def test_a_file_is_read_at_its_commit(project: GitProject, tmp_path: Path) -> None:
    first = project.commit({"docs/training [1].md": b"# Bikes\xff"})
    project.commit({"docs/training [1].md": "later"})
    assert opened(project, tmp_path).read(first, "docs/training [1].md") == b"# Bikes\xff"


@pytest.mark.parametrize("path", ["none.md", "docs", "../project/README.md", "link", ":/README.md", "-z", "*.md"])
def test_what_is_no_file_of_the_commit_is_refused(project: GitProject, tmp_path: Path, path: str) -> None:
    (project.folder / "link").symlink_to("/etc/passwd")
    sha = project.commit({"docs/a.md": "x"})
    with pytest.raises(SourceError):
        opened(project, tmp_path).read(sha, path)


@pytest.mark.parametrize(
    "url",
    ["", "http://example.com/a.git", "ext::sh -c touch%20/tmp/x", "fd::17", "ftp://example.com/a", "file:relative",
     "project", "--upload-pack=touch", "-oProxyCommand=x:y", "ssh://-oProxyCommand=touch/x", "https://", "../project", "https://[",
     "ssh://host/a b", "https://example.com/a\n.git", "file::/tmp/x"],
)  # fmt: skip
def test_an_address_that_is_not_of_an_allowed_kind_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(SourceError, match="fetched by https, ssh, file, git only"):
        open_repository(url, tmp_path / "bare.git")
    assert not (tmp_path / "bare.git").exists()


def test_a_repository_that_is_not_there_is_refused_with_gits_reason(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"file:///nowhere/at/all cannot be fetched: .*does not appear to be a git"):
        open_repository("file:///nowhere/at/all", tmp_path / "bare.git")


def test_a_server_that_does_not_answer_is_worth_another_try(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="cannot be fetched"):
        open_repository("git://127.0.0.1:1/bikes.git", tmp_path / "bare.git")


def test_a_git_that_hangs_is_stopped(project: GitProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_command, "_LOCAL_TIMEOUT_SECONDS", 0.0)
    monkeypatch.setattr(git, "_FETCH_TIMEOUT_SECONDS", 0.0)
    with pytest.raises(TransientError, match="longer than 0 s"):
        opened(project, tmp_path)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://ci:t0ken@example.com:8443/a.git", "https://example.com:8443/a.git"),
        ("https://t0ken@example.com/a.git", "https://example.com/a.git"),
        ("ssh://git:pw@example.com/a.git", "ssh://git@example.com/a.git"),
        ("ssh://git@example.com/a.git", "ssh://git@example.com/a.git"),
        ("git@example.com:team/a.git", "git@example.com:team/a.git"),
        ("/srv/git/a@b.git", "/srv/git/a@b.git"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    assert public_url(url) == shown


def test_the_lines_that_a_commit_changes_are_known_by_file(project: GitProject, tmp_path: Path) -> None:
    project.commit({"a.py": "one\ntwo\nthree\n", "gone.py": "x\n", "naïve.py": "1\n", "b.bin": "\x00\x01"})
    before = project.git("rev-parse", "HEAD")
    project.git("rm", "--quiet", "gone.py")
    after = project.commit({"a.py": "one\n+++ b/evil.py\nthree\nfour", "new/c.py": "1\n2\n", "naïve.py": "2\n"})
    repository = opened(project, tmp_path)
    assert repository.changed_lines(before, after) == {
        "a.py": frozenset({2, 4}),
        "naïve.py": frozenset({1}),
        "new/c.py": frozenset({1, 2}),
    }
    assert repository.changed_lines(after, after) == {}
    first = repository.changed_lines(None, after)
    assert (first["a.py"], first["README.md"]) == (frozenset({1, 2, 3, 4}), frozenset({1}))
