"""HTTP toxics, sans-IO: trouble for single requests of plain HTTP/1.1, chosen by what they are.

``framing`` cuts a direction into messages, ``kinds`` says which requests feel what, and ``conversation`` is both at
work on one connection.
"""

from __future__ import annotations

from chaos.proxy.toxics.http.conversation import Conversation
from chaos.proxy.toxics.http.kinds import HTTP_KINDS, Count, HttpToxic

__all__ = ["HTTP_KINDS", "Conversation", "Count", "HttpToxic"]
