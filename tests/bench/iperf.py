"""iperf3 between two containers, each end on its cores."""

from __future__ import annotations

import json
import math

from tests.bench.measure import RATE, Effort, Figures
from tests.bench.pair import Make


def tcp(make: Make, streams: int, effort: Effort) -> Figures:
    """Send by TCP for so many whole seconds; the rate is what the server received."""
    with make() as pair:
        server = pair.server.on_cores("iperf3", "--server", "--one-off", "--forceflush")
        client = pair.client.on_cores(
            *("iperf3", "--json", "--connect-timeout", "3000", "--client", pair.server.ip4),
            # BBR, where it is the default, paces: it would be its timers that are measured.
            *("--congestion", "cubic"),
            *("--time", str(math.ceil(effort.seconds)), "--parallel", str(streams)),
        )
        with pair.server.netns.running(*server) as running:
            assert running.stdout
            next(line for line in running.stdout if "Server listening" in line)
            pair.begin()
            report = json.loads(pair.client.netns.run(*client, check=False))
        if "error" in report:
            raise RuntimeError(report["error"])
        gbit_per_s = report["end"]["sum_received"]["bits_per_second"] / 1e9
        return {RATE: gbit_per_s, **pair.cycles()}
