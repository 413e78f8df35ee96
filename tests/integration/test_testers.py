"""Twenty testers run a thousand test cases at once, on a real Airflow and a real PostgreSQL: nothing is lost."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from interlock.adapters.airflow.rest_api import AirflowApi
from interlock.domain.ledger.chain import release_chain
from interlock.domain.ledger.kinds import ANSWER_GIVEN
from tests.integration.console_airflow import CASE, RELEASE, RUN_ID
from tests.integration.console_server import Console, console_server

TESTERS = [f"tester{number:02}" for number in range(20)]
CASES = 1000
CONTESTED = 100
"""So many cases are answered by two testers at the same instant."""
PATHS = f"/api/v2/dags/{RELEASE}/dagRuns/{quote(RUN_ID, safe='')}/taskInstances/{CASE}"
CHOICES = ("Passed", "Failed", "Blocked", "Not applicable")


@pytest.fixture(scope="module")
def testing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    home = tmp_path_factory.mktemp("testers")
    (home / "testers.json").write_text(json.dumps({"testers": TESTERS, "cases": CASES}))
    with console_server(home, on_postgres=True) as running:
        for name in TESTERS:
            running.token(name)
        yield running


def words_of(tester: str, case: int) -> dict[str, Any]:
    choice = CHOICES[(case + TESTERS.index(tester)) % len(CHOICES)]
    form = {"comment": f"{tester} ran case {case}", "evidence": f"https://files.example/{tester}/{case}.png"}
    return {"chosen_options": [choice], "params_input": form}


def run_case(testing: Console, client: httpx.Client, tester: str, case: int) -> httpx.Response:
    headers = {"Authorization": f"Bearer {testing.token(tester)}"}
    path = f"{testing.base}{PATHS}/{case}/hitlDetails"
    return client.patch(path, json=words_of(tester, case), headers=headers, timeout=120)


@pytest.mark.timeout(1200)
def test_a_thousand_results_of_twenty_testers_at_once_are_neither_lost_nor_overwritten(testing: Console) -> None:
    """Each tester runs fifty cases; the last hundred are run by a second tester at the same instant."""
    meet = {case: threading.Barrier(2) for case in range(CASES - CONTESTED, CASES)}
    won: dict[int, str] = {}
    told: list[tuple[int, str, str]] = []

    def run(tester: str, cases: list[int]) -> None:
        with httpx.Client() as client:
            for case in cases:
                if case in meet:
                    meet[case].wait(300)
                answer = run_case(testing, client, tester, case)
                if answer.status_code == 200:
                    assert won.setdefault(case, tester) == tester, f"{case} was taken from two testers"
                else:
                    assert answer.status_code == 409, answer.text
                    told.append((case, tester, answer.json()["detail"]))

    def run_or_stop_all(tester: str, cases: list[int]) -> None:
        try:
            run(tester, cases)
        except BaseException:
            for barrier in meet.values():
                barrier.abort()
            raise

    plain = {tester: list(range(number, CASES - CONTESTED, 20)) for number, tester in enumerate(TESTERS)}
    pairs = list(zip(TESTERS[::2], TESTERS[1::2], strict=True))
    contested = {
        tester: [case for case in meet if case % len(pairs) == number]
        for number, pair in enumerate(pairs)
        for tester in pair
    }
    with ThreadPoolExecutor(len(TESTERS)) as pool:
        for done in [pool.submit(run_or_stop_all, tester, plain[tester] + contested[tester]) for tester in TESTERS]:
            done.result()

    assert won.keys() == set(range(CASES)), "each case has a result"
    assert Counter(case for case, _, _ in told) == Counter(list(meet)), (
        "of two testers, exactly one was told that he was late"
    )
    for case, tester, why in told:
        assert tester != won[case]
        assert f"{won[case]} answered it at " in why
        assert "the first answer to a question stands" in why

    refuse_lost_and_overwritten(testing, won)


def refuse_lost_and_overwritten(testing: Console, won: dict[int, str]) -> None:
    """Fail unless Airflow's record and the ledger have exactly the results that were taken."""
    with AirflowApi(testing.base, "interlock_reader", "interlock_reader") as api:
        kept = {answer.map_index: answer for answer in api.answers(RELEASE, RUN_ID, CASE)}
    in_ledger = testing.entries(release_chain(RELEASE, RUN_ID), ANSWER_GIVEN)
    recorded = Counter((entry.payload["map_index"], entry.actor) for entry in in_ledger)
    assert recorded == Counter(won.items()), "each result that counts is an entry, and nothing else is"
    for entry in in_ledger:
        case, tester = entry.payload["map_index"], entry.actor
        expected = words_of(tester, case)
        for what in (kept[case].model_dump(), entry.payload):
            assert (what["user"], what["choice"]) == (tester, expected["chosen_options"][0])
            assert (what["comment"], what["evidence"]) == tuple(expected["params_input"].values())
    with testing.ledger() as ledger:
        assert ledger.check(release_chain(RELEASE, RUN_ID)) is None
