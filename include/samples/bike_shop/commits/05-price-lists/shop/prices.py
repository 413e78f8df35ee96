"""Price lists: which one a shop sells by is a setting of its host."""

import json
from collections.abc import Mapping
from pathlib import Path

LISTS: dict[str, dict[str, int]] = json.loads((Path(__file__).parent / "data" / "prices.json").read_text("utf-8"))


def price_list(name: str) -> Mapping[str, int]:
    """Return the price of each bike, in cents."""
    return LISTS[name]
