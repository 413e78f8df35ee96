"""Write the OpenAPI document of the API: ``python -m interlock.console.api.document docs/openapi.json``."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def document() -> str:
    """Return the document as the repository has it: its version is that of the API."""
    from .app import create_api

    found = create_api().openapi()
    found["info"]["version"] = "v1"
    return json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document(), "utf-8")
