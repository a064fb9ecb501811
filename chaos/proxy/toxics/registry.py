"""The table of all kinds of toxics."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from chaos.proxy.toxics.base import Toxic
from chaos.proxy.toxics.http import HTTP_KINDS
from chaos.proxy.toxics.kinds import Bandwidth, Latency, LimitData, Noop, ResetPeer, Slicer, SlowClose, Timeout
from chaos.proxy.toxics.trouble import BlackHole, Flap, Partition, Refuse, Stall

_ALL: tuple[type[Toxic], ...] = (
    # as Toxiproxy has them
    *(Noop, Latency, Bandwidth, SlowClose, Timeout, ResetPeer, Slicer, LimitData),
    # as on a bad network
    *(Refuse, BlackHole, Partition, Stall, Flap),
    # for single HTTP requests
    *HTTP_KINDS.values(),
)

KINDS: Mapping[str, type[Toxic]] = MappingProxyType({toxic.kind: toxic for toxic in _ALL})
"""Every kind of toxic by its name in the API. A new one is a class and a row above."""
