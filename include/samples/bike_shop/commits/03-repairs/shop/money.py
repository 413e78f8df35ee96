"""Amounts of money are whole cents everywhere; here they become words."""

SYMBOLS = {"EUR": "€", "GBP": "£", "USD": "$"}


def words(cents: int, currency: str) -> str:
    """Return an amount as people write it.

    >>> words(123456, "EUR")
    '€ 1,234.56'
    """
    return f"{SYMBOLS.get(currency, currency)} {cents // 100:,}.{cents % 100:02d}"
