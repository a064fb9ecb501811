"""An OCA's health as it is reported: its load, its disk, its titles, and where it can be reached from.

The disk is tried before each report, by reading from it. One that fails takes the OCA out (``accepting`` false); one
that is slow counts as load, the slower the more. So steering leads clients elsewhere, and they come back when the disk
has recovered, whether or not anybody else reads from it meanwhile.
"""

from __future__ import annotations

import asyncio

from chaos.resilience.web import ServiceClient
from chaos.topology.model import InstanceConfig
from targets.playback.admission import Admission
from targets.playback.disk import Disk
from targets.playback.library import Library
from targets.playback.oca_map import ANY_NETWORK, OcaReport
from targets.playback.seed_data import ISPS, IXP
from targets.playback.transport import json_of

CLIENT = "client"
"""The caller whose way to this OCA is advertised."""

SLOW_READ_S = 0.1
"""A disk that takes so long for a read is as good as full: a client that has to wait for it on every chunk stalls."""

_ACCEPTING_BELOW = 0.95
_TRIAL_S = 0.5
_TRIAL = bytes(16)


def routes_of(isp: str) -> dict[str, int]:
    """Return the routability of an OCA in network ``isp``: networks on the way to each network's clients.

    Its own clients are 0 away, an exchange is 1 from everybody, and another provider's network is 2 away.
    """
    if isp == IXP:
        return {ANY_NETWORK: 1}
    return {**dict.fromkeys(ISPS, 2), isp: 0, ANY_NETWORK: 2}


class DiskTrial:
    """Reads from a disk once in a while, and says how that went."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.failing = False
        """Whether the last read failed."""
        self.load = 0.0
        """From 0 to 1: how long the last read took, compared with `SLOW_READ_S`."""

    async def read(self) -> None:
        """Read once; one that takes longer than half a second is not waited for."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            async with asyncio.timeout(_TRIAL_S):
                await self._disk.read(lambda: _TRIAL)
        except TimeoutError:
            self.failing = False
        except OSError:
            self.failing = True
        else:
            self.failing = False
        self.load = min(1.0, (loop.time() - began_s) / SLOW_READ_S)


class Health:
    """Makes this OCA's reports."""

    def __init__(
        self, config: InstanceConfig, library: Library, admission: Admission, trial: DiskTrial, now_s: float
    ) -> None:
        self._config = config
        self._isp = config.labels.get("isp", IXP)
        self._library = library
        self._admission = admission
        self._trial = trial
        self._incarnation = int(now_s * 1000)
        self._sequence = 0

    def report(self, now_s: float) -> OcaReport:
        """Return the report of this second."""
        self._sequence += 1
        load = max(self._admission.measure_load(now_s), self._trial.load)
        return OcaReport(
            id=self._config.instance,
            incarnation=self._incarnation,
            sequence=self._sequence,
            url=f"http://{self._config.reached_by[CLIENT]}",
            isp=self._isp,
            load=load,
            accepting=load < _ACCEPTING_BELOW and not self._trial.failing,
            routes=routes_of(self._isp),
            titles_version=self._library.version,
            titles=self._library.titles,
        )


class Reporter:
    """Tells one replica of cache control about this OCA, and keeps what that one has been told."""

    def __init__(self, http: ServiceClient, address: str) -> None:
        self._http = http
        self._address = address
        self._titles_version: int | None = None

    async def report(self, report: OcaReport) -> None:
        """Send ``report``; without its titles when this replica has them. Raises what the call raises."""
        if await self._post(report, with_titles=report.titles_version != self._titles_version):
            await self._post(report, with_titles=True)
        self._titles_version = report.titles_version

    async def _post(self, report: OcaReport, *, with_titles: bool) -> bool:
        reply = await self._http.post(f"http://{self._address}/reports", json=report.to_json(with_titles=with_titles))
        return json_of(reply) == {"wants_titles": True}
