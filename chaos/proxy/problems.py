"""What can be wrong with a request to the proxies."""

from __future__ import annotations


class ProxyError(Exception):
    """A request to the proxies that cannot be met; ``status`` is the HTTP status it becomes."""

    def __init__(self, message: str, status: int = 500) -> None:
        super().__init__(message)
        self.status = status


class CannotBindError(ProxyError):
    """A proxy's address is right, but this machine does not let it listen there."""
