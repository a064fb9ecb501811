"""The receipt of a surge: what the load generator really sent, compared with what was ordered."""

from __future__ import annotations

from chaos.experiment.plan import SURGE, PlannedSurge
from chaos.verdict.model import ReceiptResult

DELIVERED_SHARE = 0.95
"""A surge of which the generator sent less than this share did not come. (What it sent late is for the start lag.)"""


def surge_receipt(surge: PlannedSurge, *, sent: int, until_s: float) -> ReceiptResult:
    """Return the receipt of a surge that lasted until ``until_s`` and in which ``sent`` of its own arrivals began.

    ``connections`` are these arrivals, each of which is one user more. A guard may have ended it early: then only what
    was due until that moment is asked for.
    """
    end_s = min(until_s, surge.until_s)
    ordered = surge.ordered(end_s)
    lasted_s = max(0.0, end_s - surge.at_s)
    return ReceiptResult(
        fault=surge.name,
        kind=SURGE,
        victims=(),
        applied_at_s=surge.at_s,
        healed_at_s=max(end_s, surge.at_s),
        connections=sent,
        bytes=0,
        touched=sent > 0 and sent >= DELIVERED_SHARE * ordered,
        evidence=f"{sent} of {ordered} more arrivals began in {lasted_s:.3g} s",
    )
