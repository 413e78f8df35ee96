import pytest

from shop import prices


@pytest.mark.parametrize("shop", ["standard", "canal-street"])
def test_every_shop_has_a_price_for_every_bike(shop):
    lists = [prices.price_list(f"{shop}-{year}") for year in prices.years(shop)]
    assert all(set(bikes) == set(prices.price_list("standard-2025")) for bikes in lists)


def test_next_year_costs_a_little_more():
    this, following = prices.price_list("standard-2025"), prices.price_list("standard-2026")
    assert all(this[bike] < following[bike] <= 1.05 * this[bike] for bike in this)
