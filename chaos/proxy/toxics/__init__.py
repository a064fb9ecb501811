"""The toxics, sans-IO: bytes and a moment go in, bytes and the moment at which they leave come out.

``kinds`` holds the kinds of trouble and their table; ``chain`` puts several of them, in order, on one direction of
one connection.
"""

from __future__ import annotations

from chaos.proxy.toxics.chain import KIB, Chain, End, Item, Stage
from chaos.proxy.toxics.kinds import KINDS, Direction, InstalledToxic, Toxic

__all__ = ["KIB", "KINDS", "Chain", "Direction", "End", "InstalledToxic", "Item", "Stage", "Toxic"]
