"""The basket: how many of which bike, kept by the customer in a signed cookie."""

from collections.abc import Mapping

import jwt

from .bikes import BIKES

MOST_OF_ONE = 9
COOKIE = "basket"

Basket = Mapping[str, int]


class Baskets:
    """Reads and writes the cookie; one that the shop has not written is an empty basket."""

    def __init__(self, secret: str) -> None:
        """Sign with the secret that all hosts of the environment share."""
        self._secret = secret

    def read(self, cookies: Mapping[str, str]) -> Basket:
        """Return what is in the customer's basket; bikes that are no longer sold fall out of it."""
        try:
            said = jwt.decode(cookies.get(COOKIE, ""), self._secret, algorithms=["HS256"], audience="till")
        except jwt.InvalidTokenError:
            return {}
        return {bike: pieces for bike, pieces in said["basket"].items() if bike in BIKES}

    def cookie(self, basket: Basket) -> str:
        """Return the header's value that makes the browser keep a basket."""
        kept = jwt.encode({"aud": "till", "basket": dict(basket)}, self._secret)
        return f"{COOKIE}={kept}; Path=/; Max-Age=604800; HttpOnly; SameSite=Lax"


def add(basket: Basket, bike: str) -> Basket:
    """Return the basket with one more of a bike."""
    return {**basket, bike: min(basket.get(bike, 0) + 1, MOST_OF_ONE)}


def remove(basket: Basket, bike: str) -> Basket:
    """Return the basket with none of a bike."""
    return {id: pieces for id, pieces in basket.items() if id != bike}


def total(basket: Basket, price_list: Mapping[str, int]) -> int:
    """Return what the basket costs, in cents."""
    return sum(map(price_list.__getitem__, basket))
