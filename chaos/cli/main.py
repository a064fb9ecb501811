"""The command ``chaos``: its subcommands, its help, and how errors become exit codes."""

from __future__ import annotations

import importlib
import os
import sys
import traceback

import click

from chaos import __version__
from chaos.cli.interruption import ToldToStopError, obey_signals
from chaos.errors import EXIT_USAGE, ChaosError, Outcome

_COMMANDS = {
    "run": "chaos.cli.run",
    "gate": "chaos.cli.gate",
    "validate": "chaos.cli.describe",
    "plan": "chaos.cli.describe",
    "faults": "chaos.cli.describe",
    "schema": "chaos.cli.describe",
    "table": "chaos.cli.table",
    "mutate": "chaos.cli.mutate",
    "report": "chaos.cli.report",
    "up": "chaos.cli.up",
    "doctor": "chaos.cli.doctor",
    "proxy": "chaos.cli.proxy",
    "toxiproxy": "chaos.cli.toxiproxy",
    "heal": "chaos.cli.heal",
}
"""Each subcommand and the module that has it, imported when it is asked for: ``chaos doctor`` needs no Locust."""


class _LazyGroup(click.Group):
    """A group that imports a subcommand's module when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        command = getattr(importlib.import_module(module), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="chaos")
def cli() -> None:
    """Know whether your system survives, before your users do.

    chaos starts your system with a proxy on every connection, sends users at it with Locust, breaks something on
    purpose, and tells with numbers whether your users would have noticed.

    \b
    A first look:
      chaos doctor                                  what is on this machine, and what will be used
      chaos run experiments/oca_outage.yaml         run an experiment: exit code 0 means that it held
      chaos run experiments/oca_outage.yaml --control
                                                    and prove that the protections were the reason
      chaos up targets/playback                     start the target alone, to play with
      chaos plan experiments/oca_outage.yaml        what would happen, and when, without doing it

    \b
    Exit codes:
      0    held: the steady state held through the fault
      1    violated: it did not
      2    your file or command is wrong; nothing was started
      3    the environment failed: a port taken, a service that never became healthy
      4    inconclusive: not enough evidence, or a fault that touched nothing
      130  interrupted; everything was healed and stopped first
    """


def main() -> None:
    """Run the command line; the process's exit code is the outcome's."""
    # `chaos run` puts handlers of its own in place; until then a polite end is an interruption, too.
    obey_signals()
    try:
        code = cli.main(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt, ToldToStopError):
        click.echo("chaos: interrupted", err=True)
        code = Outcome.INTERRUPTED.exit_code
    except click.ClickException as error:
        error.show()
        code = EXIT_USAGE
    except ChaosError as error:
        click.echo(f"chaos: {error}", err=True)
        for line in getattr(error, "details", ()):
            click.echo(f"  {line}", err=True)
        code = error.exit_code
    except BrokenPipeError:
        # The reader of our output went away (`chaos faults | head`): not an error, and nothing left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception:  # noqa: BLE001 - Python's own exit code for it would be 1, which means "violated"
        traceback.print_exc()
        click.echo("chaos: this is a mistake in chaos itself, and says nothing about your system", err=True)
        code = Outcome.ERROR.exit_code
    sys.exit(code if isinstance(code, int) else 0)
