"""`bandwidth`: the rate limits of a container, to see and to set while it runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, TypeVar

import click

from cni_virtio.ctl.agent_client import query
from cni_virtio.ctl.limits import limits_lines
from cni_virtio.ctl.show import owner

_Json = dict[str, Any]
_Command = TypeVar("_Command", bound=Callable[..., Any])

_UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_AMOUNT: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgt]?)(?:bits?|bps|bit/s)?", re.IGNORECASE)
_LIFTED: Final = {"ingressRate": 0, "egressRate": 0}


def _bits(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    match = _AMOUNT.fullmatch(value)
    if match is None:
        raise click.BadParameter(f"{value!r} is no number of bits such as 100M, 2.5G or 64k")
    return int(Decimal(match[1]) * _UNITS[match[2].lower()])


def _option(flag: str, key: str, help_text: str) -> Callable[[_Command], _Command]:
    return click.option(flag, key, metavar="BITS", callback=_bits, help=help_text)


@click.command()
@click.argument("port")
@_option("--ingress", "ingressRate", "Into the container, per second; 0: no limit.")
@_option("--egress", "egressRate", "Out of the container, per second; 0: no limit.")
@_option("--ingress-burst", "ingressBurst", "At once; by default what suits the rate.")
@_option("--egress-burst", "egressBurst", "At once; by default what suits the rate.")
@click.option("--off", is_flag=True, help="Lift both limits.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def bandwidth(socket: str, /, port: str, *, off: bool, as_json: bool, **given: int | None) -> None:
    """Show or set the rate limits of a container's interface, while it runs.

    PORT may be part of a port's name, pod or container, if no other has it. Amounts are bits:
    100M, 2.5G. What is not named stays; what is set outlives dataplane and agent.
    """
    change = {key: value for key, value in given.items() if value is not None}
    if off and change:
        raise click.UsageError("--off lifts both limits, and goes with no other")
    args: _Json = {"port": port}
    if off or change:
        args["bandwidth"] = _LIFTED if off else change
    found = query(socket, "bandwidth", args)
    if found["held_up"]:
        click.echo(f"recorded, in force as soon as this is over: {found['held_up']}", err=True)
        if as_json:
            click.echo(json.dumps(found, indent=2))
        return
    (item,) = query(socket, "ports", {"name": found["port"]})["ports"]
    if as_json:
        click.echo(json.dumps(found | {"counters": _counters(item)}, indent=2))
        return
    click.echo(f"{found['port']}  ({owner(found['port'], item.get('attachment'))})")
    for direction, text in limits_lines(item, always=True):
        click.echo(f"  {direction:<9} {text}")


def _counters(item: _Json) -> dict[str, int]:
    counters = item.get("counters") or {}
    return {
        "ingress_held_packets": counters.get("ingress_held_packets", 0),
        "ingress_dropped_packets": (counters.get("drops") or {}).get("ingress_limit", 0),
        "egress_pauses": counters.get("egress_pauses", 0),
    }
