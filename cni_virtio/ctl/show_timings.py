"""`status --timings`: where the time of the calls went since the agent's start."""

from __future__ import annotations

import json
from typing import Any, Final

import click

from cni_virtio.ctl.tables import Column, print_table

_TIMES: Final = ("mean", "p50", "p99", "max")


def show_timings(found: dict[str, Any], *, as_json: bool) -> None:
    """Print a row for each verb and step; steps may run beside or within one another."""
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    columns = [
        Column("VERB"),
        Column("STEP"),
        Column("COUNT", right=True),
        *(Column(f"{each.upper()} ms", right=True) for each in _TIMES),
    ]
    print_table(columns, [_row(each) for each in found["timings"]])


def _row(step: dict[str, Any]) -> list[str]:
    times = [f"{step[f'{each}_ms']:.2f}" for each in _TIMES]
    return [step["verb"], step["step"], str(step["count"]), *times]
