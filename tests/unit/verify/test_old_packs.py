"""Evidence packs that were made before the kinds of ledger entries had one vocabulary: they stay proven, byte for byte.

The packs are not made anew. If one of them is not proven any more, a change broke what auditors already have.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from interlock.verify import __main__ as verifier

PACKS = Path(__file__).parent / "packs"
DIGESTS = {
    "release": "d6971d74c39e4b660c84ae2868b90d3879fd0f51c8f3a5e691632f88590aab0f",
    "rollback": "a37e9c78bbfc952b6cd774843f87e84231543119c791e446d923e59318bba532",
    "passenger": "77a98f6e987718b1069cda488a980af2b5cf32bc5d1670cd949c13a248b76efb",
}
"""Pack: its digest, so that no pack is replaced with one of a newer format."""


@pytest.mark.parametrize("name", DIGESTS)
def test_a_pack_of_before_stays_proven(name: str) -> None:
    data = (PACKS / f"{name}.zip").read_bytes()
    assert sha256(data).hexdigest() == DIGESTS[name]
    key = verifier.read_pem((PACKS / "key.pem").read_bytes(), "key.pem")
    said: list[str] = []
    assert verifier.verify(data, [key], said.append), "\n".join(said)
    assert said[-1] == "PROVEN."
