"""`top`: how busy the workers are, and what goes through the ports, live."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from cni_virtio.ctl.rates import PortRates, Rates, WorkerRates, rates, sample
from cni_virtio.ctl.show import owner
from cni_virtio.ctl.tables import Column, frame, print_table, short

if TYPE_CHECKING:
    from rich.console import RenderableType

_WORKER_COLUMNS = (
    Column("CORE", right=True),
    Column("QUEUES", right=True),
    Column("BUSY", right=True),
    Column("ASLEEP", right=True),
    Column("PACKETS/s", right=True),
    Column("CYCLES/PACKET", right=True),
    Column("SLEEPS/s", right=True),
    Column("WAKE MEAN", right=True),
    Column("WAKE P99", right=True),
)
_PORT_COLUMNS = (
    Column("PORT", wrap=True),
    Column("NETWORK", wrap=True),
    Column("RX/s", right=True),
    Column("TX/s", right=True),
    Column("RX bit/s", right=True),
    Column("TX bit/s", right=True),
    Column("DROPS/s", right=True),
)
_HEAD_LINES = 8
"""Of the screen, taken by all but the ports' rows and the workers'."""


@click.command()
@click.option("--once", is_flag=True, help="One reading, as tables.")
@click.option("--json", "as_json", is_flag=True, help="One reading, for programs.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    help="Seconds between readings.",
)
@click.pass_obj
def top(socket: str, once: bool, as_json: bool, interval: float) -> None:
    """Show the load of each worker and the rates of each port; Ctrl-C ends it.

    RX is what a port's peer has sent, TX what it was given. Wake latency is how late a sleeping
    worker ran, from when its timer ran out or the control thread called it; P99 is a bound.
    """
    readings = _readings(socket, interval)
    if as_json:
        click.echo(json.dumps(asdict(next(readings)), indent=2))
    elif once or not sys.stdout.isatty():
        _print(next(readings))
    else:
        _watch(readings)


def _readings(socket: str, interval_s: float) -> Iterator[Rates]:
    before = sample(socket)
    while True:
        time.sleep(interval_s)
        after = sample(socket)
        yield rates(before, after)
        before = after


def _print(reading: Rates) -> None:
    print_table(_WORKER_COLUMNS, [_worker_row(worker) for worker in reading.workers])
    click.echo()
    print_table(_PORT_COLUMNS, [_port_row(port) for port in reading.ports])


def _watch(readings: Iterator[Rates]) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            for reading in readings:
                live.update(_screen(reading, console.height), refresh=True)
    except KeyboardInterrupt:
        return


def _screen(reading: Rates, height: int) -> RenderableType:
    """Lay out as many ports, the busiest first, as the screen has room for."""
    from rich.console import Group
    from rich.text import Text

    room = max(1, height - _HEAD_LINES - len(reading.workers))
    more = len(reading.ports) - room
    return Group(
        frame(_WORKER_COLUMNS, [_worker_row(worker) for worker in reading.workers]),
        Text(),
        frame(_PORT_COLUMNS, [_port_row(port) for port in reading.ports[:room]]),
        Text(f"and {more} ports more" if more > 0 else ""),
    )


def _worker_row(worker: WorkerRates) -> Sequence[str]:
    cycles = worker.cycles_per_packet
    mean_us, p99_us = worker.wake_mean_us, worker.wake_p99_below_us
    return [
        str(worker.core),
        str(worker.rx_queues),
        f"{worker.busy_share:.1%}",
        f"{worker.asleep_share:.1%}",
        short(worker.packets_per_s),
        "-" if cycles is None else f"{cycles:.0f}",
        short(worker.sleeps_per_s),
        "-" if mean_us is None else f"{mean_us:.0f} us",
        "-" if p99_us is None else f"<= {p99_us:.0f} us",
    ]


def _port_row(port: PortRates) -> Sequence[str]:
    return [
        owner(port.name, port.owner),
        port.network or "-",
        short(port.rx_packets_per_s),
        short(port.tx_packets_per_s),
        short(port.rx_bits_per_s),
        short(port.tx_bits_per_s),
        short(port.drops_per_s),
    ]
