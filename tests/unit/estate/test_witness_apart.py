"""The components that run tasks are started without sight of the API server's key, where the kernel lets them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from interlock.estate.airflow import witness
from interlock.estate.settings import Settings
from interlock.estate.stack import postgres


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(state=tmp_path)
    witness.prepare(made)
    return made


def seen(settings: Settings, script: str) -> str:
    """Return what a script prints that runs as a task does."""
    command = witness.apart(settings, ["sh", "-c", script])
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return (done.stdout + done.stderr).strip()


def test_the_key_is_made_once_and_its_public_half_is_for_all(settings: Settings) -> None:
    key, public = witness.folder(settings) / "witness.pem", witness.public_key(settings)
    before = key.read_bytes(), public.read_bytes()
    witness.prepare(settings)
    assert (key.read_bytes(), public.read_bytes()) == before
    assert (witness.folder(settings).stat().st_mode & 0o777, key.stat().st_mode & 0o777) == (0o700, 0o600)
    assert b"PUBLIC KEY" in before[1]


def test_a_task_sees_neither_key_nor_the_passwords_of_the_databases_owners(settings: Settings) -> None:
    owner = postgres.secrets_folder(settings) / "postgres_owner"
    owner.write_text("secret")
    looks = f"ls {witness.folder(settings)}; cat {owner}; cat {witness.public_key(settings)}"
    if not witness.can_be_apart():
        assert witness.apart(settings, ["true"]) == ("true",)
        return
    assert seen(settings, looks) == witness.public_key(settings).read_text().strip()


def test_a_task_cannot_undo_that_nor_look_into_the_api_servers_memory(settings: Settings) -> None:
    if not witness.can_be_apart():
        return
    folder = witness.folder(settings)
    said = seen(settings, f"umount {folder}; ls -A {folder}; cat /proc/{os.getpid()}/environ")
    assert "witness.pem" not in said
    assert f"/proc/{os.getpid()}/environ: Permission denied" in said


def test_a_task_is_whom_it_was(settings: Settings) -> None:
    script = f"{sys.executable} -c 'import os; print(os.getuid(), os.getgid())'"
    assert seen(settings, script) == f"{os.getuid()} {os.getgid()}"
