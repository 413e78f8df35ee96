"""The documentation names what there is, and its links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from interlock.adapters.catalogue.catalogue import load_catalogue, what_is_wrong
from interlock.console.auth.roles import ROLES
from interlock.domain.catalogue import Environment
from interlock.domain.hosts.appspec import parse_appspec
from interlock.domain.outcome.outcome import STAGES
from interlock.domain.records import Outcome
from interlock.estate.settings import VARIABLES, Settings
from interlock.stages.runtime.resources import CONNECTIONS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
TASKS = """
import json
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(dag_folder={folder!r}, bundle_name="test")
print("RESULT" + json.dumps([*bag.dags["release_bike_shop"].task_ids, *bag.dags["rollback_bike_shop"].task_ids]))
"""


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose(path: Path) -> str:
    """Return a page without its code blocks."""
    return FENCED.sub("", path.read_text(encoding="utf-8"))


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def names_whole(text: str, name: str) -> bool:
    """Say whether a text has a name in code, and not only as part of a longer one."""
    return re.search(rf"`[^`\n]*(?<![\w.-]){re.escape(name)}(?![\w-])[^`\n]*`", text) is not None


def targets() -> list[str]:
    return re.findall(r"^([a-z-]+):.*## ", page("Makefile"), re.MULTILINE)


def connections() -> set[str]:
    """Return every connection that a release may ask Airflow for, as delivered."""
    services = load_catalogue(ROOT / "include" / "catalogue").services.values()
    return {
        *CONNECTIONS,
        *(str(Environment.model_fields[field].default) for field in ("aws", "ssh")),
        *(service.source.connection for service in services),
        *(name for service in services for env in service.environments.values() for name in (env.aws, env.ssh)),
    }


def test_every_command_of_make_is_described() -> None:
    text = "\n".join(prose(path) for path in PAGES)
    assert "up" in targets()
    assert not [target for target in targets() if not names_whole(text, f"make {target}")]


def test_the_packages_that_the_tests_need_are_those_of_the_readme() -> None:
    needed = [line.split()[0] for line in page(".ci/packages").splitlines() if line and not line.startswith("#")]
    named = re.search(r"^apt-get install ((?:.+\\\n)*.+)$", page("README.md"), re.MULTILINE)
    assert named
    assert named[1].replace("\\", " ").split() == needed


def test_no_command_of_make_is_described_that_does_not_exist() -> None:
    described = {name for path in PAGES for name in re.findall(r"`make ([a-z-]+)", path.read_text(encoding="utf-8"))}
    # Not of our Makefile: what the build tool of that name runs for a service.
    of_a_cluster = {name for name in described if name.removeprefix("cluster-") in targets()}
    assert described - {"test"} - of_a_cluster <= set(targets())


def test_every_setting_is_described_with_its_default() -> None:
    text = page("docs/platform-engineer.md")
    for field, variable in VARIABLES.items():
        row = re.search(rf"^\| `{variable}` \| (.+?) \|", text, re.MULTILINE)
        assert row, f"{variable} has no row in docs/platform-engineer.md"
        default = Settings.model_fields[field].default
        shown = str(default.relative_to(ROOT)) if isinstance(default, Path) else str(default)
        assert shown in row[1], f"{variable}: {shown} is not the default that is described"


def test_no_setting_is_described_that_does_not_exist() -> None:
    named = {name for path in PAGES for name in re.findall(r"INTERLOCK_[A-Z_]+\b", path.read_text(encoding="utf-8"))}
    of_processes = {
        "INTERLOCK_DAGS",
        "INTERLOCK_STACK",
        "INTERLOCK_ADDRESS",
        "INTERLOCK_SHARED",
        "INTERLOCK_STEP",
        "INTERLOCK_LEDGER_ADMIN_URL",
        "INTERLOCK_LEDGER_OWNER_URL",
        "INTERLOCK_BUILD_TOOLS",
        "INTERLOCK_CALENDAR_COPIES",
        "INTERLOCK_API_SERVERS",
        "INTERLOCK_LOGIN_LIMITS_URL_FILE",
        "INTERLOCK_BUILD_QUEUE",
        "INTERLOCK_WITNESS_KEY",
        "INTERLOCK_WITNESS_LEDGER_URL_FILE",
        "INTERLOCK_WITNESS_PUBLIC_KEY",
        "INTERLOCK_URL",
        "INTERLOCK_USER",
        "INTERLOCK_PASSWORD",
        "INTERLOCK_",
    }
    assert named - of_processes <= set(VARIABLES.values())


def test_every_connection_is_described_and_delivered() -> None:
    settings = yaml.safe_load(page("airflow_settings.yaml"))
    delivered = {entry["conn_id"] for entry in settings["airflow"]["connections"]}
    described = set(re.findall(r"^\| `(\w+)` \|", page("docs/platform-engineer.md"), re.MULTILINE))
    assert connections() <= delivered
    assert delivered <= described


def test_every_role_is_described() -> None:
    text = page("docs/platform-engineer.md")
    assert not [role for role in ROLES if f"| `{role}` |" not in text]


def test_every_outcome_is_described() -> None:
    outcomes = Outcome.model_json_schema()["properties"]["outcome"]["enum"]
    text = page("docs/release-manager.md")
    assert not [outcome for outcome in outcomes if not names_whole(text, outcome)]


def test_every_stage_and_every_task_of_a_release_is_in_the_architecture(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TASKS.format(folder=str(ROOT / "dags"))],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "include"),
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "INTERLOCK_CATALOGUE": "",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
    )
    found = re.search(r"^RESULT(.+)$", done.stdout, re.MULTILINE)
    assert found, done.stderr[-3000:]
    tasks = json.loads(found[1])
    text = page("docs/architecture.md")
    assert {task.partition(".")[0] for task in tasks} == set(STAGES)
    assert not [stage for stage in STAGES if f"| {stage} | `{stage}." not in text]
    assert not [task for task in tasks if not names_whole(text, task)]
    documented = set(re.findall(rf"`((?:{'|'.join(STAGES)})\.[a-z_0-9]+)`", text))
    assert documented <= set(tasks), "a task is described that does not exist"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_between_the_pages_lead_somewhere(path: Path) -> None:
    for link in LINK.findall(prose(path)):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.is_file() or (target.is_dir() and not anchor), f"{link} leads nowhere"
        assert target.is_relative_to(ROOT), f"{link} leads out of the project"
        assert not anchor or anchor in anchors(target), f"{link}: {target.name} has no such heading"


def test_the_way_in_leads_to_every_page() -> None:
    linked = {
        (path.parent / link.partition("#")[0]).resolve()
        for path in (ROOT / "README.md", ROOT / "docs" / "architecture.md")
        for link in LINK.findall(prose(path))
        if "://" not in link
    }
    assert not [path for path in PAGES[1:] if path.resolve() not in linked]
    assert (ROOT / "docs" / "images" / "release.png").resolve() in linked


def test_the_service_of_the_walk_through_is_one_that_the_catalogue_takes(tmp_path: Path) -> None:
    spec, service, connections = (
        text for text in re.findall(r"^```yaml\n(.*?)^```$", page("docs/walk-through.md"), re.MULTILINE | re.DOTALL)
    )
    assert [*parse_appspec(spec).hooks] == ["ApplicationStop", "ApplicationStart", "ValidateService"]
    folder = Path(shutil.copytree(ROOT / "include" / "catalogue", tmp_path / "catalogue"))
    (folder / "services" / "datasette.yaml").write_text(service, encoding="utf-8")
    assert [fault.partition(". Rule")[0] for fault in what_is_wrong(folder)] == [
        'services/datasette.yaml, line 14, build.registries.0: found "pypi"; allowed: a registry that '
        "builds.registries of policy.yaml allows for it (its owner can add one): none"
    ]
    policy = folder / "policy.yaml"
    changed = policy.read_text(encoding="utf-8").replace("\n  registries: []", "\n  registries: [pypi]")
    licences = "allowed_licences: [MPL-2.0, BSD, BSD License, Public Domain, "
    policy.write_text(changed.replace("allowed_licences: [", licences, 1), encoding="utf-8")
    assert what_is_wrong(folder) == []
    named = {one["conn_id"] for one in yaml.safe_load(connections)}
    found = load_catalogue(folder).services["datasette"]
    assert named == {found.source.connection, *found.build.registries}
