"""``chaos proxy``: the embedded proxy alone, in front of anything, for test suites in any language."""

from __future__ import annotations

from pathlib import Path

import click

from chaos.cli.interruption import stop_if_told
from chaos.proxy.api import BODY_MAX_BYTES
from chaos.proxy.embedded import ServerSettings, run
from chaos.proxy.proxies import Limits
from chaos.proxy.token import VARIABLE


@click.command(short_help="Run the embedded proxy alone, with Toxiproxy's API.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where the API listens.")
@click.option("--port", default=8474, show_default=True, help="The API's port; 0 takes a free one.")
@click.option(
    "--config", type=click.Path(dir_okay=False, path_type=Path), help="JSON file with the proxies to make at the start."
)
@click.option("--seed", type=int, help="Decides which connections toxics hit, and each jitter. Else another each time.")
@click.option("--token", default="", envvar=VARIABLE, help="Answer only who gives this token. Better set as "
              "the variable CHAOS_PROXY_TOKEN: arguments can be seen by others.")  # fmt: skip
@click.option("--allow-anyone", is_flag=True, help="Let --host be an address of the network without a --token.")
@click.option("--max-proxies", default=Limits().proxies, show_default=True, type=click.IntRange(min=1),
              help="So many proxies at once.")  # fmt: skip
@click.option("--max-connections", type=click.IntRange(min=1),
              help="So many connections at once; more are reset. "
              "[default: half the open files that the system allows]")  # fmt: skip
@click.option("--max-body-bytes", default=BODY_MAX_BYTES, show_default=True, type=click.IntRange(min=1024),
              help="The longest request that the API takes.")  # fmt: skip
def proxy(
    *,
    host: str,
    port: int,
    config: Path | None,
    seed: int | None,
    token: str,
    allow_anyone: bool,
    max_proxies: int,
    max_connections: int | None,
    max_body_bytes: int,
) -> None:
    """Run the embedded proxy alone, with Toxiproxy's API.

    Every client of Toxiproxy 2.12 works with it: it has the same API, toxics and configuration file, and more: toxics
    for single HTTP requests and for bad networks, leases, receipts (docs/proxy.md). The first line on standard output
    says where the API is; it runs until Ctrl-C or SIGTERM.

    \b
    Examples:
      chaos proxy --config proxies.json
      curl -d '{"name": "db", "listen": "127.0.0.1:15432", "upstream": "127.0.0.1:5432"}' 127.0.0.1:8474/proxies
      curl -d '{"type": "latency", "attributes": {"latency": 500}}' 127.0.0.1:8474/proxies/db/toxics
    """
    stop_if_told()
    run(
        ServerSettings(
            host=host,
            port=port,
            config=config,
            seed=seed,
            token=token,
            allow_anyone=allow_anyone,
            proxies_max=max_proxies,
            connections_max=max_connections,
            body_max_bytes=max_body_bytes,
        )
    )
