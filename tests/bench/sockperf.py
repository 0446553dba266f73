"""sockperf between two containers, each end on its cores."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Final, Literal

from tests.bench.measure import RATE
from tests.bench.pair import End, Pair

Protocol = Literal["tcp", "udp"]
PROTOCOLS: Final[tuple[Protocol, ...]] = ("tcp", "udp")

PORT: Final = "11111"
PAYLOAD_BYTES: Final = "18"  # the least frame, by UDP: 64 B with its checksum
_APART_S: Final = 0.3
_PERCENTILE: Final = re.compile(r"percentile (\d+)\.\d+ = +([\d.]+)")


def round_trips_us(pair: Pair, seconds: float) -> dict[str, float]:
    """Send requests, each when the last is answered, by TCP and then by UDP; give p50 and p99."""
    figures: dict[str, float] = {}
    whole_s = math.ceil(seconds)
    with ExitStack() as stack:
        clients = []
        for protocol in PROTOCOLS:
            stack.enter_context(_server(pair, protocol))
        for protocol in PROTOCOLS:
            words = (
                *_words(pair.client, "ping-pong", protocol, pair.server.ip4),
                *("--full-rtt", "--msg-size", PAYLOAD_BYTES, "--time", str(whole_s)),
            )
            clients.append(stack.enter_context(pair.client.netns.running(*words)))
            # A client does nothing for two seconds, then measures: the waits overlap, no more.
            time.sleep(whole_s + _APART_S)
        for protocol, client in zip(PROTOCOLS, clients, strict=True):
            assert client.stdout
            printed = client.stdout.read()
            percentiles = {name: float(value) for name, value in _PERCENTILE.findall(printed)}
            if not {"50", "99"} <= percentiles.keys():
                raise RuntimeError(printed)
            figures |= {f"{protocol} p{percent}": percentiles[percent] for percent in ("50", "99")}
    return figures


@contextmanager
def flood(source: End, address: str, seconds: float) -> Iterator[None]:
    """Send the least UDP datagrams as fast as the source can, for the time of the block."""
    words = (
        *_words(source, "throughput", "udp", address),
        *("--msg-size", PAYLOAD_BYTES, "--time", str(math.ceil(seconds) + 2)),
    )
    with source.netns.running(*words) as running:
        _wait(running, "Starting test")
        yield


def datagrams_per_s(pair: Pair, seconds: float) -> dict[str, float]:
    """Flood the server with UDP; give the rates of frames arriving and of datagrams read."""
    with _server(pair, "udp", "--dont-reply"), flood(pair.client, pair.server.ip4, seconds):
        pair.begin()
        began_s, before = time.perf_counter(), _received(pair.server)
        time.sleep(seconds)
        after, ended_s = _received(pair.server), time.perf_counter()
        cycles = pair.cycles()
    rates = {name: (after[name] - before[name]) / (ended_s - began_s) / 1e6 for name in after}
    return {**rates, **cycles}


def _received(end: End) -> dict[str, int]:
    statistics = Path("/sys/class/net/eth0/statistics/rx_packets")
    counters = end.netns.run("cat", str(statistics), "/proc/net/snmp").splitlines()
    names, values = (line.split() for line in counters if line.startswith("Udp: "))
    return {
        RATE: int(counters[0]),
        "read": int(dict(zip(names, values, strict=True))["InDatagrams"]),
    }


@contextmanager
def _server(pair: Pair, protocol: Protocol, *options: str) -> Iterator[None]:
    words = _words(pair.server, "server", protocol, pair.server.ip4)
    with pair.server.netns.running(*words, *options) as running:
        _wait(running, "to block on socket")
        yield


def _wait(running: Popen[str], text: str) -> None:
    assert running.stdout
    printed = []
    for line in running.stdout:
        printed.append(line)
        if text in line:
            return
    raise RuntimeError("".join(printed))


def _words(end: End, command: str, protocol: Protocol, address: str) -> tuple[str, ...]:
    words = ("sockperf", command, "--ip", address, "--port", PORT)
    return end.on_cores(*words, *(["--tcp"] if protocol == "tcp" else []))
