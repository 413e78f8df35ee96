"""The bikes that the shop sells; what they cost is in the price lists."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Bike:
    """A model of the range."""

    id: str
    name: str
    kind: str
    colour: str
    text: str


BIKES = {
    entry["id"]: Bike(**entry)
    for entry in json.loads((Path(__file__).parent / "data" / "bikes.json").read_text("utf-8"))
}
