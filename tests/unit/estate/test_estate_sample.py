from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from interlock.domain.errors import SourceError
from interlock.estate.world.sample import SAMPLE, make_repository, read_history, tagged_commits


def git(repository: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", repository, *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    make_repository(tmp_path / "git" / "bike-shop.git")
    return tmp_path / "git" / "bike-shop.git"


def test_commits_are_the_same_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make_repository(tmp_path / "first.git")
    copy = shutil.copytree(SAMPLE, tmp_path / "sample", copy_function=shutil.copyfile)  # loses times and modes
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody Else")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    assert make_repository(tmp_path / "second.git", copy) == first
    assert list(first) == ["1.0.0", "1.1.0", "1.1.1", "1.2.0", "1.3.0", "1.4.0", "1.5.0", "1.6.0"]


def test_making_it_again_changes_nothing(repository: Path) -> None:
    before = git(repository, "for-each-ref")
    make_repository(repository)
    assert git(repository, "for-each-ref") == before
    assert [path.name for path in repository.parent.iterdir()] == ["bike-shop.git"]


def test_moved_tag_is_put_back_and_a_colleagues_branch_is_kept(repository: Path) -> None:
    tags = tagged_commits(repository)
    git(repository, "tag", "--delete", "1.1.0")
    git(repository, "-c", "user.name=x", "-c", "user.email=x@x", "tag", "-a", "-m", "moved", "1.1.0", "1.0.0")
    git(repository, "branch", "experiment", "1.0.0")
    make_repository(repository)
    assert tagged_commits(repository) == tags
    assert git(repository, "rev-parse", "experiment").strip() == tags["1.0.0"]


def test_half_made_repository_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "bike-shop.git" / "objects").mkdir(parents=True)
    tags = make_repository(tmp_path / "bike-shop.git")
    assert tagged_commits(tmp_path / "bike-shop.git") == tags


def test_history_is_one_that_a_team_would_write(repository: Path) -> None:
    subjects = git(repository, "log", "--format=%s", "main").splitlines()
    assert all(re.fullmatch(r"(feat|fix|build|chore|refactor)(\([a-z]+\))?: .* \(SHOP-\d+\)", it) for it in subjects)
    assert len(set(git(repository, "log", "--format=%ae", "main").splitlines())) >= 3
    dates = [int(line) for line in git(repository, "log", "--reverse", "--format=%at", "main").splitlines()]
    assert dates == sorted(dates)
    for tag, before in (("1.1.0", "1.0.0"), ("1.2.0", "1.1.0"), ("1.3.0", "1.2.0")):
        assert int(git(repository, "rev-list", "--count", f"{before}..{tag}")) >= 3
    assert git(repository, "cat-file", "-t", "1.1.0").strip() == "tag"


def test_each_tag_names_its_version_and_hooks_are_executable(repository: Path) -> None:
    for tag in tagged_commits(repository):
        assert git(repository, "show", f"{tag}:VERSION").strip() == tag
        assert tag in git(repository, "show", f"{tag}:CHANGELOG.md")
        assert f"about {tag}" in git(repository, "show", f"{tag}:docs/training.md")
        hooks = git(repository, "ls-tree", tag, "bin/").splitlines()
        assert len(hooks) == (3 if tag < "1.4.0" else 6), "start, stop, validate; and three for the database"
        assert all(hook.startswith("100755 ") for hook in hooks)


def test_every_folder_of_the_sample_is_a_commit() -> None:
    assert sorted(path.name for path in (SAMPLE / "commits").iterdir()) == [it.folder for it in read_history()]


def test_missing_folder_is_told_by_name(tmp_path: Path) -> None:
    copy = shutil.copytree(SAMPLE, tmp_path / "sample")
    shutil.rmtree(copy / "commits" / "06-sell-bikes")
    with pytest.raises(SourceError, match="06-sell-bikes"):
        make_repository(tmp_path / "bike-shop.git", copy)
    assert not (tmp_path / "bike-shop.git").exists()
