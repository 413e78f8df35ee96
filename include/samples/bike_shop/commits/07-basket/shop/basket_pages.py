"""The pages of the basket."""

from http import HTTPStatus

from . import basket, money, prices
from .bikes import BIKES
from .config import Settings
from .web import Answer, Page, Request, error, page, render, see_other, text


def routes(settings: Settings) -> dict[tuple[str, str], Page]:
    """Return the basket's pages."""
    till = Till(settings)
    return {
        ("GET", "/basket"): till.show,
        ("POST", "/basket/add"): till.add,
        ("POST", "/basket/remove"): till.remove,
    }


class Till:
    """Shows a basket and what it costs."""

    def __init__(self, settings: Settings) -> None:
        """Open the till with the settings of its host."""
        self.settings = settings
        self.baskets = basket.Baskets(settings.secret)

    def show(self, request: Request) -> Answer:
        """Show the customer's basket."""
        found = self.baskets.read(request.cookies)
        if not found:
            return page("Basket", render("empty_basket"))
        price_list = prices.price_list(self.settings.price_list)
        rows = "".join(self._row(bike, pieces, price_list[bike]) for bike, pieces in found.items())
        content = render("basket", rows=rows, total=self._price(basket.total(found, price_list)))
        return page("Basket", content)

    def add(self, request: Request) -> Answer:
        """Put a bike into the basket."""
        bike = request.form.get("bike", "")
        if bike not in BIKES:
            return error(HTTPStatus.BAD_REQUEST, "Not quite", "We do not sell such a bike.")
        return self._keep(basket.add(self.baskets.read(request.cookies), bike))

    def remove(self, request: Request) -> Answer:
        """Take a bike out of the basket."""
        return self._keep(basket.remove(self.baskets.read(request.cookies), request.form.get("bike", "")))

    def _keep(self, kept: basket.Basket) -> Answer:
        return see_other("/basket", Set_Cookie=self.baskets.cookie(kept))

    def _row(self, bike: str, pieces: int, price: int) -> str:
        return render(
            "basket_row",
            id=text(bike),
            name=text(BIKES[bike].name),
            colour=text(BIKES[bike].colour),
            pieces=str(pieces),
            price=self._price(price),
        )

    def _price(self, cents: int) -> str:
        return text(money.words(cents, self.settings.currency))
