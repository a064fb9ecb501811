"""The token of an embedded proxy that does not answer everybody: where it is kept, and how a request carries it."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping

VARIABLE = "CHAOS_PROXY_TOKEN"
"""The environment variable in which servers and clients look for it."""


def from_environment() -> str:
    """Return the token of this environment; empty when there is none."""
    return os.environ.get(VARIABLE, "")


def headers(token: str) -> Mapping[str, str]:
    """Return the headers of a request that carries the token; none for an empty one."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def given(authorization: str) -> str:
    """Return the token that the header ``Authorization`` carries, a bearer's or a password; empty when none."""
    scheme, _, credentials = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            return credentials.strip()
        case "basic":
            try:
                return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
            except ValueError:  # it is not base64, or not text
                return ""
        case _:
            return ""
