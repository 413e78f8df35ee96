from shop.till import total


def test_adds_up():
    assert total(49900, 3) == 149700


def test_of_nothing_is_nothing():
    assert total(49900, 0) == 0
