"""A version is one commit: what the tags of a repository say of it, against what is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.adapters.source.git import Repository, open_repository
from interlock.domain.change.request import ReleaseRequest, parse_request
from interlock.domain.errors import RequestRefused
from interlock.locations import CATALOGUE
from interlock.stages.release.planning import _refuse_contradictions, _refuse_second_commit
from tests.git_project import GitProject, git_project


@pytest.fixture
def project(tmp_path: Path) -> GitProject:
    project = git_project(tmp_path / "project")
    project.commit({"README.md": "The shop\n"}, "Open the shop")
    return project


def opened(project: GitProject, tmp_path: Path) -> Repository:
    return open_repository(str(project.folder), tmp_path / "bare.git")


def asked(ref: str, version: str, **more: Any) -> ReleaseRequest:
    form = {"ref": ref, "version": version, "summary": "A summary", **more}
    return parse_request(form, policy=load_catalogue(CATALOGUE).policy)


@pytest.mark.parametrize("tag", ["1.2.0", "v1.2.0", "shop-1.2.0", "shop-v1.2.0", "shop/v1.2.0"])
def test_a_version_whose_tag_is_another_commit_is_refused(project: GitProject, tmp_path: Path, tag: str) -> None:
    project.git("tag", tag)
    tagged = project.git("rev-parse", "HEAD")
    head = project.commit({"a.txt": "a"})
    repository = opened(project, tmp_path)
    with pytest.raises(RequestRefused, match=f"The tag {tag} is commit {tagged[:12]}, but main is commit {head[:12]}"):
        _refuse_second_commit(repository, asked("main", "1.2.0"), "shop", head)
    _refuse_second_commit(repository, asked("main", "1.2.0"), "shop", tagged)
    _refuse_second_commit(repository, asked("main", "1.3.0"), "shop", head)


def test_the_tag_of_another_service_says_nothing(project: GitProject, tmp_path: Path) -> None:
    project.git("tag", "till-1.2.0")
    head = project.commit({"a.txt": "a"})
    _refuse_second_commit(opened(project, tmp_path), asked("main", "1.2.0"), "shop", head)


def test_a_branch_that_is_called_like_a_version_is_released_as_any(project: GitProject, tmp_path: Path) -> None:
    """What the repository has as a branch is none of a version's tags, however short it was written."""
    project.git("branch", "django-4.2.0")
    project.git("tag", "shop-4.2.0")
    repository = opened(project, tmp_path)
    branch, tag = asked("django-4.2.0", "1.3.0"), asked("shop-4.2.0", "1.3.0")
    _refuse_contradictions(branch, "minor", same_commit=False, ref=repository.full_name(branch.ref))
    with pytest.raises(RequestRefused, match=r"release it as 4\.2\.0.*if shop-4\.2\.0 is a branch, enter refs/heads/"):
        _refuse_contradictions(tag, "minor", same_commit=False, ref=repository.full_name(tag.ref))
