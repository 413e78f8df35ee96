"""The pages that sell bikes."""

from . import money, prices
from .bikes import BIKES, Bike
from .config import Settings
from .web import Answer, Page, Request, page, render, text


def routes(settings: Settings) -> dict[tuple[str, str], Page]:
    """Return the showroom's pages."""
    return {("GET", "/bikes"): Showroom(settings).bikes}


class Showroom:
    """Shows bikes with their prices."""

    def __init__(self, settings: Settings) -> None:
        """Open the showroom with the settings of its host."""
        self.settings = settings

    def bikes(self, _request: Request) -> Answer:
        """Show the range."""
        price_list = prices.price_list(self.settings.price_list)
        cards = "".join(self._card(bike, price_list[bike.id]) for bike in BIKES.values())
        return page("Bikes", render("bikes", cards=cards))

    def _card(self, bike: Bike, price: int) -> str:
        return render(
            "bike",
            id=text(bike.id),
            name=text(bike.name),
            kind=text(bike.kind),
            text=text(bike.text),
            picture=render("picture", colour=text(bike.colour)),
            price=text(money.words(price, self.settings.currency)),
        )
