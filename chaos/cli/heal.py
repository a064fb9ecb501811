"""``chaos heal``: clean up after a run whose guardian was killed as well, or could not undo everything."""

from __future__ import annotations

import click

from chaos.errors import EnvironmentFailure
from chaos.processes.guardian import heal_leftovers


@click.command(short_help="Undo what a crashed run left behind.")
def heal() -> None:
    """Undo what a crashed run left behind.

    Normally there is nothing to do: every run heals itself, and a guardian process does so when the run is killed.
    This is for the case that both were, and for what the guardian could not undo at a Toxiproxy that is not ours
    (--toxiproxy), because it did not answer, or asked for a token.

    The exit code is 0 when nothing is left, and 3 when something could not be undone: it is kept, and can be tried
    again. The next runs try it, too, and say so; what cannot be undone for seven days is given up.

    \b
    Examples:
      chaos heal
      CHAOS_PROXY_TOKEN=... chaos heal
    """
    healed = heal_leftovers()
    for line in healed.undone:
        click.echo(line)
    if healed.left:
        raise EnvironmentFailure("not everything could be undone", details=map(str, healed.left))
    if not healed.undone:
        click.echo("nothing to heal: no earlier run left anything behind")
