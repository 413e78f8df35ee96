from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

from interlock.adapters.build.sandbox_view import TOOLS
from interlock.adapters.private_files import write_private
from interlock.estate.airflow.home import airflow_environment
from interlock.estate.settings import Settings
from interlock.estate.stack.postgres import connection_file, secrets_folder


def test_environment_does_not_depend_on_who_starts_the_stack(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path)
    calm = {"PATH": "/bin", "HOME": "/home/me"}
    noisy = {
        **calm,
        "AIRFLOW_HOME": "/elsewhere",
        "AIRFLOW__CORE__EXECUTOR": "SequentialExecutor",
        "PYTHONPATH": "/elsewhere",
        "PYTHONHOME": "/elsewhere",
        "MAKEFLAGS": "-j8",
        "GIT_DIR": "/elsewhere/.git",
        "INTERLOCK_STATE": "/elsewhere",
    }
    assert airflow_environment(settings, noisy) == airflow_environment(settings, calm)


def test_secrets_are_in_files_and_not_in_the_environment(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path / "with blanks")
    write_private(connection_file(settings), "postgresql://user:password@host/db")
    environment = airflow_environment(settings, {})
    files = list(secrets_folder(settings).iterdir())
    assert len(files) == 4
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert not any(file.read_text() in value for value in environment.values())
    for name in ("AIRFLOW__CORE__FERNET_KEY_CMD", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD"):
        said = subprocess.run(["/bin/sh", "-c", environment[name]], capture_output=True, text=True, check=True)
        assert said.stdout in [file.read_text() for file in files]


def test_secrets_stay_the_same(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path)
    assert airflow_environment(settings, {}) == airflow_environment(settings, {})
    before = {file.name: file.read_text() for file in secrets_folder(settings).iterdir()}
    airflow_environment(settings, {})
    assert before == {file.name: file.read_text() for file in secrets_folder(settings).iterdir()}


def test_two_stacks_share_no_place_and_no_port(tmp_path: Path) -> None:
    one = Settings(state=tmp_path / "one")
    other = Settings(state=tmp_path / "other", network="127.40.0", airflow_port=9000, postgres_port=9001)
    first, second = airflow_environment(one, {}), airflow_environment(other, {})
    different = {name for name in first if first[name] != second[name]}
    assert {
        "INTERLOCK_STACK",
        "AIRFLOW_HOME",
        "AIRFLOW__API__PORT",
        "AIRFLOW__CORE__FERNET_KEY_CMD",
        "TMPDIR",
    } <= different
    assert second["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:9000/execution/"


def test_proxy_of_the_machine_is_kept_out_of_what_stays_here(tmp_path: Path) -> None:
    environment = airflow_environment(
        Settings(state=tmp_path), {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "corp"}
    )
    assert environment["HTTPS_PROXY"] == "http://proxy:3128"
    assert environment["NO_PROXY"].split(",")[:3] == ["corp", "127.0.0.1", "localhost"]
    assert "127.20.0.11" in environment["NO_PROXY"]


def test_builds_find_the_callers_tools_and_a_python_that_is_not_the_platforms(tmp_path: Path) -> None:
    found = airflow_environment(Settings(state=tmp_path), {TOOLS: "/opt/maven"})[TOOLS].split(":")
    assert found == ["/opt/maven", f"{sys.prefix}/builds"]
    builds_python = subprocess.run(
        [f"{found[1]}/bin/python3", "-c", "import pip, build, pytest, coverage, importlib.util as u; "
         "print([name for name in ('airflow', 'pydantic', 'moto') if u.find_spec(name)])"],
        capture_output=True, text=True, check=True, env={},
    )  # fmt: skip
    assert builds_python.stdout == "[]\n"
