"""`./dev soak`: random calls, kills and traffic for so long, checked against a model."""

from __future__ import annotations

import secrets
import sys

import click

from tests.smoke.prerequisites import missing
from tests.soak.run import SoakError, soak


@click.command()
@click.argument("minutes", type=float)
@click.option("--seed", type=int, help="That of an earlier run, to take the same steps again.")
@click.option("--rest", default=0.0, help="Seconds between two steps, to leave the CPU to others.")
@click.option("--calm", is_flag=True, help="Kill nobody: what grows slowly shows sooner.")
def main(minutes: float, seed: int | None, rest: float, calm: bool) -> None:
    """Take random steps for so many MINUTES and see that all is as it should be."""
    if reason := missing():
        raise click.ClickException(reason)
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    click.echo(f"seed {seed}")
    try:
        report = soak(60 * minutes, seed, rest, click.echo, calm=calm)
    except SoakError as error:
        click.echo(f"FAULT {error}", err=True)
        sys.exit(1)
    click.echo("\n".join(report.lines()))


if __name__ == "__main__":
    main()
