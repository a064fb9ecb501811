"""Which TCP ports a run uses: free ones on loopback, below the range that outgoing connections are given.

A service that is killed and restarted needs its port back. Had an outgoing connection of any program been given that
port meanwhile, the restart would fail; so ports come from 20000-31999, which Linux does not hand out (its range
starts at 32768). The range is cut into blocks, and a run takes whole blocks: each is claimed by binding an
abstract Unix socket of its name, which the kernel frees when the run ends, however it ends. Two runs on one machine,
of different users even, therefore never share a block, and no lock file is left behind.
"""

from __future__ import annotations

import errno
import random
import socket
import sys
from pathlib import Path

from chaos.errors import EnvironmentFailure
from chaos.processes import kernel

HOST = "127.0.0.1"
FIRST_PORT = 20_000
LAST_PORT = 31_999
BLOCK_PORTS = 200
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


class PortAllocator:
    """Hands out ports for one run, each once. ``close`` gives the blocks back.

    ``ports`` are those it may take, ``block_ports`` at a time. ``claim_prefix`` begins the names of the sockets that
    stand for the blocks: allocators of the same ports must have the same one, and blocks of the same size.
    """

    def __init__(
        self,
        *,
        rng: random.Random | None = None,
        ports: range = range(FIRST_PORT, LAST_PORT + 1),
        block_ports: int = BLOCK_PORTS,
        claim_prefix: str = "chaos-ports",
    ) -> None:
        self._ports = _below_outgoing(ports, least=5 * block_ports)
        self._block_ports = block_ports
        self._claim_prefix = claim_prefix
        first_ports = list(range(self._ports.start, self._ports.stop + 1 - block_ports, block_ports))
        # A random order, so that a machine's leftovers and other programs' favourites are not met every time.
        (rng or random.Random()).shuffle(first_ports)
        self._blocks = first_ports
        self._candidates: list[int] = []
        self._claims: list[socket.socket] = []
        self._taken: set[int] = set()

    def reserve(self, port: int, *, purpose: str) -> int:
        """Take exactly ``port``; raises EnvironmentFailure, naming its holder, when it is in use."""
        if port in self._taken:
            raise EnvironmentFailure(f"port {port}, wanted by {purpose}, is used twice in this run")
        try:
            _bind(port, reuse=True)
        except OSError as error:
            if error.errno == errno.EACCES:
                reason = "is reserved for the system (ports below 1024 need root)"
            elif holder := kernel.listener(port):
                reason = f"is taken by {holder}"
            else:
                reason = f"is taken by another program ({error.strerror})"
            raise EnvironmentFailure(
                f"port {port}, wanted by {purpose}, {reason}; end that program, "
                "or choose another `port:` in the topology (without one, a free port is chosen)"
            ) from error
        self._taken.add(port)
        return port

    def free(self) -> int:
        """Take any free port; raises EnvironmentFailure when all are in use."""
        while True:
            if not self._candidates:
                self._claim_block()
            port = self._candidates.pop()
            if port not in self._taken and _is_free(port):
                self._taken.add(port)
                return port

    def close(self) -> None:
        """Give the blocks back. May be called twice."""
        for claim in self._claims:
            claim.close()
        self._claims.clear()

    def _claim_block(self) -> None:
        while self._blocks:
            first = self._blocks.pop()
            if _claim(f"{self._claim_prefix}-{first}", self._claims):
                self._candidates = list(range(first + self._block_ports - 1, first - 1, -1))
                return
        raise EnvironmentFailure(
            f"no free port is left on {HOST} between {self._ports[0]} and {self._ports[-1]}; end other runs of chaos "
            "(`ss -ltnp` shows who listens)"
        )


def _claim(name: str, claims: list[socket.socket]) -> bool:
    if sys.platform != "linux":
        return True  # No abstract sockets: the bind test alone has to do.
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claim.bind(f"\0{name}")
    except OSError:
        claim.close()
        return False
    claims.append(claim)
    return True


def _below_outgoing(ports: range, *, least: int) -> range:
    """Return those of the ports that outgoing connections are not given; all, where the machine leaves too few."""
    try:
        first_ephemeral = int(_EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return ports
    below = range(ports.start, min(ports.stop, first_ephemeral))
    return below if len(below) > least else ports


def _is_free(port: int) -> bool:
    try:
        # Without SO_REUSEADDR: a port that an old connection still lingers on is passed over as well.
        _bind(port, reuse=False)
    except OSError:
        return False
    return True


def _bind(port: int, *, reuse: bool) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if reuse:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
