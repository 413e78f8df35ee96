"""What belongs to production is told by the catalogue, and refused by what it is and not by what it is called."""

from __future__ import annotations

from dataclasses import replace

import pytest

from interlock.domain.errors import PolicyViolation
from interlock.domain.permits.production import Place, Production, trespasses

SHOP = Place("shop", "production", ({"service": "shop", "stage": "production"},), "aws", "hosts", ("shop-web",))
TEST = Place("till", "test", ({"service": "till", "stage": "test"},), "aws", "test_hosts", ("till-test",))


def test_a_sandbox_of_its_own_is_fine() -> None:
    assert [*trespasses([TEST], [SHOP])] == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ssh": "hosts"}, "environments.test.ssh: hosts is the login of production of shop"),
        ({"target_groups": ("shop-web",)}, "environments.test.target_group: shop-web is that of production of shop"),
        ({"fleets": SHOP.fleets}, "environments.test.hosts selects what production of shop selects"),
        ({"fleets": ({"service": "shop"},)}, "environments.test.hosts selects what production of shop selects"),
        (
            {"fleets": ({"service": "shop", "stage": "production", "zone": "a"},)},
            "environments.test.hosts selects what production of shop selects",
        ),
    ],
)
def test_what_is_productions_by_the_catalogue_is_told(changes: dict[str, object], says: str) -> None:
    (sentence,) = trespasses([replace(TEST, **changes)], [SHOP])
    assert says in sentence
    assert sentence.startswith("services/till.yaml, ")


@pytest.mark.parametrize("changes", [{"fleets": SHOP.fleets}, {"target_groups": ("shop-web",)}])
def test_another_account_has_other_instances_and_groups(changes: dict[str, object]) -> None:
    assert [*trespasses([replace(TEST, aws="other", **changes)], [SHOP])] == []


def test_what_is_productions_is_refused_with_whose_it_is() -> None:
    production = Production({("address", "10.0.0.7"): "production of shop"})
    production.refuse("address", "10.0.0.8", "the address 10.0.0.8")
    production.refuse("instance", "10.0.0.7", "another kind of thing")
    with pytest.raises(PolicyViolation, match=r"the address 10\.0\.0\.7 belongs to production of shop"):
        production.refuse("address", "10.0.0.7", "the address 10.0.0.7")
