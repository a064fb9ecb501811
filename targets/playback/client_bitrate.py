"""The choice of a bitrate from nothing but the fullness of the buffer.

    kbit/s
      5800 |                         ___________
           |                      _/
           |                   _/
           |                _/
       235 |_______________/
           +---------------+---------+---------+-- video in the buffer
                       reservoir  + cushion    cap

Source: Huang, Johari, McKeown, Trunnell, Watson, "A Buffer-Based Approach to Rate Adaptation", SIGCOMM 2014,
algorithm 1 (BBA-0). The rate follows the line, but is changed only when the line has crossed a whole step of the
ladder, so that it does not flutter between two neighbours.

One thing follows from our scale: a chunk of 1 s is a quarter of the scaled buffer, and the choice is made before the
chunk comes in, so that a healthy session settles below the top of the ladder.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from targets.playback.video import VideoScale


def next_kbps(current: int | None, level_s: float, ladder: Sequence[int], scale: VideoScale) -> int:
    """Return the rate, in kbit/s, of the next chunk.

    ``current`` is the rate of the chunk before (None: there was none), ``level_s`` the seconds of video in the buffer,
    ``ladder`` the title's rates in rising order (at least one).
    """
    if current is None or level_s <= scale.reservoir_s:
        return ladder[0]
    if level_s >= scale.reservoir_s + scale.cushion_s:
        return ladder[-1]
    line = ladder[0] + (ladder[-1] - ladder[0]) * (level_s - scale.reservoir_s) / scale.cushion_s
    step = bisect_right(ladder, current) - 1
    above = ladder[min(step + 1, len(ladder) - 1)]
    below = ladder[max(step - 1, 0)]
    if above > current and line >= above:
        return ladder[bisect_right(ladder, line) - 1]
    if below < current and line <= below:
        return ladder[min(bisect_left(ladder, line), len(ladder) - 1)]
    return current
