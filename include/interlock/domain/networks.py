"""Addresses that may be contacted if a file of another organisation names them: the Internet, and named networks."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
_NAT64 = IPv6Network("64:ff9b::/96")


def may_be_asked(address: Address, networks: Sequence[Network]) -> bool:
    """Tell whether an address is on the Internet or in one of some networks; a link-local address never is."""
    real = _unwrapped(address)
    if real.is_link_local or real.is_multicast or real.is_unspecified:
        return False
    return real.is_global or any(real in network for network in networks)


def _unwrapped(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address leads to, if it does."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None) or address


def networks_in(text: str) -> list[Network]:
    """Return the networks that a text names, with commas or blanks between them.

    :raises ValueError: something in it is none.
    """
    try:
        return [ip_network(one) for one in text.replace(",", " ").split()]
    except ValueError as error:
        raise ValueError(f"{error}; allowed: networks such as 10.20.0.0/16") from None
