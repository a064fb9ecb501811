"""``chaos heal``: clean up after a run whose guardian was killed as well."""

from __future__ import annotations

import click

from chaos.processes.guardian import heal_leftovers


@click.command(short_help="Undo what a crashed run left behind.")
def heal() -> None:
    """Undo what a crashed run left behind.

    Normally there is nothing to do: every run heals itself, and a guardian process does so when the run is killed.
    This is for the case that both were.

    \b
    Example:
      chaos heal
    """
    healed = heal_leftovers()
    for line in healed:
        click.echo(line)
    if not healed:
        click.echo("nothing to heal: no earlier run left anything behind")
