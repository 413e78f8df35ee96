"""How ``make test`` spreads the files of tests over workers.

The tests of ``end_to_end`` wait for the stack most of the time. So a few workers have only such files, begin at once,
and end with them; meanwhile the workers of the others use the processors. More releases at a time make each of them
cost more, not less: what they wait for is asked again and again meanwhile, by tests and by Airflow's heartbeats.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

END_TO_END = Path(__file__).parent / "end_to_end"
CONSOLE = (
    "test_cab",
    "test_calendar_page",
    "test_console",
    "test_environments_page",
    "test_execution_api",
    "test_guard",
    "test_reconcile_airflow",
)
"""The files of tests/integration that talk to the same Airflow: on one worker, it starts once."""
AT_ONCE = 3
"""How many files of ``end_to_end`` run at the same time."""
ALONE, LEAVES_OUT = "collects_alone", "leaves_out"
"""What a worker is told: the only files that it collects; files that it does not collect."""
FILES = pytest.StashKey[list[list[str]]]()
"""The files of each worker that has only files of ``end_to_end``."""
SESSION = pytest.StashKey[pytest.Session]()
"""Counts what was collected: xdist takes the number of one worker for that of all."""


def workers(config: pytest.Config) -> int:
    """Return how many workers there should be: one a processor, and some for the end-to-end files asked for."""
    asked = {Path(argument.split("::")[0]).resolve() for argument in config.args}
    found = [file for file in sorted(END_TO_END.glob("test_*.py")) if asked & {file, *file.parents}]
    shared = shared_out(found, min(AT_ONCE, len(found)))
    if config.getvalue("dist") == "loadfile":  # else another scheduler than Spread is at work
        config.stash[FILES] = shared
    return len(os.sched_getaffinity(0)) + len(shared)


def shared_out(files: Sequence[Path], number: int) -> list[list[str]]:
    """Share files out, so that each worker has about as many tests."""
    shared: list[list[str]] = [[] for _ in range(number)]
    tests = [0] * number
    for more, file in sorted(((file.read_text().count("\ndef test_"), str(file)) for file in files), reverse=True):
        least = tests.index(min(tests))
        shared[least].append(file)
        tests[least] += more
    return shared


def tell(node: Any) -> None:
    """Tell a worker what to collect. One that replaces another collects what no other has to itself."""
    shared = node.config.stash.get(FILES, [])
    number = int(node.workerinput["workerid"].removeprefix("gw"))
    if number < len(shared):
        node.workerinput[ALONE] = shared[number]
    else:
        node.workerinput[LEAVES_OUT] = [file for files in shared for file in files]


def is_for_others(config: pytest.Config, path: Path) -> bool:
    """Say whether a file is collected by other workers, and not by this one."""
    told = getattr(config, "workerinput", {})
    return str(path) in told.get(LEAVES_OUT, ()) or str(path) not in told.get(ALONE, [str(path)])


class Spread(LoadFileScheduling):
    """Give each file to one worker, and files that share an Airflow to the same."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._alone: dict[Any, list[str]] = {}
        """The tests of each worker that has files to itself."""

    def add_node(self, node: Any) -> None:
        super().add_node(node)
        if ALONE in node.workerinput:
            self.numnodes -= 1  # the others do not wait for it, nor it for them

    def add_node_collection(self, node: Any, collection: Sequence[str]) -> None:
        if ALONE in node.workerinput:
            self._begin(node, collection)
        else:
            super().add_node_collection(node, collection)
        elsewhere = max(map(len, self.registered_collections.values()), default=0)
        self.config.stash[SESSION].testscollected = elsewhere + sum(map(len, self._alone.values()))

    def _begin(self, node: Any, collection: Sequence[str]) -> None:
        self._alone[node] = list(collection)
        for test in collection:
            self.assigned_work[node].setdefault(self._split_scope(test), {})[test] = False
        node.send_runtest_some([*range(len(collection))])
        node.shutdown()  # when it has done this

    def schedule(self) -> None:
        apart = {node: self.assigned_work.pop(node) for node in self.nodes if ALONE in node.workerinput}
        try:
            super().schedule()
        finally:
            self.assigned_work |= apart

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        if node in self._alone:
            test = self._alone[node][item_index]
            self.assigned_work[node][self._split_scope(test)][test] = True
        else:
            super().mark_test_complete(node, item_index, duration)

    def remove_node(self, node: Any) -> str | None:
        if ALONE not in node.workerinput:
            return super().remove_node(node)
        left = [test for tests in self.assigned_work.pop(node).values() for test, done in tests.items() if not done]
        return left[0] if left else None  # with it, the run fails; the tests after it are not run

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "console" if Path(file).stem in CONSOLE else file
