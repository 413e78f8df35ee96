"""Through a proxy that loses, doubles, delays, reorders and cuts 30 % of all calls, each release has one change."""

from __future__ import annotations

from pathlib import Path

from interlock.adapters.ledger.ledger import open_ledger
from interlock.adapters.signing.signing import generate_key, load_signer
from interlock.estate.settings import Settings
from tests.integration.ledger_server import ledger_connection
from tests.told_changes import run


def test_no_change_is_lost_doubled_or_wrong_whatever_becomes_of_calls(server: Settings, tmp_path: Path) -> None:
    with open_ledger(ledger_connection(server), connections=9) as ledger:
        generate_key(tmp_path / "signing.pem")
        result = run(ledger, 100, load_signer((tmp_path / "signing.pem").as_uri()), seed=16)
    assert result.faults.keys() >= {"lost", "doubled", "delayed", "reordered", "cut"}
    assert (result.missing, result.doubled) == (0, 0)
    assert (result.wrong_state, result.not_told, result.backwards) == (0, 0, 0)
    assert (result.lost_notes, result.disordered) == (0, 0)
