"""The pages that sell bikes."""

from functools import partial

from . import money, prices
from .bikes import BIKES, Bike
from .config import Settings
from .web import Answer, Page, Request, page, render, text


def routes(settings: Settings) -> dict[tuple[str, str], Page]:
    """Return the showroom's pages: the range, and one for each bike."""
    showroom = Showroom(settings)
    own: dict[tuple[str, str], Page] = {("GET", bike.address): partial(showroom.bike, bike) for bike in BIKES.values()}
    return {("GET", "/bikes"): showroom.bikes, **own}


class Showroom:
    """Shows bikes with their prices."""

    def __init__(self, settings: Settings) -> None:
        """Open the showroom with the settings of its host."""
        self.settings = settings

    def bikes(self, _request: Request) -> Answer:
        """Show the range."""
        price_list = prices.price_list(self.settings.price_list)
        cards = "".join(self._card("bike", bike, price_list[bike.id]) for bike in BIKES.values())
        return page("Bikes", render("bikes", cards=cards))

    def bike(self, bike: Bike, _request: Request) -> Answer:
        """Show one bike."""
        price = prices.price_list(self.settings.price_list)[bike.id]
        return page(bike.name, self._card("one_bike", bike, price))

    def _card(self, template: str, bike: Bike, price: int) -> str:
        return render(
            template,
            id=text(bike.id),
            address=text(bike.address),
            name=text(bike.name),
            kind=text(bike.kind),
            text=text(bike.text),
            picture=render("picture", colour=text(bike.colour)),
            price=text(money.words(price, self.settings.currency)),
        )
