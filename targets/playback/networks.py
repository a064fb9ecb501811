"""Which network an address belongs to: longest prefix match over IPv4 prefixes.

Internet providers hold address blocks inside each other's blocks, so the longest prefix that matches decides, as in a
router's table.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence

_ADDRESS_BITS = 32
_LONGEST_ADDRESS_TEXT = 15


class PrefixTable:
    """Maps IPv4 addresses to the names that hold them. Pure.

    ``PrefixTable({"alpha": ("10.0.0.0/16",), "beta": ("10.0.240.0/20",)}).lookup("10.0.241.7") == "beta"``. Raises
    ValueError for a prefix that is none, or that two names hold.
    """

    def __init__(self, prefixes: Mapping[str, Sequence[str]]) -> None:
        by_length: dict[int, dict[int, str]] = {}
        for name, held in prefixes.items():
            for text in held:
                network = ipaddress.IPv4Network(text)
                table = by_length.setdefault(_ADDRESS_BITS - network.prefixlen, {})
                key = int(network.network_address) >> (_ADDRESS_BITS - network.prefixlen)
                if table.setdefault(key, name) != name:
                    raise ValueError(f"The prefix {text} is held by both {table[key]!r} and {name!r}.")
        # Host bits, fewest first: that is the longest prefix first.
        self._tables = sorted(by_length.items())

    def lookup(self, address: str) -> str | None:
        """Return the name that holds ``address``, or None when nobody does or it is no IPv4 address."""
        if len(address) > _LONGEST_ADDRESS_TEXT:
            return None
        try:
            number = int(ipaddress.IPv4Address(address))
        except ValueError:
            return None
        for host_bits, table in self._tables:
            name = table.get(number >> host_bits)
            if name is not None:
                return name
        return None
