from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from interlock.adapters.catalogue.catalogue import load_catalogue, load_service, what_is_wrong
from interlock.adapters.catalogue.schemas import schema_texts, write_schemas
from interlock.cli.app import main
from interlock.domain.catalogue import ChangeType, Prebuilt
from interlock.domain.change.policy import resolve_policy
from interlock.domain.change.request import form_fields
from interlock.domain.errors import CatalogueError
from interlock.locations import CATALOGUE

FILES = {
    "policy.yaml": "policy.schema.json",
    "board.yaml": "board.schema.json",
    "services/bike-shop.yaml": "service.schema.json",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A catalogue of the test's own: the project's, to be changed."""
    return Path(shutil.copytree(CATALOGUE, tmp_path / "catalogue"))


def edit(folder: Path, name: str, *changes: tuple[str, str], to: str = "") -> Path:
    """Replace text in a file, each exactly once; write it under another name if one is given."""
    text = (folder / name).read_text()
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / (to or name)
    path.write_text(text)
    return path


def line_of(path: Path, words: str) -> int:
    return next(number for number, line in enumerate(path.read_text().splitlines(), 1) if words in line)


# --- the project's own catalogue


def test_the_projects_catalogue_is_well() -> None:
    catalogue = load_catalogue(CATALOGUE)
    assert catalogue.broken == {}
    assert "bike-shop" in catalogue.services
    for service in catalogue.services.values():
        for kind in ChangeType:
            assert resolve_policy(catalogue.policy, service, kind).change_type is kind
    assert len([key for key in form_fields(catalogue.policy) if key.startswith("risk_")]) >= 3


def test_the_sample_is_what_the_demo_needs() -> None:
    catalogue = load_catalogue(CATALOGUE)
    shop = catalogue.services["bike-shop"]
    assert {person.user for person in catalogue.board.people} >= {"rita", "ben", "cora", "dan", "maya", "fay", "sam"}
    flows = {kind.value: (flow.board, flow.acceptance) for kind, flow in catalogue.policy.change_types.items()}
    assert flows == {"standard": (None, False), "normal": ("cab", True), "emergency": ("ecab", True)}
    assert [str(wave) for wave in shop.environments["production"].waves] == ["1 host", "100 %"]
    assert "/bikes" not in shop.load.paths  # the version before has no such page, and the load is compared with it
    in_force = resolve_policy(catalogue.policy, shop, ChangeType.NORMAL)
    assert set(in_force.sources.values()) == {"policy.yaml", "services/bike-shop.yaml"}


def test_the_schemas_are_current() -> None:
    found = {path.name: path.read_text() for path in (CATALOGUE / "schemas").glob("*.json")}
    assert found == schema_texts(), "run: make schemas"


@pytest.mark.parametrize(("name", "schema"), FILES.items())
def test_editors_find_the_schema_and_agree_with_it(name: str, schema: str) -> None:
    path = CATALOGUE / name
    marker, _, reference = path.read_text().splitlines()[0].partition("$schema=")
    assert marker == "# yaml-language-server: "
    assert (path.parent / reference).resolve() == (CATALOGUE / "schemas" / schema).resolve()
    validator = Draft202012Validator(json.loads((CATALOGUE / "schemas" / schema).read_text()))
    validator.check_schema(validator.schema)
    assert list(validator.iter_errors(yaml.safe_load(path.read_text()))) == []
    assert not validator.is_valid({**yaml.safe_load(path.read_text()), "surprise": 1})


# --- mistakes


def test_a_mistake_names_file_line_key_found_and_allowed(folder: Path) -> None:
    path = edit(folder, "services/bike-shop.yaml", ("tool: make", "tool: cmake"))
    message = load_catalogue(folder).broken["bike-shop"]
    assert message.startswith(
        f"services/bike-shop.yaml, line {line_of(path, 'cmake')}, build.tool: found \"cmake\"; allowed: 'make', 'ant', "
    )
    assert "Who can change it: the bike shop's development team." in message
    assert "check" in message


def test_all_mistakes_of_a_file_are_named_at_once(folder: Path) -> None:
    path = edit(
        folder,
        "services/bike-shop.yaml",
        ("tier: 2", "tier: yes"),
        ("owner:", "ownr:"),
        ("waves: [1, 100%]", "waves: [1, 50%]"),
        ("functional_approvers: [fay]", "functional_approvers: [fay, Zoe]"),
        ("PT10M", "10 minutes"),
        ("max_p95_ms: 800", "max_p95_ms: true"),
        ("{ path: /repairs }", "{ path: repairs, stauts: 200 }"),
        ("requests: 200", "requests: 200\n  requests: 100\n  again: *paths\n  tagged: !!str 3"),
    )
    message = load_catalogue(folder).broken["bike-shop"]
    assert message.startswith("services/bike-shop.yaml has 12 errors:\n")
    for words, expected in {
        "name: bike-shop": "owner: found nothing; allowed: a value is needed (The responsible team",
        "ownr:": "ownr: found an unknown key; allowed: name, title, description, owner,",
        "tier: yes": 'tier: found "yes"; allowed: a whole number (Criticality: 1 (business critical)',
        "10 minutes": 'build.time_limit: found "10 minutes"; must be an ISO 8601 duration, such as PT48H',
        "requests: 100": "load.requests: found the key requests a second time; allowed: each key once",
        "again:": "load.again: found the alias *paths; allowed: the value itself, without an alias",
        "tagged:": "load.tagged: found the tag tag:yaml.org,2002:str; allowed: the value without a tag",
        "path: repairs": 'smoke.2.path: found "repairs"; allowed: text that matches ^/',
        "stauts": "smoke.2.stauts: found an unknown key; allowed: path, status, contains (did you mean",
        "  production:": "environments.production: the last wave must be 100%, so that all hosts get the release",
        "Zoe": 'functional_approvers.1: found "Zoe"; allowed: text that matches ^[a-z]',
        "max_p95_ms": "policy.thresholds.max_p95_ms: found true; allowed: a number or a list, such as [a, b]",
    }.items():
        line = 1 if words == "name: bike-shop" else line_of(path, words)
        assert f"line {line}, {expected}" in message
    assert "the owner of services/bike-shop.yaml" in message


@pytest.mark.parametrize(
    ("service", "place"),
    [
        (("output: build/bundle", "output: build/bundle\n  registries: [pypi, company_npm]"), "build.registries.1"),
        (
            ("time_limit: PT5M", "time_limit: PT5M\n    registries: [company_npm]"),
            "suites.integration.registries.0",
        ),
    ],
    ids=["build", "suite"],
)
def test_a_registry_that_the_policy_does_not_open_is_refused(
    folder: Path, service: tuple[str, str], place: str
) -> None:
    edit(folder, "policy.yaml", ("registries: []", "registries: [pypi]"))
    edit(folder, "services/bike-shop.yaml", service)
    message = load_catalogue(folder).broken["bike-shop"]
    assert f'{place}: found "company_npm"; allowed: a registry that builds.registries of policy.yaml allows' in message
    edit(folder, "policy.yaml", ("registries: [pypi]", "registries: [pypi, company_npm]"))
    assert load_catalogue(folder).broken == {}


def test_a_broken_service_leaves_the_others(folder: Path) -> None:
    edit(folder, "services/bike-shop.yaml", ("\nname: bike-shop", "\nname: bakery"), to="services/bakery.yaml")
    edit(folder, "services/bike-shop.yaml", ("tier: 2", "tier: 9"))
    catalogue = load_catalogue(folder)
    assert list(catalogue.services) == ["bakery"]
    assert list(catalogue.broken) == ["bike-shop"]
    assert load_service(folder, "bakery").services == catalogue.services
    with pytest.raises(CatalogueError, match="tier: found 9"):
        load_service(folder, "bike-shop")


@pytest.mark.parametrize(
    ("change", "place", "said"),
    [
        (
            ("\nname: bike-shop", "\nname: shop"),
            "name",
            'found "shop"; allowed: the name of the file without .yaml, bike',
        ),
        (
            ("fay]", "fay, zoe]"),
            "functional_approvers.1",
            'found "zoe"; allowed: a person listed in board.ya',
        ),
        (("[sam]", "[tom]"), "training.acknowledge.service-desk.0", 'found "tom"; allowed: a person listed in'),
        (("business_unit: retail", "business_unit: retial"), "business_unit", "a business unit of policy.yaml: retail"),
        (
            ("max_p95_ms: 800", "max_p95_ms: 1200"),
            "policy.thresholds.max_p95_ms",
            "found 1200; allowed: 1000 or less, as policy.yaml business_units.retail has it",
        ),
        (
            ("max_p95_ms: 800", "min_testes: 8"),
            "policy.thresholds.min_testes",
            "found 8; allowed: one of min_tests, max_failed_tests,",
        ),
    ],
)
def test_a_service_is_held_against_policy_and_board(
    folder: Path, change: tuple[str, str], place: str, said: str
) -> None:
    path = edit(folder, "services/bike-shop.yaml", change)
    message = load_catalogue(folder).broken["bike-shop"]
    assert f"line {line_of(path, change[1].strip())}, {place}: " in message
    assert said in message


@pytest.mark.parametrize(
    ("settings", "words", "place", "said"),
    [
        ("strategy: heroic", "strategy:", "strategy", "'rolling', 'canary'"),
        ("strategy: canary", "  production:", "", "strategy: canary needs its settings here"),
        ("canary: { bake: PT1M }", "canary:", "canary", "goes with strategy: canary, and the strategy is rolling"),
        ("strategy: canary\n    canary:\n      traffic: 60%", "traffic: 60%", "canary.traffic", "from 1% to 45%"),
        ("strategy: canary\n    canary:\n      bakes: PT1M", "bakes:", "canary.bakes", "bake"),
        ("on_failure: back_out\n    guidance: {}", "guidance:", "guidance", "goes with on_failure: ask"),
    ],
)
def test_a_strategy_that_is_wrong_is_named_with_its_line(
    folder: Path, settings: str, words: str, place: str, said: str
) -> None:
    change = ("    keep_releases: 3\n", f"    keep_releases: 3\n    {settings}\n")
    path = edit(folder, "services/bike-shop.yaml", change)
    message = load_catalogue(folder).broken["bike-shop"]
    dotted = f"environments.production{'.' if place else ''}{place}"
    assert f"line {line_of(path, words)}, {dotted}: " in message
    assert said in message


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (
            "policy.yaml",
            ("board: cab", "board: bac"),
            'change_types.normal.board: found "bac"; allowed: a board of board',
        ),
        (
            "policy.yaml",
            ("max_p95_ms: 1000", "max_p95_ms: 9000"),
            "business_units.retail.thresholds.max_p95_ms: found 9000; allowed: 1500 or less, as policy.yaml has it",
        ),
        ("policy.yaml", ("owner:", "ownr:"), "owner: found nothing"),
        (
            "board.yaml",
            ("senior_management: [maya]", "senior_management: []"),
            "senior_management: found no person; allowed",
        ),
        ("board.yaml", ("user: dan", "user: don"), "the whole file: dan is not listed under people"),
    ],
)
def test_a_broken_policy_or_board_is_an_error(folder: Path, name: str, change: tuple[str, str], said: str) -> None:
    edit(folder, name, change)
    for load in (load_catalogue, lambda folder: load_service(folder, "bike-shop")):
        with pytest.raises(CatalogueError) as error:
            load(folder)
        assert str(error.value).startswith(name)
        assert said in str(error.value)


OWN = "  thresholds:\n    max_skipped"
RULES = "\nrules:\n  - name: risky"
OF_RULE = "\nrules:\n  - { name: extra, %s }\n  - name: risky"


@pytest.mark.parametrize(
    ("change", "words", "said"),
    [
        (
            ("approvals: 2\n      veto: [cora]", "approvals: 4\n      veto: [cora]"),
            "approvals: 4",
            "boards.cab.quorum.approvals: found 4 approvals; allowed: at most 3 (members: ben, cora and dan)",
        ),
        (
            ("      veto: [cora]", "      require: { security: 2 }\n      veto: [cora]"),
            "security: 2",
            "boards.cab.quorum.require.security: found 2 approvals; allowed: at most 1 (members in the role security:",
        ),
        (
            ("      veto: [cora]", "      veto: [maya]"),
            "veto: [maya]",
            "boards.cab.quorum.veto.0: found maya; allowed: a member: ben, cora or dan",
        ),
        (
            ("      veto: [cora]", "      veto_roles: [audit]"),
            "veto_roles: [audit]",
            "boards.cab.quorum.veto_roles.0: found audit; allowed: a role of a member: operations, security or",
        ),
        (
            (RULES, OF_RULE % "members: [ben, dan], quorum: { approvals: 3 }"),
            "name: extra",
            "rules.0.quorum.approvals: found 3 approvals; allowed: at most 2 (members: ben and dan)",
        ),
        (
            (RULES, OF_RULE % "board: bac"),
            "name: extra",
            'rules.0.board: found "bac"; allowed: a board of board.yaml: cab or ecab',
        ),
        (
            (RULES, OF_RULE % "board: ecab, when: { services: [bike-shoe] }"),
            "name: extra",
            "rules.0.when.services.0: found bike-shoe; allowed: one of bike-shop",
        ),
        (
            (RULES, OF_RULE % "board: ecab, when: { business_units: [retial] }"),
            "name: extra",
            "rules.0.when.business_units.0: found retial; allowed: one of retail",
        ),
        (
            ("delegates: []", "delegates:\n  - { for: cora, to: ben, from: 2026-12-01, until: 2026-12-14 }"),
            "for: cora, to: ben",
            "delegates.0.to: found ben; allowed: a person who is not on the same board as cora: a person has one vote",
        ),
    ],
)
def test_more_votes_than_people_and_names_of_nothing_are_refused_with_their_place(
    folder: Path, change: tuple[str, str], words: str, said: str
) -> None:
    path = edit(folder, "board.yaml", change)
    with pytest.raises(CatalogueError) as error:
        load_catalogue(folder)
    text = path.read_text().splitlines()
    lines = [number for number, line in enumerate(text, 1) if words in line and not line.startswith("#")]
    assert f"board.yaml, line {lines[0]}, {said}" in str(error.value)


def test_a_delegate_from_outside_the_board_is_taken(folder: Path) -> None:
    edit(
        folder,
        "board.yaml",
        ("delegates: []", "delegates:\n  - { for: cora, to: audrey, from: 2026-12-01, until: 2026-12-14 }"),
    )
    (delegation,) = load_catalogue(folder).board.delegates
    assert (delegation.for_, delegation.to) == ("cora", "audrey")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (
            "policy.yaml",
            (
                "        plan_approval_from_risk: 60",
                "        further_boards: [shop]\n        acceptance: true",
            ),
            'business_units.retail.change_types.normal.further_boards.0: found "shop"; allowed: a board of board.yaml',
        ),
        (
            "policy.yaml",
            ("plan_approval_from_risk: 60", "plan_approval_from_risk: 80"),
            "business_units.retail.change_types.normal.plan_approval_from_risk: found 80; "
            "allowed: 70 or less, as policy.yaml has it",
        ),
        (
            "services/bike-shop.yaml",
            (
                "  thresholds:\n    max_skipped",
                "  change_types: { normal: { acceptance: false } }\n  thresholds:\n    max_skipped",
            ),
            "policy.change_types.normal.acceptance: found false; allowed: true, as policy.yaml has it",
        ),
        (
            "services/bike-shop.yaml",
            (OWN, f"  time_limits: {{ acceptance: P3D }}\n{OWN}"),
            "policy.time_limits.acceptance: found P3D; allowed: P2D or less, as policy.yaml has it",
        ),
        (
            "services/bike-shop.yaml",
            (OWN, f"  board_rules: [{{ name: own, members: [fay, zoe], quorum: {{}} }}]\n{OWN}"),
            "policy.board_rules.0.members.1: found zoe; allowed: a person listed in board.yaml",
        ),
        (
            "services/bike-shop.yaml",
            (OWN, f"  board_rules: [{{ name: own, members: [fay], quorum: {{ approvals: 2 }} }}]\n{OWN}"),
            "policy.board_rules.0.quorum.approvals: found 2 approvals; allowed: at most 1",
        ),
    ],
)
def test_what_lower_levels_ask_is_held_against_policy_and_board(
    folder: Path, name: str, change: tuple[str, str], said: str
) -> None:
    path = edit(folder, name, change)
    wrong = what_is_wrong(folder)
    assert len(wrong) == 1
    words = next(line for line in change[1].splitlines() if line not in change[0].splitlines()).strip()
    assert wrong[0].startswith(f"{name}, line {line_of(path, words)}, {said}")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(b"", "the whole file: found nothing; allowed: keys with values", id="empty"),
        pytest.param(b"- a\n", 'the whole file: found ["a"]; allowed: keys with values', id="a list"),
        pytest.param(b"a: b\nc: \xff\n", "line 2: found the byte 0xff; allowed: text in UTF-8", id="not UTF-8"),
        pytest.param(b"a: b\n\tc: d\n", "line 2: not YAML: found a tab", id="a tab"),
        pytest.param(b"a: b\nc: \x01\n", "line 2: not YAML: found '\\x01'; control characters", id="a bell"),
        pytest.param(b"a: b\n---\nc: d\n", "line 2: not YAML: a second document begins", id="two documents"),
        pytest.param(b"? [a]\n: b\n", "line 1: not YAML: a key that is not text", id="a list for a key"),
        pytest.param(b"a: " + b"[" * 100_000, "line 1: not YAML: nested more than 32 levels deep", id="too deep"),
        pytest.param(b"a: " + b"x" * 300_000, "line 1: found a larger file; allowed: 256 KiB", id="too large"),
        pytest.param(b"a: &x [1]\nb: [*x, *x]\n", "b.0: found the alias *x", id="aliases"),
        pytest.param(b"a: !!python/object:os.system x\n", "a: found the tag tag:yaml.org,2002:python/o", id="a tag"),
        pytest.param(b"tier: .inf\n", 'tier: found ".inf"; allowed: a whole number', id="infinity"),
        pytest.param(b"tier: 2.5\n", "tier: found 2.5; allowed: a whole number", id="a fraction"),
        pytest.param(b"tier: 012_3\n", 'tier: found "012_3"; allowed: a whole number', id="a YAML 1.1 number"),
        pytest.param(b"name: no\n", "title: found nothing", id="no is text"),
    ],
)
def test_what_is_not_plain_yaml_is_named(folder: Path, data: bytes, said: str) -> None:
    (folder / "services" / "odd.yaml").write_bytes(data)
    catalogue = load_catalogue(folder)
    assert list(catalogue.services) == ["bike-shop"]
    assert catalogue.broken["odd"].startswith("services/odd.yaml")
    assert said in catalogue.broken["odd"]


def test_a_key_that_is_there_twice_is_refused_even_if_both_would_do(folder: Path) -> None:
    path = edit(folder, "services/bike-shop.yaml", ("concurrency: 8", "concurrency: 8\n  concurrency: 9"))
    expected = f"services/bike-shop.yaml, line {line_of(path, 'concurrency: 9')}, load.concurrency: found the key"
    assert load_catalogue(folder).broken["bike-shop"].startswith(expected)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "board.yaml").unlink()
    with pytest.raises(CatalogueError, match=r"^board\.yaml, line 1: cannot be read: No such file"):
        load_catalogue(folder)


def test_a_file_with_the_wrong_ending_is_not_overlooked(folder: Path) -> None:
    (folder / "services" / "bike-shop.yaml").rename(folder / "services" / "bike-shop.yml")
    (folder / "services" / ".bike-shop.yaml.swp").touch()
    (folder / "services" / ".hidden.yaml").touch()
    catalogue = load_catalogue(folder)
    assert catalogue.services == {}
    assert list(catalogue.broken) == ["bike-shop.yml"]
    assert "allowed: bike-shop.yaml" in catalogue.broken["bike-shop.yml"]


@pytest.mark.parametrize("name", ["bakery", "../board", "..", "", "Bike-Shop", "bike-shop\n"])
def test_a_service_that_is_not_there_is_named(folder: Path, name: str) -> None:
    with pytest.raises(CatalogueError, match=r"The catalogue has no service .*. Available: bike-shop"):
        load_service(folder, name)


def test_one_service_is_read_without_the_others(folder: Path) -> None:
    (folder / "services" / "odd.yaml").write_text("- a\n")
    catalogue = load_service(folder, "bike-shop")
    assert list(catalogue.services) == ["bike-shop"]
    assert catalogue.broken == {}


# --- the command


def test_check_says_that_all_is_well(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalogue", "check", "--here", "--folder", str(folder)]) == 0
    assert capsys.readouterr().out == f"OK: {folder}\n"


def test_a_catalogue_that_does_not_exist_is_refused_with_the_variable_to_set(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    (said,) = what_is_wrong(gone)
    assert f"There is no catalogue in {gone}: the folder does not exist." in said
    for read in (load_catalogue, lambda folder: load_service(folder, "bike-shop")):
        with pytest.raises(CatalogueError, match="Next: set INTERLOCK_CATALOGUE to the catalogue's folder"):
            read(gone)
    assert main(["catalogue", "schemas", "--folder", str(gone)]) == 1
    assert not gone.exists()


def test_check_says_everything_that_is_wrong(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(folder, "services/bike-shop.yaml", ("tier: 2", "tier: 9"))
    assert main(["catalogue", "check", "--here", "--folder", str(folder)]) == 1
    assert "tier: found 9" in capsys.readouterr().out
    edit(folder, "policy.yaml", ("board: cab", "board: bac"))
    assert len(what_is_wrong(folder)) == 1  # the services cannot be held against it before it is mended
    edit(folder, "policy.yaml", ("owner:", "ownr:"))
    edit(folder, "board.yaml", ("user: dan", "usr: dan"))
    assert [message.split(" ")[0].strip(",") for message in what_is_wrong(folder)] == [
        "policy.yaml",
        "board.yaml",
        "services/bike-shop.yaml",
    ]


def test_schemas_are_written_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert write_schemas(folder / "schemas") == []
    (folder / "schemas" / "board.schema.json").write_text("{}")
    shutil.rmtree(folder / "services")
    assert main(["catalogue", "schemas", "--folder", str(folder)]) == 0
    assert main(["catalogue", "schemas", "--folder", str(folder)]) == 0
    assert capsys.readouterr().out == "Written: board.schema.json.\nThe schemas are up to date.\n"
    written = {path.name: path.read_text() for path in (folder / "schemas").iterdir()}
    assert written == schema_texts()


def test_a_service_whose_coverage_is_demanded_has_to_name_its_report(folder: Path) -> None:
    edit(folder, "services/bike-shop.yaml", ("  coverage: build/reports/coverage.xml\n", ""))
    with pytest.raises(CatalogueError) as error:
        load_service(folder, "bike-shop")
    assert "build.coverage: found nothing; allowed: the coverage report that the build leaves" in str(error.value)
    assert "policy.yaml demands coverage of each source file (tier 2)" in str(error.value)
    edit(folder, "policy.yaml", ('"2": [each_file]', '"2": []'))
    assert load_service(folder, "bike-shop").services["bike-shop"].build.coverage is None


def test_a_service_without_tests_is_refused_if_some_are_demanded(folder: Path) -> None:
    path = folder / "services/bike-shop.yaml"
    about = yaml.safe_load(path.read_text())
    about["build"] = {"tool": "command", "build": ["make"], "output": "build", "coverage": "coverage.xml"}
    suites = about.pop("suites")
    path.write_text(yaml.safe_dump(about))
    with pytest.raises(CatalogueError) as error:
        load_service(folder, "bike-shop")
    assert "build.test: found nothing; allowed: how the build runs its tests, or a suite, for " in str(error.value)
    assert "policy.yaml demands 4 tests" in str(error.value)
    for more in ({"suites": suites}, {"build": about["build"] | {"test": ["make", "test"], "junit": ["junit.xml"]}}):
        path.write_text(yaml.safe_dump(about | more))
        assert load_service(folder, "bike-shop")
    path.write_text(yaml.safe_dump(about))
    edit(folder, "policy.yaml", ("min_tests: 4", "min_tests: 0"))
    assert load_service(folder, "bike-shop")


def test_a_sign_off_by_a_role_that_nobody_has_or_by_too_few_is_refused(folder: Path) -> None:
    path = folder / "services/bike-shop.yaml"
    data = yaml.safe_load(path.read_text())
    asked: dict[str, Any] = {"title": "Testers", "roles": ["operations", "service-desk"], "quorum": 2}
    hosts = {"hosts": {"Service": "bike-shop", "Environment": "uat"}, "count": 1, "ssh": "interlock_test_hosts"}
    data["environments"]["uat"] = {**hosts, "after": ["test"], "deploy_root": "srv/bike-shop", "sign_off": asked}
    path.write_text(yaml.safe_dump(data))
    assert what_is_wrong(folder) == []
    asked |= {"roles": ["operations", "quality"], "quorum": 2}
    path.write_text(yaml.safe_dump(data))
    (found,) = what_is_wrong(folder)
    assert 'environments.uat.sign_off.roles.1: found "quality"; allowed: the role of a person in board.yaml' in found
    assert "environments.uat.sign_off.quorum: found 2; allowed: 1 or less, as many as board.yaml has" in found


def test_a_sandbox_that_has_what_is_productions_is_refused(folder: Path) -> None:
    text = (folder / "services/bike-shop.yaml").read_text().replace("\nname: bike-shop", "\nname: other-shop")
    other = folder / "services/other-shop.yaml"
    other.write_text(text.replace("Service: bike-shop,", "Service: other-shop,"))
    assert what_is_wrong(folder) == []
    edit(folder, "services/other-shop.yaml", ("ssh: interlock_test_hosts", "ssh: interlock_hosts"))
    (found,) = what_is_wrong(folder)
    assert "services/other-shop.yaml, environments.test.ssh: interlock_hosts is the login of production of" in found


@pytest.mark.parametrize(
    ("root", "tag", "wrong"),
    [
        ("srv/bike-shop", "", True),
        ("srv/bike-shop/inner", "", True),
        ("srv", "", True),
        ("srv/bike-shop-2", "", False),
        ("srv/bike-shop", "-2", False),
    ],
    ids=["the same", "inside", "around", "another", "other hosts"],
)
def test_two_services_that_would_overwrite_each_other_are_refused(
    folder: Path, root: str, tag: str, wrong: bool
) -> None:
    text = (folder / "services/bike-shop.yaml").read_text().replace("\nname: bike-shop", "\nname: other-shop")
    text = text.replace("deploy_root: srv/bike-shop", f"deploy_root: {root}")
    text = text.replace("Service: bike-shop,", f"Service: bike-shop{tag},")
    (folder / "services/other-shop.yaml").write_text(text)
    found = [one for one in what_is_wrong(folder) if "overwrite each other" in one]
    assert bool(found) is wrong, text
    assert all("bike-shop" in one and "other-shop" in one and "may select the same hosts" in one for one in found)


PREBUILT = """build:
  tool: prebuilt
  store: https
  connection: shop_artifacts
  artifact: shop/{version}.tar.gz
  coverage: shop/coverage.xml
  junit: [shop/unit.xml]
  statements: [shop/provenance.json]
  workflow: release.yml
"""
PLACES = "prebuilt: { stores: [shop_artifacts] }\nclaims: { '2': [provenance, workflow] }\n"


def prebuilt(folder: Path, *changes: tuple[str, str], places: str = PLACES) -> Path:
    """Let the bike shop be built by its own pipeline."""
    with (folder / "policy.yaml").open("a") as file:
        file.write(places)
    path = folder / "services/bike-shop.yaml"
    before, _, after = path.read_text().partition("build:\n")
    text = PREBUILT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(before + text + after[after.index("\n# Suites") :])
    return path


def test_a_service_may_be_built_by_its_own_pipeline(folder: Path) -> None:
    prebuilt(folder)
    build = load_catalogue(folder).services["bike-shop"].build
    assert isinstance(build, Prebuilt)
    assert build.workflow == "release.yml"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("connection: shop_artifacts", "connection: elsewhere"), "a place that prebuilt.stores of policy.yaml allows"),
        (("connection: shop_artifacts", "connection: aws_default"), "is a connection of the platform"),
        (("  workflow: release.yml\n", ""), "because the policy demands the claim workflow"),
        (("  statements: [shop/provenance.json]\n", ""), "because the policy demands the claim provenance"),
        (("  coverage: shop/coverage.xml\n", ""), "the coverage report that the pipeline leaves"),
        (("shop/{version}.tar.gz", "shop/latest.tar.gz"), "each release has an artifact of its own"),
        (("shop/{version}.tar.gz", "shop/{tag}.tar.gz"), "may leave open {version}, {commit}, {artifact}"),
        (("shop/{version}.tar.gz", "../{version}.tar.gz"), "without . and .."),
        (("store: https", "store: maven"), "maven needs group:artifact:extension"),
        (("store: https", "store: docker"), "line 20, build.store: found \"docker\"; allowed: 's3', 'https'"),
        (("tool: prebuilt", "tool: prebuild"), "line 19, build.tool: found \"prebuild\"; allowed: 'make', 'ant'"),
        (
            ("  store: https\n", "  store: https\n  output: build\n"),
            "build.output: found an unknown key; allowed: tool, store",
        ),
    ],
)
def test_a_pipeline_that_is_described_wrong_is_named(folder: Path, change: tuple[str, str], said: str) -> None:
    prebuilt(folder, change)
    assert said in load_catalogue(folder).broken["bike-shop"]


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ("prebuilt: { stores: [interlock_hosts] }\n", "is a connection of the platform"),
        ("prebuilt: { keys: [{ name: jenkins, key: secret, builders: [x] }] }\n", "prebuilt.keys"),
        ("prebuilt: { identities: [{ name: g, issuer: i, subjects: [s], builders: [b] }] }\n", "trusted_root"),
    ],
)
def test_signers_that_cannot_be_pinned_are_refused(folder: Path, places: str, said: str) -> None:
    prebuilt(folder, places=places)
    with pytest.raises(CatalogueError, match=said):
        load_catalogue(folder)
