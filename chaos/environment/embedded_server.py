"""The embedded proxy server as a process forked by the launcher, which shares with the target what both import."""

from __future__ import annotations

import sys

from chaos.proxy import embedded
from chaos.topology.model import InstanceConfig

FUNCTION = f"{__name__}:serve"


def config(*, host: str, port: int, seed: int, data_dir: str) -> InstanceConfig:
    """Return what the forked process is told, in the shape that every forked process is told things."""
    return InstanceConfig(
        service="proxy-server",
        instance="proxy-server",
        index=1,
        host=host,
        port=port,
        labels={},
        calls={},
        reached_by={},
        settings={},
        disabled=(),
        seed=seed,
        data_dir=data_dir,
    )


def serve(told: InstanceConfig) -> None:
    """Run the embedded server until SIGTERM, as ``python -m chaos.proxy.embedded`` does."""
    sys.exit(embedded.main(["--host", told.host, "--port", str(told.port), "--seed", str(told.seed)]))
