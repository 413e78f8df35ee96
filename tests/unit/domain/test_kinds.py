"""The vocabulary of the ledger: each kind is defined once, and product code names it by its constant."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.domain.board.questions import (
    ASK_TRAIN_BOARD,
    ASK_WAIVERS,
    ASKING,
    QUESTIONS,
    TABLE,
    ask_wave,
    asks_for_waiver,
    asks_people,
)
from interlock.domain.ledger import chain, kinds
from interlock.domain.ledger.kinds import KINDS
from interlock.locations import TEMPLATES

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "include" / "interlock"
MAY_SPELL_KINDS = {
    PACKAGE / "domain" / "ledger" / "kinds.py",
    PACKAGE / "verify" / "__main__.py",
    PACKAGE / "domain" / "outbox" / "facts.py",
}
"""The vocabulary itself; the verifier, which imports nothing of Interlock; what other systems are told, whose events
have names of their own, and one is called as a kind is."""
FROZEN = PACKAGE / "adapters" / "ledger" / "migrations" / "versions"


def product_modules() -> list[Path]:
    found = [*PACKAGE.rglob("*.py"), *(ROOT / "dags").rglob("*.py")]
    return sorted(path for path in found if path not in MAY_SPELL_KINDS and FROZEN not in path.parents)


def spelled(path: Path) -> Iterator[str]:
    """Yield the kinds that a module spells out, also those at the beginning of a key."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            kind = node.value.partition("/")[0]
            if kind in KINDS and node.value in (kind, f"{kind}/"):
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {kind}"


def test_no_module_of_the_product_spells_out_a_kind() -> None:
    paths = product_modules()
    assert len(paths) > 200, "this test would prove nothing"
    found = [place for path in paths for place in spelled(path)]
    assert not found, "use the constants of interlock.domain.ledger.kinds"


def test_a_kind_that_is_spelled_out_is_found(tmp_path: Path) -> None:
    module = ROOT / "dags" / "release.py"
    assert not list(spelled(module))
    assert list(spelled(PACKAGE / "verify" / "__main__.py"))


def test_templates_name_kinds_by_their_constants() -> None:
    for path in TEMPLATES.glob("*.j2"):
        text = path.read_text(encoding="utf-8")
        assert not [kind for kind in KINDS if f'"{kind}"' in text], path.name
        named = set(re.findall(r"\bK\.([A-Z_]+)", text))
        assert named <= {kind.constant for kind in KINDS.values()}, path.name


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_a_kind_says_what_it_means(kind: kinds.Kind) -> None:
    assert getattr(kinds, kind.constant) == KINDS[kind.name].name == kind.name
    assert 3 < len(kind.title) < 40
    assert not kind.title.endswith(".")
    assert kind.description.endswith(".")
    assert bool(kind.within) <= bool(kind.record)


def test_titles_tell_kinds_apart() -> None:
    titles = [kind.title for kind in KINDS.values()]
    assert len(set(titles)) == len(titles)


def test_the_vocabulary_imports_nothing_that_could_import_it() -> None:
    tree = ast.parse(Path(str(kinds.__file__)).read_text(encoding="utf-8"))
    named = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert named == {"__future__", "collections.abc", "dataclasses", "types", "typing"}


