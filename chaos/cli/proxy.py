"""``chaos proxy``: the embedded proxy alone, in front of anything, for test suites in any language."""

from __future__ import annotations

from pathlib import Path

import click

from chaos.cli.interruption import stop_if_told
from chaos.proxy.embedded import ServerSettings, run


@click.command(short_help="Run the embedded proxy alone, with Toxiproxy's API.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where the API listens.")
@click.option("--port", default=8474, show_default=True, help="The API's port; 0 takes a free one.")
@click.option(
    "--config", type=click.Path(dir_okay=False, path_type=Path), help="JSON file with the proxies to make at the start."
)
@click.option("--seed", type=int, help="Decides which connections toxics hit, and each jitter. Else another each time.")
def proxy(*, host: str, port: int, config: Path | None, seed: int | None) -> None:
    """Run the embedded proxy alone, with Toxiproxy's API.

    Every client of Toxiproxy 2.12 works with it: it has the same API, toxics and configuration file. The first line on
    standard output says where the API is; it runs until Ctrl-C or SIGTERM.

    \b
    Examples:
      chaos proxy --config proxies.json
      curl -d '{"name": "db", "listen": "127.0.0.1:15432", "upstream": "127.0.0.1:5432"}' 127.0.0.1:8474/proxies
      curl -d '{"type": "latency", "attributes": {"latency": 500}}' 127.0.0.1:8474/proxies/db/toxics
    """
    stop_if_told()
    run(ServerSettings(host=host, port=port, config=config, seed=seed))
