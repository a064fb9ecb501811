"""The playback buffer: video comes in by the chunk, drains in real time, and every second is accounted for.

    startup       playing      stalled      playing      paused      playing     seeking      playing
    |-------------|============|............|============|-----------|===========|------------|============|
    asked         first chunk  empty        next chunk                           empty        chunk        finished

A stall is playing that stops because the buffer has run empty, and nothing else: waiting for the first picture, a
pause, and waiting for the picture after a seek are times of their own. That is how the field counts: Conviva's
connection-induced rebuffering ratio leaves out what a viewer's seek brings about, and Android's Media3 has the states
buffering, seeking and rebuffering apart (``PlaybackStats``), a rebuffer being the depletion of the buffer and no act
of the user's.

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
    """What happened between two readings.

    While nobody pauses or seeks, ``played_s + stalled_s == until_s - since_s``; otherwise it is less.
    """

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

    ``total_s`` is the length of the title: when its end has been played, nothing stalls any more.
    """

    def __init__(self, *, total_s: float) -> None:
        self._total_s = total_s
        self._video: deque[_Stretch] = deque()  # oldest first
        self._started = False
        self._now_s = 0.0
        self._read_s = 0.0
        self._resume_s = 0.0
        self._sought = False  # nothing has come in since a seek emptied the buffer
        self._played_s = self._stalled_s = self._kbit = 0.0  # since the last reading
        self.position_s = 0.0
        """Where in the title the picture is."""
        self.level_s = 0.0
        """Seconds of video that wait to be played."""
        self.stalls = 0
        """How many times playing stopped for want of video."""
        self.still_s = 0.0
        """For how long the picture has been standing still for want of video, also after a seek; 0 while playing."""
        self.watched_s = 0.0
        """Seconds played in all."""
        self.paused_s = 0.0
        """Seconds paused in all."""
        self.seek_s = 0.0
        """Seconds waited for the first picture after a seek, in all."""

    @property
    def playing(self) -> bool:
        """Whether the first chunk has come in."""
        return self._started

    @property
    def end_s(self) -> float:
        """Up to where in the title there is video: the chunk that begins here is the next one to bring."""
        return self.position_s + self.level_s

    @property
    def finished(self) -> bool:
        """Whether the title's end has been played."""
        return self.end_s >= self._total_s - _EMPTY_S and self.level_s <= _EMPTY_S

    @property
    def resume_s(self) -> float | None:
        """The moment at which the pause that is going on ends; None while there is none."""
        return self._resume_s if self._resume_s > self._now_s else None

    def add(self, now_s: float, *, seconds: float, kbps: float, intact: bool = True) -> None:
        """Put a chunk of ``seconds`` at ``kbps`` kbit/s into the buffer; the first one starts the playing.

        One that is not ``intact`` is a broken picture: it is shown like any other, and its seconds count as stalled.
        """
        if not self._started:
            self._started = True
            self._now_s = self._read_s = now_s
        self.advance(now_s)
        self._video.append(_Stretch(kbps=kbps, left_s=seconds, intact=intact))
        self.level_s += seconds
        self.still_s = 0.0
        self._sought = False

    def pause(self, now_s: float, until_s: float) -> None:
        """Let the picture stand still until ``until_s``: nothing drains meanwhile, and nothing stalls."""
        self.advance(now_s)
        self._resume_s = max(self._resume_s, until_s)
        self.still_s = 0.0

    def seek(self, now_s: float, to_s: float) -> None:
        """Go to ``to_s`` in the title; what there is of the video from there on is kept, all other goes."""
        self.advance(now_s)
        skipped_s = to_s - self.position_s
        if 0.0 <= skipped_s <= self.level_s:
            self._take(skipped_s)
        else:
            self._video.clear()
            self.level_s = 0.0
        self.position_s = to_s
        self.still_s = 0.0
        self._sought = self.level_s == 0.0

    def advance(self, now_s: float) -> None:
        """Play, pause or stall up to the moment ``now_s``; a moment that has passed already changes nothing."""
        if not self._started or now_s <= self._now_s:
            return
        if self._now_s < self._resume_s:
            held_until_s = min(now_s, self._resume_s)
            self.paused_s += held_until_s - self._now_s
            self._now_s = held_until_s
        elapsed_s = now_s - self._now_s
        self._now_s = now_s
        shown_s = min(elapsed_s, self.level_s)
        kbit, broken_s = self._take(shown_s)
        self._kbit += kbit
        self._played_s += shown_s - broken_s
        self._stalled_s += broken_s
        self.watched_s += shown_s - broken_s
        self.position_s += shown_s
        waited_s = elapsed_s - shown_s
        if waited_s > 0.0 and not self.finished:
            self._stand_still(waited_s)

    def read(self, now_s: float) -> Account | None:
        """Return what happened since the last reading, up to ``now_s``; None when there is nothing to tell."""
        self.advance(now_s)
        since_s, self._read_s = self._read_s, self._now_s
        if self._played_s == 0.0 and self._stalled_s == 0.0:
            return None
        account = Account(
            since_s=since_s,
            until_s=self._now_s,
            played_s=self._played_s,
            stalled_s=self._stalled_s,
            kbit=self._kbit,
        )
        self._played_s = self._stalled_s = self._kbit = 0.0
        return account

    def _stand_still(self, seconds: float) -> None:
        if self._sought:
            self.seek_s += seconds
        else:
            if self.still_s == 0.0:
                self.stalls += 1
            self._stalled_s += seconds
        self.still_s += seconds

    def _take(self, seconds: float) -> tuple[float, float]:
        """Take the oldest video out; return how many kilobits of good picture it had, and seconds of a broken one."""
        kbit = broken_s = 0.0
        self.level_s -= seconds
        while seconds > 0.0 and self._video:
            stretch = self._video[0]
            taken_s = min(stretch.left_s, seconds)
            if stretch.intact:
                kbit += stretch.kbps * taken_s
            else:
                broken_s += taken_s
            stretch.left_s -= taken_s
            seconds -= taken_s
            if stretch.left_s <= _EMPTY_S:
                self._video.popleft()
        if self.level_s <= _EMPTY_S:
            self.level_s = 0.0
        return kbit, broken_s