def test_the_rules_of_the_chain_are_those_of_the_table() -> None:
    assert chain.END == ("release.closed", "train.arrived")
    sealed = {"rollout.frozen", "board.decided", "release.closed", "manifest.frozen", "path.tested", "sign_off.decided"}
    assert sealed == chain.SEALED
    assert chain.AFTER_END == ("finding", "clock.corrected", "run.asked", "answer.given", "chat.said", "chat.failed")
    assert chain.AFTER_FAILURE == (
        "permit.issued",
        "permit.used",
        "step.begun",
        "step.ended",
        "traffic.restored",
        "back_out.done",
        "release.closed",
    )
    assert chain.AFTER_DEPLOYMENT == ("permit.issued", "permit.used", "host.returned")
    assert frozenset({"run.asked", "emergency_stop.declared"}) == chain.IN_ANY_CASE
    assert kinds.WITNESSED == (
        "run.asked",
        "answer.given",
        "attempt.refused",
        "break_glass.used",
        "case.taken",
        "case.given_back",
        "case.attached",
        "board.discussed",
        "board.met",
        "record.answered",
    )
    assert kinds.SEVERAL == (
        "deployment.failed",
        "test.planned",
        "case.taken",
        "case.given_back",
        "case.attached",
        "case.tested",
        "cases.run",
        "quality.waived",
        "path.waived",
        "record.approved",
        "record.answered",
        "wave.deployed",
        "step.begun",
        "step.ended",
    )
    assert kinds.DECISIONS == ("plan.decided", "sign_off.decided", "acceptance.decided", "board.decided")
    assert kinds.MOVES == ("traffic.shared", "traffic.switched", "traffic.restored")


def test_a_task_leaves_one_kind() -> None:
    tasks = [task for kind in KINDS.values() for task in kind.tasks]
    assert len(set(tasks)) == len(tasks)
    assert kinds.LEAVES["closure.record_outcome"] == "release.closed"
    assert len(kinds.LEAVES) == len([task for task in tasks if "{" not in task])


def test_a_task_of_a_wave_or_an_environment_leaves_an_entry_of_its_own() -> None:
    assert kinds.left_by("closure.record_outcome") == ("release.closed", {})
    assert kinds.left_by("implementation.wave_12") == ("wave.deployed", {"number": 12})
    assert kinds.left_by("quality.user-test.judge") == ("path.judged", {"environment": "user-test"})
    for task in ("implementation.wave_", "implementation.wave_1x", "quality.run_x.judge", "quality.x.y", "x"):
        assert kinds.left_by(task) is None, task


def test_of_what_each_environment_has_one_the_last_of_each_holds() -> None:
    held = [kinds.held_by("path.judged", {"environment": name}) for name in ("a", "b", "a")]
    assert held[0] == held[2] != held[1]
    assert kinds.held_by("quality.judged", {"environment": "a"}) == kinds.held_by("quality.judged", {})
    assert kinds.held_by("of.tomorrow", {}) == ("of.tomorrow", None)
    each = {kind.name for kind in KINDS.values() if kind.each}
    of_environments = {one.name: one for one in KINDS.values() if any("{environment}" in task for task in one.tasks)}
    assert each == {name for name, one in of_environments.items() if not one.several}


def test_a_decision_is_found_by_its_subject() -> None:
    assert [kinds.decision_on(one) for one in ("plan", "sign_off", "acceptance", "board")] == list(kinds.DECISIONS)
    with pytest.raises(ValueError, match="canary"):
        kinds.decision_on("canary")


def test_a_kind_of_a_newer_version_is_called_by_its_name() -> None:
    assert kinds.title_of("release.closed") == "Release closed"
    assert kinds.title_of("release.dreamt_of") == "release.dreamt_of"
    assert kinds.family("version.pinned") == "version.*"


def test_each_question_is_one_task() -> None:
    assert len({one.task for one in TABLE}) == len(TABLE)
    assert QUESTIONS | {ASK_TRAIN_BOARD} == ASKING
    assert ask_wave(1) in QUESTIONS
    assert not [task for task in ASKING if "{" in task]
    assert all(one.title.endswith("?") and one.who for one in TABLE)


def test_the_questions_of_environments_are_known_by_their_names() -> None:
    asking = (ASK_WAIVERS, "quality.staging.waive_expectation", "quality.staging.sign_off", ask_wave(3))
    assert all(map(asks_people, asking))
    assert [asks_for_waiver(task) for task in asking] == [True, True, False, False]
    assert not any(map(asks_people, ("quality.staging.sign_off_over", "quality.sign_off", "xquality.a.sign_off")))
