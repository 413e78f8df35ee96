"""Give the wheel its dependencies: hatchling runs this when it reads the project's metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class RequirementsHook(MetadataHookInterface):
    """Reads the dependencies from ``requirements.txt``, so that they stand in one place."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the dependencies: each line without its comment."""
        lines = Path(self.root, "requirements.txt").read_text(encoding="utf-8").splitlines()
        stated = (line.partition("#")[0].strip() for line in lines)
        metadata["dependencies"] = [line for line in stated if line]
