"""The table of all kinds of faults: what the parser accepts, the schema describes and ``chaos faults`` lists.

A new kind is a class in a module of this package and a row here; see ``docs/adding-a-fault.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from chaos.faults.base import Fault
from chaos.faults.hook import Hook
from chaos.faults.host import Kill, Pause, Restart, Stop
from chaos.faults.network import Bandwidth, Down, Latency, LimitData, ResetPeer, Slicer, SlowClose, Timeout
from chaos.faults.requests import HttpAbort, HttpCorrupt, HttpDelay, HttpDropHeader, HttpStatus, HttpThrottle
from chaos.faults.trouble import BlackHole, Flap, Partition, Refuse, Stall

_ALL: tuple[type[Fault], ...] = (
    # on the wire
    Latency,
    Bandwidth,
    SlowClose,
    Timeout,
    ResetPeer,
    Slicer,
    LimitData,
    Down,
    # on the wire, as on a bad network
    Refuse,
    BlackHole,
    Partition,
    Stall,
    Flap,
    # on single HTTP requests
    HttpDelay,
    HttpStatus,
    HttpAbort,
    HttpThrottle,
    HttpCorrupt,
    HttpDropHeader,
    # on the host
    Kill,
    Stop,
    Pause,
    Restart,
    # within the application
    Hook,
)

FAULTS: Mapping[str, type[Fault]] = MappingProxyType({fault.kind: fault for fault in _ALL})
"""Each kind of fault by its name in the file."""
