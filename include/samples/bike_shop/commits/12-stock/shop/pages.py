"""The pages of the shop."""

from . import basket_pages, bike_pages, repair_pages
from .config import Settings
from .stock import Stock
from .web import Answer, Application, Page, Request, as_json, page, render, text


def application(settings: Settings) -> Application:
    """Return the shop with these settings."""

    def health(_request: Request) -> Answer:
        return as_json({"status": "ok", "version": settings.version, "commit": settings.commit})

    stock = Stock(settings.warehouse)

    def home(_request: Request) -> Answer:
        return page("Welcome", render("home", stock=text(stock.words())))

    pages: dict[tuple[str, str], Page] = {("GET", "/"): home, ("GET", "/health"): health}
    for module in (repair_pages, bike_pages, basket_pages):
        pages |= module.routes(settings)
    return Application(pages)
