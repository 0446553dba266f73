"""`cni-virtioctl top` on a node with traffic."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from cni_virtio.ctl.cli import cli
from tests.smoke.agent import Node, containers, node


@pytest.fixture
def here() -> Iterator[Node]:
    with node() as one:
        yield one


def top(here: Node, *options: str) -> str:
    done = CliRunner().invoke(cli, ["--socket", str(here.socket), "top", *options])
    assert done.exit_code == 0, done.output
    return done.output


def reading_with_a_wake(here: Node) -> dict[str, Any]:
    """Read until the worker happened to sleep when it was asked, which wakes it."""
    for _ in range(5):
        reading: dict[str, Any] = json.loads(top(here, "--json"))
        if reading["workers"][0]["wake_mean_us"] is not None:
            break
    return reading


def test_top_sees_traffic_sleeps_and_how_late_the_worker_wakes(here: Node) -> None:
    with containers(2) as (one, other):
        here.add("one", one)
        address = here.add("other", other).address
        # Slow enough for sleeps in between.
        with one.running("ping", "-n", "-q", "-i", "0.05", address):
            reading = reading_with_a_wake(here)
            tables = top(here, "--once", "--interval", "0.2")
    (worker,) = reading["workers"]
    assert worker["packets_per_s"] > 10
    assert worker["cycles_per_packet"] > 0
    assert worker["sleeps_per_s"] > 1
    assert 0 < worker["busy_share"] + worker["asleep_share"] <= 1
    assert 0 < worker["wake_mean_us"] <= worker["wake_p99_below_us"] * 2
    assert {port["rx_packets_per_s"] > 10 for port in reading["ports"]} == {True}
    assert "CYCLES/PACKET" in tables
    assert "one eth0" in tables
