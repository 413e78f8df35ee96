import pytest

from shop import money


@pytest.mark.parametrize(
    ("cents", "currency", "expected"),
    [(5, "EUR", "€ 0.05"), (123456, "EUR", "€ 1,234.56"), (200, "GBP", "£ 2.00"), (200, "SEK", "SEK 2.00")],
)
def test_amounts_become_words(cents, currency, expected):
    assert money.words(cents, currency) == expected
