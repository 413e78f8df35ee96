import pytest

from shop import basket, pages
from shop.web import Request

PRICES = {"senora": 69900, "kolibri": 34900}


@pytest.fixture
def ask(settings):
    shop = pages.application(settings)
    return lambda path, method="GET", cookies=(), **form: shop.answer(
        Request(method, path, form=form, cookies=dict(cookies))
    )


@pytest.fixture
def cookie(ask):
    """Return a function that puts a bike into a basket and returns the browser's new cookie."""

    def put(bike, cookies=()):
        kept = dict(ask("/basket/add", "POST", cookies, bike=bike).headers)["Set-Cookie"]
        return {"basket": kept.partition(";")[0].removeprefix("basket=")}

    return put


def test_total_is_the_price_of_what_is_in_it():
    assert basket.total(basket.add(basket.add({}, "senora"), "kolibri"), PRICES) == 104800


def test_every_piece_counts():
    assert basket.total({"senora": 2, "kolibri": 1}, PRICES) == 174700


def test_basket_has_room_for_nine_of_a_kind():
    full = {"senora": basket.MOST_OF_ONE}
    assert basket.add(full, "senora") == full


def test_removing_takes_all_of_a_kind():
    assert basket.remove({"senora": 2, "kolibri": 1}, "senora") == {"kolibri": 1}


def test_basket_is_kept_in_a_signed_cookie(ask, cookie):
    body = ask("/basket", cookies=cookie("senora", cookie("kolibri"))).body.decode()
    assert "Señora" in body
    assert "Kolibri" in body
    assert "€ 1,048.00" in body


def test_forged_cookie_is_an_empty_basket(ask):
    assert "empty" in ask("/basket", cookies={"basket": "eyJzZW5vcmEiOi0xfQ.forged"}).body.decode()


def test_bike_that_is_not_sold_is_refused(ask):
    assert ask("/basket/add", "POST", bike="car").status == 400


def test_removed_bike_is_gone(ask, cookie):
    kept = dict(ask("/basket/remove", "POST", cookie("senora"), bike="senora").headers)["Set-Cookie"]
    left = {"basket": kept.partition(";")[0].removeprefix("basket=")}
    assert "empty" in ask("/basket", cookies=left).body.decode()
