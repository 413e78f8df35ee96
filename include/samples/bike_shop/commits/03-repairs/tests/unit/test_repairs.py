import io

import jwt
import pytest

from shop import pages
from shop.repairs import REPAIRS, Tickets
from shop.web import Request


@pytest.fixture
def ask(settings):
    shop = pages.application(settings)
    return lambda path, method="GET", **values: shop.answer(Request(method, path, query=values, form=values))


def test_workshop_shows_every_repair_with_its_price(ask):
    body = ask("/repairs").body.decode()
    assert all(repair.name in body for repair in REPAIRS.values())
    assert "€ 59.00" in body


@pytest.mark.parametrize(("id", "words"), [("puncture", "while"), ("wheel", "next working day"), ("tune-up", "2")])
def test_repair_says_how_long_it_takes(id, words):
    assert words in REPAIRS[id].when


def test_booking_leads_to_the_ticket(ask):
    booked = ask("/repairs", "POST", repair="wheel", name="Ada <3")
    assert booked.status == 303
    ticket = dict(booked.headers)["Location"].removeprefix("/ticket?t=")
    body = ask("/ticket", t=ticket).body.decode()
    assert "Wheel truing" in body
    assert "Ada &lt;3" in body


@pytest.mark.parametrize(("repair", "name"), [("wheel", ""), ("paint", "Ada"), ("wheel", " "), ("", "Ada")])
def test_incomplete_booking_is_refused(ask, repair, name):
    assert ask("/repairs", "POST", repair=repair, name=name).status == 400


def test_ticket_of_a_stranger_is_refused(ask):
    forged = Tickets("a secret that the shop does not have").write(REPAIRS["wheel"], "Eve")
    assert ask("/ticket", t=forged).status == 404
    assert ask("/ticket").status == 404


def test_signed_token_of_another_kind_is_no_ticket(ask, settings):
    basket = jwt.encode({"aud": "till", "repair": "wheel", "name": "Eve"}, settings.secret)
    assert ask("/ticket", t=basket).status == 404


def test_form_travels_through_wsgi(settings):
    form = b"repair=wheel&name=Ada"
    answers = []
    environ = {
        "PATH_INFO": "/repairs",
        "REQUEST_METHOD": "POST",
        "CONTENT_LENGTH": str(len(form)),
        "wsgi.input": io.BytesIO(form),
    }
    assert pages.application(settings)(environ, lambda *answer: answers.append(answer)) == [b""]
    assert answers[0][0] == "303 See Other"
