"""A catalogue in a repository of its own: which commit a release is bound to."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree, rmtree

import pytest

from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.adapters.catalogue.commits import commit_of
from interlock.adapters.catalogue.pulled import KEPT, pull
from interlock.cli.app import main
from interlock.domain.catalogue import ChangeType
from interlock.domain.change.amended import Amended
from interlock.domain.change.effective import bound_to
from interlock.domain.errors import CatalogueError, ReleaseError
from interlock.domain.ledger.kinds import POLICY_RESOLVED, RULES_AMENDED
from interlock.locations import CATALOGUE
from interlock.stages.approvals import amended
from interlock.stages.runtime import resources
from tests.git_project import GitProject, git_project
from tests.running_task import RunningTask, running_task


@pytest.fixture
def repository(tmp_path: Path) -> GitProject:
    """A repository with a catalogue, in a folder of it."""
    project = git_project(tmp_path / "rules")
    copytree(CATALOGUE, project.folder / "catalogue")
    project.commit({"README.md": "Our rules\n"})
    return project


def test_the_commit_is_that_of_the_folder_of_the_catalogue(repository: GitProject, tmp_path: Path) -> None:
    folder = repository.folder / "catalogue"
    first = repository.git("rev-parse", "HEAD")
    assert commit_of(folder) == first
    (repository.folder / "notes.txt").write_text("beside the catalogue\n")
    assert commit_of(folder) == first, "what is beside the catalogue does not matter"
    (folder / "policy.yaml").write_text((folder / "policy.yaml").read_text() + "# more\n")
    assert commit_of(folder) == f"{first}-edited"
    second = repository.commit({})
    assert commit_of(folder) == second != first
    (folder / "services" / "new.yaml").write_text("name: new\n")
    assert commit_of(folder) == f"{second}-edited", "a file that nobody reviewed"


def test_a_checkout_that_is_exchanged_as_a_whole_is_followed(repository: GitProject, tmp_path: Path) -> None:
    current = tmp_path / "current"  # as git-sync has it: a link to the work tree of a commit
    commits = []
    for number in (1, 2):
        commits.append(repository.commit({"catalogue/calendars/more.txt": str(number)}))
        repository.git("worktree", "add", "--quiet", "--detach", str(tmp_path / commits[-1]))
        (tmp_path / "next").symlink_to(tmp_path / commits[-1])
        (tmp_path / "next").replace(current)
        assert commit_of(current / "catalogue") == commits[-1]


def test_a_commit_that_is_pulled_is_in_force_as_a_whole_and_a_faulty_one_is_not(
    repository: GitProject, tmp_path: Path
) -> None:
    place, url = tmp_path / "place", repository.folder.as_uri()
    first = repository.git("rev-parse", "HEAD")
    assert pull(url, place, below="catalogue") == (first, place / "current" / "catalogue", True)
    assert pull(url, place, below="catalogue") == (first, place / "current" / "catalogue", False)
    opened = (place / "current").resolve()  # by something that reads it meanwhile
    faulty = repository.commit({"catalogue/policy.yaml": "thresholds: nonsense\n"})
    with pytest.raises(CatalogueError, match=f"(?s){faulty}.*not taken. {first} stays in force.*policy.yaml"):
        pull(url, place, below="catalogue")
    assert commit_of(place / "current" / "catalogue") == first
    mended = repository.commit({"catalogue/policy.yaml": (CATALOGUE / "policy.yaml").read_text()})
    assert pull(url, place, below="catalogue").commit == mended
    assert load_catalogue(place / "current" / "catalogue").services
    assert commit_of(place / "current" / "catalogue") == mended
    assert opened.is_dir(), "what began to read the commit before goes on reading it"
    later = [pull(url, place, ref=ref, below="catalogue").commit for ref in (first, mended)]
    assert later == [first, mended]
    for number in range(KEPT + 1):
        repository.commit({"README.md": str(number)})
        pull(url, place, below="catalogue")
    assert len(list((place / "commits").iterdir())) == KEPT


@pytest.mark.parametrize("below", ["../..", "/etc", "nothing"])
def test_a_catalogue_outside_of_its_commit_is_refused(repository: GitProject, tmp_path: Path, below: str) -> None:
    with pytest.raises(ReleaseError):
        pull(repository.folder.as_uri(), tmp_path / "place", below=below)
    assert not (tmp_path / "place" / "current").exists()


def test_the_command_says_what_is_in_force_and_fails_if_a_commit_was_not_taken(
    repository: GitProject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["catalogue", "pull", repository.folder.as_uri(), str(tmp_path / "place"), "--below", "catalogue"]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith(f"In force: {repository.git('rev-parse', 'HEAD')}, in ")
    repository.commit({"catalogue/board.yaml": "people: 7\n"})
    assert main(command) == 1
    assert "board.yaml" in capsys.readouterr().out
    assert main([*command[:2], str(tmp_path / "nowhere"), *command[3:]]) == 1


def test_a_folder_without_a_repository_has_no_commit(tmp_path: Path, repository: GitProject) -> None:
    assert commit_of(tmp_path) == ""
    assert commit_of(tmp_path / "nowhere") == ""
    rmtree(repository.folder / ".git")
    assert commit_of(repository.folder / "catalogue") == ""


def test_what_a_repository_says_of_programs_is_not_run(repository: GitProject, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    repository.git("config", "core.fsmonitor", f"touch {mark}; false")
    assert commit_of(repository.folder / "catalogue")
    assert not mark.exists()


def test_a_release_records_the_commits_that_it_saw(repository: GitProject, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = repository.folder / "catalogue"
    monkeypatch.setenv("INTERLOCK_CATALOGUE", str(folder))
    began = bound_to(resources.catalogue_of("bike-shop"), ChangeType.NORMAL)
    text = (folder / "services" / "bike-shop.yaml").read_text()
    changed = repository.commit(
        {"catalogue/services/bike-shop.yaml": text.replace("max_p95_ms: 800", "max_p95_ms: 700")}
    )
    with running_task("rollout.await_board", monkeypatch) as running:
        task: RunningTask = running
        task.knows(POLICY_RESOLVED, began)
        (one,) = amended.note(resources.catalogue_of("bike-shop"))
        (seen,) = (Amended.model_validate(payload) for kind, payload in task.recorded if kind == RULES_AMENDED)
    assert (one.key, one.effect) == ("thresholds.max_p95_ms", "asked")
    assert seen.commit == changed
