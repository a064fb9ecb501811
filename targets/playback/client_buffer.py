"""The playback buffer: video comes in by the chunk, drains in real time, and every second is accounted for.

    startup          playing                stalled     playing
    |----------------|======================|...........|=========|
    asked            first chunk            empty       next chunk   finished

A chunk that is broken takes its time on the screen and shows nothing: its seconds count as stalled.

No clock is read here: each call brings the moment it happens at, in seconds on any clock that does not go back.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

_EMPTY_S = 1e-9
"""Less video than this is none: sums of floats leave such crumbs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What happened between two readings: ``played_s + stalled_s == until_s - since_s`` while a session plays."""

    since_s: float
    until_s: float
    played_s: float
    stalled_s: float
    kbit: float
    """Real-world kilobits of the video that was played: divided by ``played_s`` it is the mean bitrate."""


@dataclass(slots=True, kw_only=True)
class _Stretch:
    """What is left of one chunk."""

    kbps: float
    left_s: float
    intact: bool


class PlaybackBuffer:
    """A buffer that plays as soon as it holds something, and stalls while it holds nothing.

    ``total_s`` is the length of the whole session: once that much has been played, nothing stalls any more.
    """

    def __init__(self, *, total_s: float) -> None:
        self._total_s = total_s
        self._video: deque[_Stretch] = deque()  # oldest first
        self._added_s = 0.0
        self._started = False
        self._now_s = 0.0
        self._read_s = 0.0
        self._played_s = self._stalled_s = self._kbit = 0.0  # since the last reading
        self.level_s = 0.0
        """Seconds of video that wait to be played."""
        self.stalls = 0
        """How many times playing stopped for want of video."""
        self.stalled_in_a_row_s = 0.0
        """Length of the stall that is going on; 0 while playing."""

    @property
    def playing(self) -> bool:
        """Whether the first chunk has come in."""
        return self._started

    @property
    def finished(self) -> bool:
        """Whether all of the session has been played."""
        return self._added_s >= self._total_s - _EMPTY_S and self.level_s <= _EMPTY_S

    def add(self, now_s: float, *, seconds: float, kbps: float, intact: bool = True) -> None:
        """Put a chunk of ``seconds`` at ``kbps`` kbit/s into the buffer; the first one starts the playing.

        One that is not ``intact`` is a broken picture: it is shown like any other, and its seconds count as stalled.
        """
        if not self._started:
            self._started = True
            self._now_s = self._read_s = now_s
        self.advance(now_s)
        self._video.append(_Stretch(kbps=kbps, left_s=seconds, intact=intact))
        self._added_s += seconds
        self.level_s += seconds
        self.stalled_in_a_row_s = 0.0

    def advance(self, now_s: float) -> None:
        """Play, or stall, up to the moment ``now_s``; a moment that has passed already changes nothing."""
        if not self._started or now_s <= self._now_s:
            return
        elapsed_s = now_s - self._now_s
        self._now_s = now_s
        played_s = min(elapsed_s, self.level_s)
        self._play(played_s)
        stalled_s = elapsed_s - played_s
        if stalled_s > 0.0 and not self.finished:
            if self.stalled_in_a_row_s == 0.0:
                self.stalls += 1
            self.stalled_in_a_row_s += stalled_s
            self._stalled_s += stalled_s

    def read(self, now_s: float) -> Account | None:
        """Return what happened since the last reading, up to ``now_s``; None when there is nothing to tell."""
        self.advance(now_s)
        if self._played_s == 0.0 and self._stalled_s == 0.0:
            return None
        account = Account(
            since_s=self._read_s,
            until_s=self._now_s,
            played_s=self._played_s,
            stalled_s=self._stalled_s,
            kbit=self._kbit,
        )
        self._read_s = self._now_s
        self._played_s = self._stalled_s = self._kbit = 0.0
        return account

    def _play(self, seconds: float) -> None:
        self.level_s -= seconds
        while seconds > 0.0 and self._video:
            stretch = self._video[0]
            taken_s = min(stretch.left_s, seconds)
            if stretch.intact:
                self._played_s += taken_s
                self._kbit += stretch.kbps * taken_s
            else:
                self._stalled_s += taken_s
            stretch.left_s -= taken_s
            seconds -= taken_s
            if stretch.left_s <= _EMPTY_S:
                self._video.popleft()
        self._played_s += max(0.0, seconds)  # a crumb that sums of floats left over
        if self.level_s <= _EMPTY_S:
            self.level_s = 0.0
