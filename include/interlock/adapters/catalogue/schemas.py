"""The JSON schemas of the catalogue's files, from their models; editors check the files with them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import NamedTemporaryFile

from pydantic import BaseModel

from interlock.domain.catalogue import BoardBook, Policy, Service
from interlock.domain.catalogue.break_glass_file import BreakGlassBook
from interlock.domain.catalogue.calendar_file import CalendarFile
from interlock.domain.catalogue.cases_file import CaseFile
from interlock.domain.catalogue.train_file import Train
from interlock.domain.outbox.systems_file import SystemsFile

SCHEMAS: dict[str, type[BaseModel]] = {
    "policy": Policy,
    "board": BoardBook,
    "service": Service,
    "break_glass": BreakGlassBook,
    "calendar": CalendarFile,
    "train": Train,
    "cases": CaseFile,
    "systems": SystemsFile,
}


def schema_texts() -> dict[str, str]:
    """Return the JSON schemas of the catalogue's files, as ``schemas/`` must contain them, by file name."""
    return {f"{name}.schema.json": _schema_text(model) for name, model in SCHEMAS.items()}


def _schema_text(model: type[BaseModel]) -> str:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def write_schemas(folder: Path) -> list[Path]:
    """Write the outdated JSON schemas; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    stale = [
        (folder / name, text)
        for name, text in schema_texts().items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]
    for path, text in stale:
        _write_whole(path, text)
    return [path for path, _ in stale]


def _write_whole(path: Path, text: str) -> None:
    with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
