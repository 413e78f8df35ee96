"""Repairs, and the ticket that a customer collects the bike with."""

import json
from dataclasses import dataclass
from pathlib import Path

import jwt


@dataclass(frozen=True)
class Repair:
    """Something that the workshop does, its price in cents and the working days that it takes."""

    id: str
    name: str
    text: str
    price: int
    days: int

    @property
    def when(self) -> str:
        """Say how long the customer is without the bike."""
        if self.days == 0:
            return "while you wait"
        return "next working day" if self.days == 1 else f"in {self.days} working days"


REPAIRS = {
    entry["id"]: Repair(**entry)
    for entry in json.loads((Path(__file__).parent / "data" / "repairs.json").read_text("utf-8"))
}


class Tickets:
    """Tickets that only the shop can write: the workshop believes what is on them."""

    def __init__(self, secret: str) -> None:
        """Sign with the secret that all hosts of the environment share."""
        self._secret = secret

    def write(self, repair: Repair, name: str) -> str:
        """Return the ticket of a customer."""
        return jwt.encode({"aud": "workshop", "repair": repair.id, "name": name}, self._secret)

    def read(self, ticket: str) -> tuple[Repair, str] | None:
        """Return what a ticket says; None if the shop has not written it."""
        try:
            said = jwt.decode(ticket, self._secret, algorithms=["HS256"], audience="workshop")
        except jwt.InvalidTokenError:
            return None
        return REPAIRS[said["repair"]], said["name"]
