"""The copies of the vocabulary, and the JSON Schemas of the payloads: they are current, and entries keep to them."""

from __future__ import annotations

import dataclasses
import json
import re
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from interlock.adapters.ledger import vocabulary
from interlock.console.pages.records import Records
from interlock.domain.ledger.kinds import KINDS, PURPOSES
from interlock.domain.records import Record
from interlock.verify import __main__ as verifier

ROOT = Path(__file__).parents[3]
AGAIN = "run: python -m interlock.adapters.ledger.vocabulary (with include on PYTHONPATH), or make schemas"
PACKS = ROOT / "tests" / "unit" / "verify" / "packs"


@pytest.mark.parametrize("path", [vocabulary.VERIFIER, vocabulary.CONSOLE], ids=lambda path: path.name)
def test_the_copies_of_the_vocabulary_are_current(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == vocabulary.generated()[path], AGAIN


def test_the_schemas_are_current() -> None:
    found = {path.name: path.read_text(encoding="utf-8") for path in vocabulary.SCHEMAS.glob("*")}
    assert found == vocabulary.schema_texts(), AGAIN


def test_what_is_not_current_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VERIFIER", "CONSOLE"):
        path: Path = getattr(vocabulary, name)
        copy = tmp_path / path.name
        copy.write_text(path.read_text().replace('"release_"', '"old_"').replace('"plan.decided", ', ""))
        monkeypatch.setattr(vocabulary, name, copy)
    monkeypatch.setattr(vocabulary, "SCHEMAS", tmp_path / "schemas")
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "no.such_kind.schema.json").write_text("{}")
    written = vocabulary.write()
    assert {path.name for path in written} == {
        "__main__.py",
        "vocabulary.ts",
        "no.such_kind.schema.json",
        *vocabulary.schema_texts(),
    }
    kept = ROOT / "include/interlock/console/ui/src/vocabulary.ts"
    assert (tmp_path / "vocabulary.ts").read_text() == kept.read_text()
    assert vocabulary.write() == []


def test_a_file_without_its_markers_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vocabulary.ts").write_text("const STAGES = {};\n")
    monkeypatch.setattr(vocabulary, "CONSOLE", tmp_path / "vocabulary.ts")
    with pytest.raises(ValueError, match=r"vocabulary\.ts has lost the markers"):
        vocabulary.generated()


def test_the_verifier_knows_what_changes_hosts() -> None:
    assert PURPOSES == verifier.EFFECTS


def test_the_verifier_spells_kinds_that_there_are() -> None:
    words = "|".join({kind.partition(".")[0] for kind in KINDS if "." in kind})
    spelled = set(re.findall(rf'"((?:{words})\.[a-z_]+)"', vocabulary.VERIFIER.read_text())) - {"manifest.json"}
    assert {"plan.json", "run.json"} <= spelled, "files of the pack: this test would prove nothing"
    assert {name for name in spelled if not name.endswith((".json", ".dsse", ".yaml"))} <= set(KINDS)


# --- the schemas -----------------------------------------------------------------------------------------------------


schema_texts = cache(vocabulary.schema_texts)


def schema(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(schema_texts()[f"{kind}.schema.json"])
    return found


@pytest.mark.parametrize("kind", [one for one in KINDS.values() if one.record], ids=lambda kind: kind.name)
def test_a_schema_says_what_it_is_about(kind: Any) -> None:
    described = schema(kind.name)
    Draft202012Validator.check_schema(described)
    assert described["title"] == f"{kind.title} ({kind.name})"
    assert described["description"] == kind.description
    assert described["additionalProperties"] is False
    assert set(kind.beside) <= set(described["properties"])
    refs = set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(described)))
    assert refs <= set(described.get("$defs", {}))


def test_every_record_that_a_task_leaves_has_a_kind() -> None:
    described = {model for kind in KINDS.values() if (model := vocabulary.record_of(kind))}
    passed_on = {"TestDeployment", "SuiteRuns", "Outcome", "Artifact", "AssetReport", "WaveReport"}
    assert passed_on <= {model.__name__ for model in described if issubclass(model, Record)}
    assert all(dataclasses.is_dataclass(kind) for kind in KINDS.values())


def entries(path: Path) -> list[dict[str, Any]]:
    with zipfile.ZipFile(path) as archive:
        found = [json.loads(line) for line in archive.read("chain.jsonl").splitlines()]
    proofs = [one["payload"]["entries"] for one in found if one["kind"] in ("train.proven", "rollback.proven")]
    return [*found, *(entry for proof in proofs for entry in proof)]


@pytest.mark.parametrize("pack", ["release", "rollback", "passenger"])
def test_payloads_of_packs_that_exist_keep_to_the_schemas(pack: str) -> None:
    found = (one for one in entries(PACKS / f"{pack}.zip") if one["payload"])  # the opening of the train is made up
    described = [one for one in found if KINDS[one["kind"]].record]
    assert len({one["kind"] for one in described}) > 9
    for entry in described:
        Draft202012Validator(schema(entry["kind"])).validate(entry["payload"])


def test_a_payload_that_was_changed_does_not_keep_to_its_schema() -> None:
    (closed,) = (one for one in entries(PACKS / "release.zip") if one["kind"] == "release.closed")
    check = Draft202012Validator(schema("release.closed"))
    assert check.is_valid(closed["payload"])
    assert not check.is_valid({**closed["payload"], "outcome": "excellent"})
    assert not check.is_valid({**closed["payload"], "added": True})


def test_the_page_knows_the_records_of_releases_and_of_rollbacks() -> None:
    assert {"planning.plan_release", "planning.plan_rollback"} <= set(vocabulary.TASKS)
    assert set(vocabulary.TASKS.values()) == set(Records.model_fields) - {"waves"}
