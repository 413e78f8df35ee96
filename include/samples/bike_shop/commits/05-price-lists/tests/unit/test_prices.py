from shop import prices


def test_every_list_has_a_price_for_every_bike():
    lists = [prices.price_list(name) for name in prices.LISTS]
    assert all(set(bikes) == set(lists[0]) for bikes in lists)


def test_canal_street_has_prices_of_its_own():
    assert prices.price_list("canal_street_2025") != prices.price_list("standard-2025")
