"""The running target: its processes, the proxies on its edges, and what faults may do to them."""

from chaos.environment.proxies import Backend
from chaos.environment.world import Environment, RunningInstance

__all__ = ["Backend", "Environment", "RunningInstance"]
