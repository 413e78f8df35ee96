import pytest

from shop import pages, prices
from shop.bikes import BIKES
from shop.web import Request


@pytest.fixture
def bikes_page(settings):
    return pages.application(settings).answer(Request("GET", "/bikes")).body.decode()


def test_range_is_shown_with_prices(bikes_page):
    assert all(f">{bike.name}</a></h2>" in bikes_page for bike in BIKES.values())
    assert "€ 799.00" in bikes_page


def test_every_bike_has_a_price():
    assert set(BIKES) == set(prices.price_list("standard-2025"))


def test_pictures_have_the_colour_of_their_bike(bikes_page):
    assert all(f'stroke="{bike.colour}"' in bikes_page for bike in BIKES.values())


def test_addresses_can_be_typed_everywhere():
    assert BIKES["oresund"].address == "/bikes/oresund"
    assert all(bike.address.isascii() for bike in BIKES.values())


def test_every_bike_has_a_page_of_its_own(settings):
    shop = pages.application(settings)
    for bike in BIKES.values():
        assert f"<h1>{bike.name}</h1>" in shop.answer(Request("GET", bike.address)).body.decode()
