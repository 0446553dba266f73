"""`upgrade`: a new dataplane process, of the code that is installed now, without a long silence."""

from __future__ import annotations

import json
from typing import Final

import click

from cni_virtio.ctl.agent_client import query

_PATIENCE_S: Final = 160.0  # the agent's own is shorter


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def upgrade(socket: str, as_json: bool) -> None:
    """Put a new dataplane process in the place of the present one.

    It runs the code that is installed now. The new one starts beside the present one, which serves
    until the new one is ready, and goes on if that does not start. Then all ports change over at
    once. Containers keep their interfaces, connections and sockets; user-space applications are
    connected to again, or have to connect again.
    """
    done = query(socket, "upgrade", timeout_s=_PATIENCE_S)
    click.echo(json.dumps(done, indent=2) if as_json else done["text"])
    if done["ports"] < done["ports_wanted"]:
        raise click.ClickException("not all ports are back: cni-virtioctl ports lists them")
