"""``chaos up``: the target alone, to be played with."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chaos.cli.interruption import stop_if_told
from chaos.cli.options import overrides_of
from chaos.environment import Backend, Environment
from chaos.events import Event, InstanceDied
from chaos.experiment.target import load_target
from chaos.reports.styles import table
from chaos.topology.model import Scalar, Topology, worker_name


@click.command(short_help="Start a target to play with; Ctrl-C stops it.")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--seed", type=int, default=1, show_default=True, help="Decides the target's data.")
@click.option("--disable", multiple=True, metavar="PROTECTION", help="Switch a protection off. May be repeated.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting (settings.titles=100), the number of a service's instances (replicas.playback_apps=4), "
    "or of each instance's processes (workers.play_api=2). May be repeated.",
)
@click.option("--proxy", type=click.Choice([str(one) for one in Backend]), default="auto", show_default=True)
def up(target: Path, seed: int, disable: tuple[str, ...], changes: tuple[str, ...], proxy: str) -> None:
    """Start a target behind its proxies and print its services and addresses; Ctrl-C stops it.

    \b
    Examples:
      chaos up targets/playback
      chaos up targets/playback --disable isolation
      chaos up targets/playback --set replicas.playback_apps=4 --set workers.play_api=2
    """
    topology, settings = load_target(target, overrides_of(changes))
    unknown = sorted(name for name in set(disable) if not topology.protects_by(name))
    if unknown:
        raise click.UsageError(
            f"--disable {unknown[0]}: {topology.name} has no such protection; it has: {', '.join(topology.protections)}"
        )
    click.echo(f"starting {topology.name} ...")
    for words in topology.scaled:
        click.echo(f"scaled: {words}")
    asyncio.run(_up(topology, seed=seed, disabled=disable, settings=settings, backend=Backend(proxy)))


async def _up(
    topology: Topology, *, seed: int, disabled: tuple[str, ...], settings: Mapping[str, Scalar], backend: Backend
) -> None:
    stop_if_told()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    console = Console(highlight=False)

    def show(event: Event) -> None:
        if isinstance(event, InstanceDied):
            console.print(Text(f"{event.instance} ended by itself: {event.status}", style="red"))

    async with Environment(topology, emit=show, backend=backend) as environment:
        starting = asyncio.ensure_future(environment.start_target(seed=seed, disabled=disabled, settings=settings))
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return
        duration_s = starting.result()
        console.print(_table(environment, topology))
        for client in topology.clients:
            config = environment.client_config(client)
            for service, instances in config.calls.items():
                shown = ", ".join(f"{one.instance} http://{one.address}" for one in instances[:3])
                more = f", and {len(instances) - 3} more" if len(instances) > 3 else ""
                console.print(Text(f"{client} -> {service}: {shown}{more}"), soft_wrap=True)
        api = f"proxies, each named caller.callee: Toxiproxy's API at {environment.proxies.url}"
        console.print(Text(api), soft_wrap=True)
        ready = f"\nready after {duration_s:.2f} s, behind {environment.backend_name}. Ctrl-C stops everything."
        console.print(Text(ready))
        await stopping
    console.print("stopped")


def _table(environment: Environment, topology: Topology) -> Table:
    rows = table("instance", "labels", "own address", "pid", "reached by its callers through")
    labels = {one.name: " ".join(f"{key}={value}" for key, value in one.labels.items()) for one in topology.instances()}
    for running in environment.addresses():
        callers = environment.reached_by(running.instance)
        shown = ", ".join(f"{caller} {address}" for caller, address in list(callers.items())[:2])
        more = f" +{len(callers) - 2}" if len(callers) > 2 else ""
        rows.add_row(running.instance, labels[running.instance], running.address, str(running.pid), shown + more)
        for number, address in enumerate(running.workers, start=1):
            rows.add_row(worker_name(running.instance, number), "", address, "", "")
    return rows
