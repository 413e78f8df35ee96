"""Price lists: a file for each shop, in it the prices of each year.

Which list a shop sells by is a setting of its host, such as ``standard-2025``.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "data" / "prices"


def price_list(name: str) -> Mapping[str, int]:
    """Return the price of each bike, in cents."""
    shop, year = name.replace("_", "-").rsplit("-", 1)  # hosts may have the name of before 1.3.0
    return years(shop)[year]


@cache
def years(shop: str) -> Mapping[str, Mapping[str, int]]:
    """Return a shop's prices, year by year."""
    prices: Mapping[str, Mapping[str, int]] = json.loads((FOLDER / f"{shop}.json").read_text("utf-8"))
    return prices
