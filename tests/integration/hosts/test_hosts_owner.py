"""A folder on a host is one service's: whoever else comes is refused before anything is done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.local_host import LocalHost, make_local_release


@pytest.mark.parametrize("is_from_before", [False, True], ids=["written down", "from before it was written down"])
def test_another_service_does_not_get_the_folder(tmp_path: Path, is_from_before: bool) -> None:
    host = LocalHost(tmp_path)
    old = make_local_release(tmp_path, "1.0.0", {}, "")
    assert host.deploy(old).outcome == "deployed"
    if is_from_before:
        (host.root / ".interlock/owner").unlink()
        meta = host.root / "releases" / old.contents.release / ".interlock.json"
        assert '"service":"shop"' in meta.read_text()
    other = replace(host, service="billing")
    result = other.deploy(make_local_release(tmp_path, "2.0.0", {}, ""))
    assert (result.outcome, host.current) == ("failed", old.contents.release)
    assert "is that of shop" in result.error
    assert "not of billing in production" in result.error
    assert {path.name for path in (host.root / "releases").iterdir()} == {old.contents.release}
    result = host.deploy(make_local_release(tmp_path, "1.1.0", {}, ""))
    assert (result.outcome, result.error) == ("deployed", "")
    assert (host.root / ".interlock/owner").read_text() == "shop production\n"
