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
SCRIPT = STATIC / "pages.js"


def test_the_script_is_built_from_these_sources() -> None:
    digest = hashlib.sha256()
    for name in ("package-lock.json", "build.mjs", *(f"src/{path.name}" for path in sorted((UI / "src").iterdir()))):
        digest.update(name.encode() + b"\0" + (UI / name).read_bytes() + b"\0")
    assert digest.hexdigest() in SCRIPT.read_text().splitlines()[0], "run make ui"


def test_building_it_again_gives_the_same_bytes(tmp_path: Path) -> None:
    shutil.copytree(UI, tmp_path / "ui", ignore=shutil.ignore_patterns("node_modules"))
    fetch_packages(tmp_path / "ui")
    for command in (["npm", "run", "--silent", "check"], ["node", "build.mjs", str(tmp_path / "pages.js")]):
        done = subprocess.run(command, cwd=tmp_path / "ui", capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "pages.js").read_bytes() == SCRIPT.read_bytes(), "run make ui"


def test_it_defines_each_page_that_is_registered() -> None:
    names = [one["name"] for one in InterlockPlugin.react_apps if one["bundle_url"].endswith("/pages.js")]
    exported = (UI / "src" / "main.tsx").read_text()
    assert names
    assert all(re.search(rf"\b{re.escape(name)}\b", exported) for name in names)
    for one in InterlockPlugin.react_apps:
        for file in filter(None, (one["bundle_url"], one.get("icon"), one.get("icon_dark_mode"))):
            assert (STATIC / file.removeprefix("interlock/static/")).is_file()


@pytest.mark.parametrize(
    "way", ["dangerouslySetInnerHTML", "innerHTML", "eval(", "new Function", "import(", "http://", "https://"]
)
def test_nothing_is_loaded_at_run_time_and_no_text_becomes_markup(way: str) -> None:
    assert way not in SCRIPT.read_text()
