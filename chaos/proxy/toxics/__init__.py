"""The toxics, sans-IO: bytes and a moment go in, bytes and the moment at which they leave come out.

``kinds`` holds Toxiproxy's kinds of trouble, ``trouble`` and ``http`` those that it does not have, and ``registry`` the
table of all. ``chain`` puts several of them, in order, on one direction of one connection; ``installed`` is a toxic in
its place on a proxy.
"""

from __future__ import annotations

from chaos.proxy.toxics.base import Attribute, Direction, Meeting, StreamToxic, Toxic, Value
from chaos.proxy.toxics.chain import KIB, Chain, End, Item, Stage
from chaos.proxy.toxics.http import Conversation, HttpToxic
from chaos.proxy.toxics.installed import InstalledToxic, Life
from chaos.proxy.toxics.meter import Meter
from chaos.proxy.toxics.registry import KINDS
from chaos.proxy.toxics.trouble import Refuse

__all__ = [
    "KIB",
    "KINDS",
    "Attribute",
    "Chain",
    "Conversation",
    "Direction",
    "End",
    "HttpToxic",
    "InstalledToxic",
    "Item",
    "Life",
    "Meeting",
    "Meter",
    "Refuse",
    "Stage",
    "StreamToxic",
    "Toxic",
    "Value",
]
