"""How many of each bike the warehouse has."""

import csv
import time
import urllib.request
from collections.abc import Mapping

from .bikes import BIKES

LOOKS = 8  # the counter sells from the same warehouse, so we ask again every now and then
TRIES = 3
PAUSE = 0.5


class Stock:
    """The warehouse's stock, as of a few looks ago."""

    def __init__(self, warehouse: str) -> None:
        """Ask the warehouse at this URL."""
        self._warehouse = warehouse
        self._pieces: Mapping[str, int] = {}
        self._looks = 0

    def words(self) -> str:
        """Say which bikes a customer can take home today."""
        if not self._warehouse:
            return "Ask us what is in stock."
        self._looks += 1
        if self._looks % LOOKS == 1:
            self._pieces = self._ask()
        here = sorted(BIKES[bike].name for bike, pieces in self._pieces.items() if pieces and bike in BIKES)
        if not here:
            return "Ask us what is in stock."
        return f"In stock today: {', '.join(here)}."

    def _ask(self) -> Mapping[str, int]:
        for _ in range(TRIES):
            try:
                with urllib.request.urlopen(self._warehouse, timeout=2) as answer:
                    return self._read(answer.read().decode())
            except OSError:
                time.sleep(PAUSE)  # the warehouse takes a nap now and then
        return {}

    def _read(self, table: str) -> Mapping[str, int]:
        stock = {}
        for line in csv.DictReader(table.splitlines(), delimiter=";"):
            bike = line["model"].strip()
            pieces = int(line["pieces"])
            reserved = int(line["reserved"] or 0)
            stock[bike] = max(pieces - reserved, 0)
        return stock
