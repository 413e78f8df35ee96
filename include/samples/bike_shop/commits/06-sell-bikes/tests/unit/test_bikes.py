import pytest

from shop import pages, prices
from shop.bikes import BIKES
from shop.web import Request


@pytest.fixture
def bikes_page(settings):
    return pages.application(settings).answer(Request("GET", "/bikes")).body.decode()


def test_range_is_shown_with_prices(bikes_page):
    assert all(f"<h2>{bike.name}</h2>" in bikes_page for bike in BIKES.values())
    assert "€ 799.00" in bikes_page


def test_every_bike_has_a_price():
    assert set(BIKES) == set(prices.price_list("standard-2025"))


def test_pictures_have_the_colour_of_their_bike(bikes_page):
    assert all(f'stroke="{bike.colour}"' in bikes_page for bike in BIKES.values())
