import sqlite3

import pytest

from shop.book import Book
from shop.config import Settings
from shop.prices import price_list
from shop.repair_pages import Workshop
from shop.repairs import REPAIRS
from shop.web import Request


class Cursor(sqlite3.Cursor):
    def execute(self, statement, values=()):
        return super().execute(statement.replace("%s", "?"), values)


class Connection(sqlite3.Connection):
    def cursor(self):
        return super().cursor(Cursor)


@pytest.fixture
def book(tmp_path):
    with sqlite3.connect(tmp_path / "book") as made:
        made.execute(
            "CREATE TABLE tickets (number integer PRIMARY KEY AUTOINCREMENT, repair text, name text, "
            "price numeric, cents integer)"
        )
    return Book(str(tmp_path / "book"), lambda name: sqlite3.connect(name, factory=Connection))


def test_a_shop_without_a_database_has_no_book():
    assert Book("").write(REPAIRS["wheel"], "Ada") is None


def test_tickets_are_numbered_and_keep_their_price(book):
    numbers = [book.write(repair, "Ada") for repair in REPAIRS.values()]
    assert numbers == [*range(1, len(REPAIRS) + 1)]
    assert [book.price(number) for number in numbers] == [repair.price for repair in REPAIRS.values()]
    assert book.price(99) is None


def test_a_booking_shows_its_number(book, settings):
    workshop = Workshop(settings)
    workshop.book_of_tickets = book
    form = {"repair": "wheel", "name": "Ada"}
    where = dict(workshop.book(Request("POST", "/repairs", form=form)).headers)["Location"]
    ticket, number = where.removeprefix("/ticket?t=").split("&number=")
    body = workshop.ticket(Request("GET", "/ticket", query={"t": ticket, "number": number})).body.decode()
    assert "Repair ticket no. 1" in body
    assert workshop.ticket(Request("GET", "/ticket", query={"t": ticket, "number": "7"})).status == 404
    assert isinstance(settings, Settings)


def test_a_host_may_have_the_old_name_of_a_price_list():
    assert price_list("canal_street_2025") == price_list("canal-street-2025")
