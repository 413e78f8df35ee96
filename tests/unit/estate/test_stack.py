from __future__ import annotations

import fcntl
import io
from pathlib import Path

import pytest
from rich.console import Console

from interlock.cli.app import main
from interlock.estate.airflow.home import airflow_environment
from interlock.estate.settings import Settings
from interlock.estate.stack import stack
from interlock.estate.steps import StackError, Steps, show_failure


def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def printed(to: Console) -> str:
    assert isinstance(to.file, io.StringIO)
    return to.file.getvalue()


def test_folder_of_somebody_elses_is_not_taken_for_the_state(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(StackError, match="not empty and not the state"):
        stack.claim(Settings(state=tmp_path))
    with pytest.raises(StackError, match="not empty and not the state"):
        stack.reset(Settings(state=tmp_path))
    assert (tmp_path / "thesis.tex").exists()


def test_folder_that_cannot_be_made_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match="cannot be the folder of the state: Not a directory"):
        stack.claim(Settings(state=tmp_path / "file" / "state"))


def test_state_folder_is_closed_to_others_and_can_be_thrown_away(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path / "state")
    stack.claim(settings)
    stack.claim(settings)
    assert settings.state.stat().st_mode & 0o077 == 0
    stack.reset(settings)
    assert not settings.state.exists()


def test_only_one_may_start_or_stop_a_stack_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(state=tmp_path / "state")
    stack.claim(settings)
    monkeypatch.setattr(stack.time, "sleep", lambda seconds: None)
    with (settings.run / "lock").open("a+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write("4711")
        other.flush()
        with pytest.raises(StackError, match=r"Another make works on the stack .*pid 4711"), stack.only_one(settings):
            pass
    with stack.only_one(settings):
        pass


def test_stack_with_other_settings_is_another_stack(tmp_path: Path) -> None:
    one = Settings(state=tmp_path)
    other = one.model_copy(update={"production_hosts": 5})
    prints = [stack.fingerprint(settings, airflow_environment(settings, {})) for settings in (one, one, other)]
    assert prints[0] == prints[1] != prints[2]


def test_provisioning_is_needed_until_it_was_done_with_what_there_is(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path / "state", catalogue=tmp_path / "catalogue")
    stack.claim(settings)
    (settings.catalogue / "services").mkdir(parents=True)
    assert stack.provision_needed(settings)
    (settings.run / "provisioned").write_text(stack.provision_digest(settings))
    assert not stack.provision_needed(settings)
    (settings.catalogue / "services" / "new.yaml").write_text("name: new")
    assert stack.provision_needed(settings)


def test_stopping_what_never_ran_is_nothing(tmp_path: Path) -> None:
    assert stack.down(Settings(state=tmp_path / "never")) == 0
    assert not (tmp_path / "never").exists()


def test_step_says_how_long_it_took_and_failure_shows_the_log(tmp_path: Path) -> None:
    to = console()
    with Steps(to).step("PostgreSQL") as say:
        say("[nearly] there")
    assert "✓ PostgreSQL" in printed(to)
    log = tmp_path / "postgres.log"
    log.write_text("\n".join(f"line {number} [x]" for number in range(100)))
    show_failure(to, StackError("postgres does not start.", log=log))
    assert "✗ postgres does not start." in printed(to)
    assert "line 99 [x]" in printed(to)
    assert "line 50" not in printed(to)


def test_failed_step_is_not_ticked_off() -> None:
    to = console()
    with pytest.raises(RuntimeError), Steps(to).step("PostgreSQL"):
        raise RuntimeError
    assert "✓" not in printed(to)


def test_wrong_setting_is_told_in_a_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERLOCK_AIRFLOW_PORT", "http")
    assert main(["stack", "up"]) == 1
    assert "INTERLOCK_AIRFLOW_PORT is 'http'" in capsys.readouterr().out
