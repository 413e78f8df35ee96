from __future__ import annotations

import stat
from pathlib import Path

from interlock.adapters.private_files import secret, write_private


def test_private_file_is_its_owners_only(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "file"
    write_private(path, "text")
    write_private(path, "other text")
    assert path.read_text() == "other text"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_secret_is_made_up_once(tmp_path: Path) -> None:
    made = secret(tmp_path / "secret")
    assert len(made) > 30
    assert secret(tmp_path / "secret") == made
    assert secret(tmp_path / "other", "given") == secret(tmp_path / "other") == "given"
