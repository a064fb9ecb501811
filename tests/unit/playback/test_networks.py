"""Longest prefix match."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.playback.networks import PrefixTable

PREFIXES = st.builds(
    lambda address, length: str(ipaddress.IPv4Network((address, length), strict=False)),
    st.integers(0, 2**32 - 1),
    st.integers(0, 32),
)


def test_the_longest_prefix_that_matches_decides():
    table = PrefixTable({"alpha": ("10.0.0.0/16",), "beta": ("10.0.240.0/20", "10.0.241.7/32")})

    assert table.lookup("10.0.1.1") == "alpha"
    assert table.lookup("10.0.255.255") == "beta"
    assert table.lookup("10.0.241.7") == "beta"


@pytest.mark.parametrize("address", ["10.1.0.0", "", "ten", "10.0.0.0.0", "10.0.0.0/16", "::1", "1" * 100])
def test_an_address_of_nobody_has_no_network(address):
    assert PrefixTable({"alpha": ("10.0.0.0/16",)}).lookup(address) is None


def test_a_prefix_held_by_two_is_refused():
    with pytest.raises(ValueError, match="held by both 'alpha' and 'beta'"):
        PrefixTable({"alpha": ("10.0.0.0/16",), "beta": ("10.0.0.0/16",)})


@given(st.lists(PREFIXES, unique=True, max_size=12), st.integers(0, 2**32 - 1))
def test_the_table_agrees_with_a_search_through_all_prefixes(prefixes, number):
    table = PrefixTable({f"network-{text}": (text,) for text in prefixes})
    address = ipaddress.IPv4Address(number)
    holding = [network for network in map(ipaddress.IPv4Network, prefixes) if address in network]
    longest = max(holding, key=lambda network: network.prefixlen, default=None)

    assert table.lookup(str(address)) == (None if longest is None else f"network-{longest}")
