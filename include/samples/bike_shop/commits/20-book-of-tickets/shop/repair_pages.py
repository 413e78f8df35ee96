"""The pages of the workshop."""

from http import HTTPStatus
from urllib.parse import quote

from . import money
from .book import Book
from .config import Settings
from .repairs import REPAIRS, Repair, Tickets
from .web import Answer, Page, Request, error, page, render, see_other, text

LONGEST_NAME = 60


def routes(settings: Settings) -> dict[tuple[str, str], Page]:
    """Return the workshop's pages."""
    workshop = Workshop(settings)
    return {
        ("GET", "/repairs"): workshop.repairs,
        ("POST", "/repairs"): workshop.book,
        ("GET", "/ticket"): workshop.ticket,
    }


class Workshop:
    """Shows repairs and writes tickets."""

    def __init__(self, settings: Settings) -> None:
        """Open the workshop with the settings of its host."""
        self.currency = settings.currency
        self.tickets = Tickets(settings.secret)
        self.book_of_tickets = Book(settings.database)

    def repairs(self, _request: Request) -> Answer:
        """Show what the workshop does."""
        cards = "".join(self._card(repair) for repair in REPAIRS.values())
        return page("Repairs", render("repairs", cards=cards))

    def book(self, request: Request) -> Answer:
        """Write a ticket and send the customer to it."""
        repair, name = REPAIRS.get(request.form.get("repair", "")), request.form.get("name", "").strip()
        if not repair or not name:
            return error(HTTPStatus.BAD_REQUEST, "Not quite", "We need the repair, and your name for the ticket.")
        number = self.book_of_tickets.write(repair, name[:LONGEST_NAME])
        numbered = "" if number is None else f"&number={number}"
        return see_other(f"/ticket?t={quote(self.tickets.write(repair, name[:LONGEST_NAME]))}{numbered}")

    def ticket(self, request: Request) -> Answer:
        """Show a customer's ticket."""
        read = self.tickets.read(request.query.get("t", ""))
        if not read:
            return error(HTTPStatus.NOT_FOUND, "Not one of ours", "The workshop did not write this ticket.")
        repair, name = read
        number = request.query.get("number", "")
        price = self.book_of_tickets.price(int(number)) if number.isdecimal() else repair.price
        if price is None:
            return error(HTTPStatus.NOT_FOUND, "Not in our book", "The book of tickets does not have this number.")
        content = render(
            "ticket",
            number=f" no. {number}" if number.isdecimal() else "",
            repair=text(repair.name),
            name=text(name),
            when=repair.when,
            price=self._price(price),
        )
        return page("Your ticket", content)

    def _card(self, repair: Repair) -> str:
        return render(
            "repair",
            id=text(repair.id),
            name=text(repair.name),
            text=text(repair.text),
            when=repair.when,
            price=self._price(repair.price),
        )

    def _price(self, cents: int) -> str:
        return text(money.words(cents, self.currency))
