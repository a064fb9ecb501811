"""The passport: who asks and from where, as the gateway found out; every service behind it trusts it.

It travels in one header. The gateway makes it from the verified token and the forwarded address, and passes on no
header of the caller's, so nobody outside can bring one along.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from targets.playback.validation import Subscriber

HEADER = "X-Passport"

UNKNOWN_ADDRESS = "0.0.0.0"


class NoPassport(Exception):  # noqa: N818 - it names what is wrong
    """A request without a readable passport: it did not come through the gateway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passport:
    """The subscriber's verified claims and the client's address."""

    subscriber: Subscriber
    ip: str

    def to_header(self) -> str:
        """Return the header's value."""
        return json.dumps({"subscriber": self.subscriber.to_json(), "ip": self.ip}, separators=(",", ":"))

    @classmethod
    def from_header(cls, value: str | None) -> Passport:
        """Read a header's value. Raises NoPassport."""
        if value is None:
            raise NoPassport(f"the header {HEADER} is missing")
        try:
            data = json.loads(value)
            match data:
                case {"subscriber": subscriber, "ip": str(ip)}:
                    return cls(subscriber=Subscriber.from_json(subscriber), ip=ip)
                case _:
                    raise NoPassport(f"the header {HEADER} holds no passport")
        except ValueError as error:
            raise NoPassport(str(error)) from error


def client_address(forwarded_for: str | None) -> str:
    """Return the client's address from ``X-Forwarded-For`` as the load balancer left it.

    Each hop appends the address it was called from. The last entry is the balancer's: the network in front of it. The
    one before is that network's: the client. Entries further left are the client's own claims, and count for nothing.
    Without an entry of the network, its own address is all that is known.
    """
    entries = [entry.strip() for entry in (forwarded_for or "").split(",") if entry.strip()]
    if not entries:
        return UNKNOWN_ADDRESS
    return entries[-2] if len(entries) > 1 else entries[-1]
