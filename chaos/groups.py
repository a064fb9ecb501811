"""The two groups of a concurrent comparison: who is in the experiment, who is its control, and everybody else.

::

    place of an account, from 0 to 1   0 ........ share ........ 2 x share ........................ 1
                                       | experiment |  control   |   the rest: load as ever, in no group

Both groups are under the same load in the same seconds, and the faults fall on the first one alone. See
`docs/verdicts.md`.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

GROUP_HEADER = "X-Chaos-Group"
"""Name of the HTTP header by which requests say whose they are (``chaos.resilience.groups`` passes it on)."""

SHARE_MOST = 0.5
"""The two groups are equal slices of all accounts."""


class Group(StrEnum):
    """A slice of the accounts; its value is that of the header, and how samples are marked."""

    EXPERIMENT = "experiment"
    """The faults fall on these."""
    CONTROL = "control"
    """Nothing happens to these; they show what would have been."""


def group_of(account: str, *, share: float, seed: int) -> Group | None:
    """Return the group of an account, by any name that it keeps through a run; None: it is in neither.

    ``share`` is that of each group in all accounts, at most a half; 0: there are no groups. The account's place is the
    SHA-256 of ``"seed/account"``, its first eight bytes as a fraction of 2 ** 64: the same in every process, and
    another one for another seed, so that no account is in the experiment for ever.
    """
    place = int.from_bytes(hashlib.sha256(f"{seed}/{account}".encode()).digest()[:8]) / 2**64
    if place < share:
        return Group.EXPERIMENT
    return Group.CONTROL if place < 2.0 * share else None


def group_headers(group: Group | None) -> dict[str, str]:
    """Return the headers that a request of this group has: one, or none outside of the groups."""
    return {} if group is None else {GROUP_HEADER: group.value}
