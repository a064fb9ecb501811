"""What a session is given when it begins: who wants to see what, and the client's limits and protections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from targets.playback.client_viewing import Viewing
from targets.playback.video import VideoScale


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayOrder:
    """One press of the play button: who wants to see what, from where, since when, and how they will watch it.

    ``scheduled_s`` is the moment the play was due; the play delay counts from it.
    """

    elb: str
    """``host:port`` of the load balancer."""
    title: str
    token: str
    client_ip: str
    scheduled_s: float
    device: str = "tv"
    """What it is watched on: phone, tablet, tv or tv_4k."""
    key: str = ""
    """The play's own name (``Idempotency-Key``): the second try brings the same one. Empty: none is sent."""
    viewing: Viewing = field(default_factory=Viewing)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """The client's limits, and which of its protections are on. All times in seconds."""

    scale: VideoScale = field(default_factory=VideoScale)
    retry: bool = True
    """Ask a second time, on another connection, when the first answer is none or an error."""
    probe: bool = True
    """Measure the OCAs before taking one; off: take the first of the list."""
    failover: bool = True
    """Move to another OCA when one stalls, dies or slows; off: stick with the first one."""
    checksum: bool = True
    """Go elsewhere when a chunk is not what it should be; off: show it, a second of broken picture."""
    play_timeout_s: float = 1.5
    """For one try of the play request, and of any other that is not for video."""
    retry_pause_s: float = 0.1
    """Before the second try, and between tries on one OCA; each time up to half more, at random."""
    probe_timeout_s: float = 0.4
    probe_grace_s: float = 0.05
    """Who answers a probe this much later than the first is not waited for."""
    probe_tolerance_s: float = 0.02
    """Who answers within this of the fastest is as fast."""
    chunk_timeout_max_s: float = 1.0
    chunk_timeout_min_s: float = 0.4
    """The timeout of a chunk is a third of the buffer between these two, so that there is time for two more OCAs."""
    slow_chunk_s: float = 0.5
    """An OCA whose first chunk takes longer than this, or two later ones in a row, is left."""
    reprobe_pause_max_s: float = 1.0
    start_limit_s: float = 5.0
    """A play without a first frame by then has failed; from the moment it was due."""
    give_up_s: float = 10.0
    """A viewer who sees the picture stand still for this long in a row goes away."""

    @classmethod
    def of(cls, settings: Mapping[str, str | int | float | bool], disabled: Sequence[str]) -> ClientConfig:
        """Return the configuration for a topology's settings and the protections that are switched off.

        Raises ValueError when the setting ``video_scale`` is not a number of 1 or more.
        """
        return cls(
            scale=VideoScale(float(settings.get("video_scale", VideoScale().factor))),
            retry="client_retry" not in disabled,
            probe="client_probe" not in disabled,
            failover="client_failover" not in disabled,
            checksum="client_checksum" not in disabled,
        )
