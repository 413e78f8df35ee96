"""How ``make test`` spreads the files of tests over workers.

The tests of a file of ``end_to_end`` wait for the stack nearly all the time. So each such file has a worker to itself,
which ends with it; meanwhile the workers of the others use the processors.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from xdist.scheduler import LoadFileScheduling

END_TO_END = Path(__file__).parent / "end_to_end"
CONSOLE = ("test_calendar_page", "test_console", "test_execution_api", "test_guard", "test_reconcile_airflow")
"""The files of tests/integration that talk to the same Airflow: on one worker, it starts once."""


def workers(arguments: list[str]) -> int:
    """Return how many workers there should be: one a processor, and one for each end-to-end file that is asked for.

    :param arguments: folders and files of tests.
    """
    asked = [Path(argument.split("::")[0]).resolve() for argument in arguments]
    files = [file for file in END_TO_END.glob("test_*.py") if {file, *file.parents} & set(asked)]
    return len(os.sched_getaffinity(0)) + len(files)


class Spread(LoadFileScheduling):
    """Give each file to one worker, and files that share an Airflow to the same."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "console" if Path(file).stem in CONSOLE else file

    def _reschedule(self, node: Any) -> None:
        """Give a worker more to do, unless it has an end-to-end file, and there are workers that have none."""
        if self._waits(node) and not all(map(self._waits, self.nodes)):
            if not node.shutting_down:
                node.shutdown()  # when it has done what it has
        else:
            super()._reschedule(node)

    def _waits(self, node: Any) -> bool:
        return any(END_TO_END.name in Path(scope).parts for scope in self.assigned_work[node])
