"""The book of tickets, in the database of the shop's environment."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .repairs import Repair


class Book:
    """Numbers the tickets. A shop without a database has no book, and its tickets have no numbers."""

    def __init__(self, database: str, connect: Callable[[str], Any] | None = None) -> None:
        """Keep the address of the database; ``connect`` opens it."""
        self._database, self._connect = database, connect or _connect

    def write(self, repair: Repair, name: str) -> int | None:
        """Write a ticket down; return its number."""
        if not self._database:
            return None
        with self._cursor() as cursor:
            cursor.execute(
                "INSERT INTO tickets (repair, name, price) VALUES (%s, %s, %s) RETURNING number",
                (repair.id, name, repair.price / 100),
            )
            return int(cursor.fetchone()[0])

    def price(self, number: int) -> int | None:
        """Return the price of a ticket in cents; None: the book does not have it."""
        with self._cursor() as cursor:
            cursor.execute("SELECT price FROM tickets WHERE number = %s", (number,))
            found = cursor.fetchone()
        return round(found[0] * 100) if found else None

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        connection = self._connect(self._database)
        try:
            with connection:
                yield connection.cursor()
        finally:
            connection.close()


def _connect(database: str) -> Any:
    import psycopg2

    return psycopg2.connect(database, connect_timeout=5)
