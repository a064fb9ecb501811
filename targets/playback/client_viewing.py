"""What a viewer does with the remote control: watch to the end, pause for a while, seek, or stop early.

The plan is made before anybody knows how long the title is, so places are shares of its length, 0 to 1::

    Viewing(presses=(Pause(after=0.3, length_s=2.0), Seek(after=0.5, to=0.8)))

``after`` counts what has been watched, wherever in the title that was. A press that is never come to is never done.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

PRESSES_MAX = 8
PAUSE_MAX_S = 60.0

PAUSE_SHARE = 0.15
SEEK_SHARE = 0.12
STOP_SHARE = 0.20
"""How many of the viewers pause once, seek once, stop early: chosen for a mix of everything, not measured anywhere."""

_FORWARD_SHARE = 0.7
_PAUSES_S = (0.5, 3.0)
_SEEKS = (0.05, 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Let the picture stand still for ``length_s`` seconds. Raises ValueError for what is out of range."""

    after: float
    length_s: float

    def __post_init__(self) -> None:
        _check_share("after", self.after)
        if not 0.0 < self.length_s <= PAUSE_MAX_S:
            raise ValueError(f"a pause is longer than 0 s and at most {PAUSE_MAX_S:g} s long, not {self.length_s!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seek:
    """Go to ``to`` of the title, which is taken to the beginning of a chunk. Raises ValueError as `Pause` does."""

    after: float
    to: float

    def __post_init__(self) -> None:
        _check_share("after", self.after)
        _check_share("to", self.to)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Go away. Raises ValueError as `Pause` does."""

    after: float

    def __post_init__(self) -> None:
        _check_share("after", self.after)


Press = Pause | Seek | Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewing:
    """One viewer's plan; without presses they watch to the end. Raises ValueError when it is out of order."""

    presses: tuple[Press, ...] = ()

    def __post_init__(self) -> None:
        if len(self.presses) > PRESSES_MAX:
            raise ValueError(f"a viewer presses at most {PRESSES_MAX} times, not {len(self.presses)}")
        if any(later.after < earlier.after for earlier, later in itertools.pairwise(self.presses)):
            raise ValueError("presses are in the order of what has been watched before them")
        if any(isinstance(press, Stop) for press in self.presses[:-1]):
            raise ValueError("whoever has stopped presses nothing more")

    @classmethod
    def draw(cls, rng: random.Random) -> Viewing:
        """Return what some viewer does: most watch to the end, each of the other habits is a minority's."""
        presses: list[Press] = []
        if rng.random() < PAUSE_SHARE:
            presses.append(Pause(after=rng.random(), length_s=rng.uniform(*_PAUSES_S)))
        if rng.random() < SEEK_SHARE:
            after = rng.random()
            way = rng.uniform(*_SEEKS) * (1.0 if rng.random() < _FORWARD_SHARE else -1.0)
            presses.append(Seek(after=after, to=min(1.0, max(0.0, after + way))))
        presses.sort(key=lambda press: press.after)
        if rng.random() < STOP_SHARE:
            after = rng.random()
            presses = [*(press for press in presses if press.after <= after), Stop(after=after)]
        return cls(presses=tuple(presses))


def _check_share(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} is a share of the title's length, from 0 to 1, not {value!r}")
