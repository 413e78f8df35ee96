"""What differs from host to host: read once from ``shop.json`` in the host's shared folder."""

import json
import os
from dataclasses import dataclass, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Settings:
    """The shop's settings on this host, and which release this is."""

    environment: str
    host: str
    address: str
    port: int
    currency: str
    price_list: str
    secret: str
    version: str
    commit: str
    database: str = ""


def load() -> Settings:
    """Read the settings of the host that this process runs on."""
    shared = json.loads((Path(os.environ["INTERLOCK_SHARED"]) / "shop.json").read_text("utf-8"))
    release = {"version": _line("VERSION", "0.0.0"), "commit": _line("COMMIT", "not built")}
    known = {"database": "", **shared, **release}
    return Settings(**{field.name: known[field.name] for field in fields(Settings)})


def _line(name: str, otherwise: str) -> str:
    file = ROOT / name
    return file.read_text("utf-8").strip() if file.exists() else otherwise
