"""The bikes that the shop sells; what they cost is in the price lists."""

import json
from dataclasses import dataclass
from pathlib import Path

from text_unidecode import unidecode


@dataclass(frozen=True)
class Bike:
    """A model of the range."""

    id: str
    name: str
    kind: str
    colour: str
    text: str

    @property
    def address(self) -> str:
        """Return the path of the bike's own page, in letters that everybody can type."""
        return f"/bikes/{unidecode(self.name).lower().replace(' ', '-')}"


BIKES = {
    entry["id"]: Bike(**entry)
    for entry in json.loads((Path(__file__).parent / "data" / "bikes.json").read_text("utf-8"))
}
