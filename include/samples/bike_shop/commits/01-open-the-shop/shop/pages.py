"""The pages of the shop."""

from .config import Settings
from .web import Answer, Application, Request, as_json, page, render


def application(settings: Settings) -> Application:
    """Return the shop with these settings."""

    def health(_request: Request) -> Answer:
        return as_json({"status": "ok", "version": settings.version, "commit": settings.commit})

    return Application({("GET", "/"): home, ("GET", "/health"): health})


def home(_request: Request) -> Answer:
    """Welcome the customer."""
    return page("Welcome", render("home"))
