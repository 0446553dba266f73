"""What workers and ports do per second: the difference of two readings of their counters."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cni_virtio.ctl.agent_client import query

_Json = dict[str, Any]
_LATE_SHARE = 0.99


@dataclass(frozen=True)
class Sample:
    """All counters at one moment."""

    at_s: float
    tsc_hz: float
    workers: tuple[_Json, ...]
    ports: tuple[_Json, ...]


@dataclass(frozen=True)
class WorkerRates:
    """What a worker did. Where it did nothing of a kind, its figure is None.

    Wake latency is from the moment at which the worker had to be awake, as its timer ran out or the
    control thread called it, until it ran.
    """

    core: int
    rx_queues: int
    busy_share: float
    asleep_share: float
    packets_per_s: float
    cycles_per_packet: float | None
    sleeps_per_s: float
    wake_mean_us: float | None
    wake_p99_below_us: float | None


@dataclass(frozen=True)
class PortRates:
    """What went through a port, seen from its peer: rx is what the peer sent."""

    name: str
    owner: _Json | None
    network: str | None
    rx_packets_per_s: float
    tx_packets_per_s: float
    rx_bits_per_s: float
    tx_bits_per_s: float
    drops_per_s: float


@dataclass(frozen=True)
class Rates:
    """Of all workers, and of the ports that were there at both readings, the busiest first."""

    seconds: float
    workers: tuple[WorkerRates, ...]
    ports: tuple[PortRates, ...]


def sample(socket: str) -> Sample:
    """Read all counters, through the agent. Raises AgentError."""
    workers = query(socket, "workers")
    at_s = time.monotonic()
    ports = query(socket, "ports")["ports"]
    return Sample(at_s, float(workers["tsc_hz"]), tuple(workers["workers"]), tuple(ports))


def rates(before: Sample, after: Sample) -> Rates:
    """Compare two readings."""
    seconds = max(after.at_s - before.at_s, 1e-6)
    earlier = {worker["core"]: worker for worker in before.workers}
    workers = tuple(
        _worker(earlier[worker["core"]], worker, seconds, after.tsc_hz)
        for worker in after.workers
        if worker["core"] in earlier
    )
    ports = sorted(_ports(before, after, seconds), key=_busiest_first)
    return Rates(seconds, workers, tuple(ports))


def _worker(before: _Json, after: _Json, seconds: float, tsc_hz: float) -> WorkerRates:
    if after["rounds"] < before["rounds"]:
        before = {}  # the dataplane was started anew
    busy, idle, asleep, packets, sleeps = (
        after[key] - before.get(key, 0)
        for key in ("busy_cycles", "idle_cycles", "sleep_cycles", "packets", "sleeps")
    )
    total = max(busy + idle + asleep, 1)
    mean_us, p99_below_us = _wakes(before, after, tsc_hz)
    return WorkerRates(
        core=after["core"],
        rx_queues=after["rx_queues"],
        busy_share=busy / total,
        asleep_share=asleep / total,
        packets_per_s=packets / seconds,
        cycles_per_packet=busy / packets if packets else None,
        sleeps_per_s=sleeps / seconds,
        wake_mean_us=mean_us,
        wake_p99_below_us=p99_below_us,
    )


def _wakes(before: _Json, after: _Json, tsc_hz: float) -> tuple[float | None, float | None]:
    """Give the mean latency and a bound of the 99th percentile; wakes[i] took at most 2^i us."""
    now = after["wakes"]
    was = before.get("wakes", [0] * len(now))
    counts = [later - earlier for later, earlier in zip(now, was, strict=True)]
    total = sum(counts)
    if not total:
        return None, None
    cycles = after["wake_cycles"] - before.get("wake_cycles", 0)
    return 1e6 * cycles / tsc_hz / total, _bound_us(counts, _LATE_SHARE * total)


def _bound_us(counts: Sequence[int], wanted: float) -> float:
    seen = 0
    for power, count in enumerate(counts):
        seen += count
        if seen >= wanted:
            return float(1 << power)
    return float(1 << len(counts))


def _ports(before: Sample, after: Sample, seconds: float) -> Iterator[PortRates]:
    earlier = {port["spec"]["name"]: port["counters"] for port in before.ports}
    for port in after.ports:
        name, now = port["spec"]["name"], port["counters"]
        was = earlier.get(name)
        if was is None:
            continue
        if now["rx_packets"] < was["rx_packets"] or now["tx_packets"] < was["tx_packets"]:
            was = {}  # the port was added anew

        def rise(key: str, now: _Json = now, was: _Json = was) -> float:
            return float(now[key] - was.get(key, 0)) / seconds

        dropped = sum(now["drops"].values()) - sum(was.get("drops", {}).values())
        yield PortRates(
            name=name,
            owner=port.get("attachment"),
            network=port["spec"].get("network"),
            rx_packets_per_s=rise("rx_packets"),
            tx_packets_per_s=rise("tx_packets"),
            rx_bits_per_s=8 * rise("rx_bytes"),
            tx_bits_per_s=8 * rise("tx_bytes"),
            drops_per_s=dropped / seconds,
        )


def _busiest_first(port: PortRates) -> tuple[float, str]:
    return -(port.rx_packets_per_s + port.tx_packets_per_s), port.name
