"""Which addresses are asked when somebody else's file says where something is."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from interlock.domain.networks import may_be_asked, networks_in

OFFICE = networks_in("10.20.0.0/16, 127.0.0.0/8 fd00::/8,0.0.0.0/0 ::/0")


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1111", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"])
def test_the_internet_is_asked(address: str) -> None:
    assert may_be_asked(ip_address(address), [])


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "::1", "10.20.1.1", "192.168.7.9", "100.64.0.1", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"],
)
def test_what_is_private_is_asked_only_if_it_is_named(address: str) -> None:
    assert not may_be_asked(ip_address(address), [])
    assert not may_be_asked(ip_address(address), networks_in("10.30.0.0/16"))
    assert may_be_asked(ip_address(address), OFFICE)


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "fe80::1", "0.0.0.0", "::", "224.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"],
)
def test_what_is_local_to_a_link_and_what_is_no_ones_is_never_asked(address: str) -> None:
    assert not may_be_asked(ip_address(address), OFFICE)


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ValueError, match=r"allowed: networks such as 10\.20\.0\.0/16"):
        networks_in("10.20.0.1/16")
