"""Public holidays of countries and their regions, from the package holidays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from functools import lru_cache

from interlock.domain.catalogue.calendar_file import Holidays
from interlock.domain.catalogue.problem import Place, Problem


@lru_cache(maxsize=1024)
def public_holidays(country: str, region: str | None, year: int) -> Mapping[date, str]:
    """Return the public holidays of a country or one of its regions in a year, by day, with English names."""
    import holidays  # not at the top: half a second, for calendars that have some

    return dict(holidays.country_holidays(country, subdiv=region, years=year, language="en_US"))


def unknown_holidays(place: Place, holidays: Holidays | None, year: int) -> Iterator[Problem]:
    """Yield unknown countries and regions of a file."""
    try:
        if holidays is not None:
            public_holidays(holidays.country, holidays.region, year)
    except (NotImplementedError, ValueError) as error:
        yield Problem(place, "", f"the package holidays says: {error}".rstrip("."))
