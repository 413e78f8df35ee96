"""The pages made with React: their script is built from the sources here, and loads nothing from elsewhere."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from interlock.locations import PACKAGE
from interlock.plugin import InterlockPlugin
from tests.npm import fetch_packages

UI, STATIC = PACKAGE / "console" / "ui", PACKAGE / "console" / "static"
SCRIPTS = [STATIC / name for name in ("calendar.js", "pages.js")]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_is_built_from_these_sources(script: Path) -> None:
    digest = hashlib.sha256()
    for name in ("package-lock.json", "build.mjs", *(f"src/{path.name}" for path in sorted((UI / "src").iterdir()))):
        digest.update(name.encode() + b"\0" + (UI / name).read_bytes() + b"\0")
    assert digest.hexdigest() in script.read_text().splitlines()[0], "run make ui"


def test_building_it_again_gives_the_same_bytes(tmp_path: Path) -> None:
    shutil.copytree(UI, tmp_path / "ui", ignore=shutil.ignore_patterns("node_modules"))
    fetch_packages(tmp_path / "ui")
    for command in (["npm", "run", "--silent", "check"], ["node", "build.mjs", str(tmp_path / "built")]):
        done = subprocess.run(command, cwd=tmp_path / "ui", capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    for built in (tmp_path / "built").iterdir():
        assert built.read_bytes() == (STATIC / built.name).read_bytes(), "run make ui"
    assert "fullcalendar" in (STATIC / "LICENSES.txt").read_text(), "what is in our scripts has its licence beside it"


def test_no_script_of_a_page_is_written_by_hand() -> None:
    assert sorted(STATIC.glob("*.js")) == SCRIPTS
    assert not list(STATIC.glob("*.html"))
    assert InterlockPlugin.external_views == []


def test_it_defines_each_page_that_is_registered() -> None:
    sources = {"pages.js": "main.tsx", "calendar.js": "calendar.tsx"}
    for one in InterlockPlugin.react_apps:
        defined = (UI / "src" / sources[one["bundle_url"].rpartition("/")[2]]).read_text().partition("Object.assign")[2]
        assert re.search(rf"\b{re.escape(one['name'])}\b", defined), one["name"]
    for one in InterlockPlugin.react_apps:
        for file in filter(None, (one["bundle_url"], one.get("icon"), one.get("icon_dark_mode"))):
            assert (STATIC / file.removeprefix("interlock/static/")).is_file()


@pytest.mark.parametrize("way", ["eval(", "new Function", "import("])
def test_nothing_is_loaded_at_run_time(way: str) -> None:
    assert [script.name for script in SCRIPTS if re.search(rf"(?<![\w.]){re.escape(way)}", script.read_text())] == []


@pytest.mark.parametrize("way", ["dangerouslySetInnerHTML", "innerHTML", "http://", "https://"])
def test_no_text_becomes_markup(way: str) -> None:
    sources = "".join(path.read_text() for path in (UI / "src").glob("*.ts*") if path.name != "api.ts")
    assert way not in sources + (STATIC / "pages.js").read_text()
