"""Ports for tests that bind them later, again, or never: claimed for this process of tests until it ends.

A port that the kernel chose and that was closed again may be given to whoever connects or listens next, in this process
or in any other. So these come from below the range of outgoing connections, with the mechanism that runs use (see
`chaos.processes.ports`), and from a range of their own: tests take no run its ports.
"""

from __future__ import annotations

import atexit
import functools

from chaos.processes.ports import HOST, PortAllocator

BLOCK_PORTS = 50
"""How many a process of tests claims at a time, which is also the most that `free_range` can give."""


@functools.cache
def _allocator() -> PortAllocator:
    allocator = PortAllocator(ports=range(10_000, 20_000), block_ports=BLOCK_PORTS, claim_prefix="chaos-tests-ports")
    atexit.register(allocator.close)
    return allocator


def free_port() -> int:
    """A port where nobody listens, and nobody else is going to."""
    return _allocator().free()


def free_range(count: int) -> range:
    """So many of them in a row."""
    assert count <= BLOCK_PORTS
    found = [free_port()]
    while len(found) < count:
        port = free_port()
        found = [*found, port] if port == found[-1] + 1 else [port]
    return range(found[0], found[-1] + 1)


def dead_address() -> str:
    """An address where nobody listens, for as long as the tests run."""
    return f"{HOST}:{free_port()}"
