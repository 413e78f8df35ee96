"""A till that adds up."""


def total(price, bikes):
    """Return the price of so many bikes, in cents."""
    return price * bikes


if __name__ == "__main__":
    print(total(49900, 3))
