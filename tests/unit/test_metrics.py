"""The metrics that Prometheus reads, and the address that they are served on."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import Any, cast
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cni_virtio.listen_address import ListenAddress
from cni_virtio.metrics import AgentCollector, Metrics, MetricsError
from cni_virtio.node import Node
from cni_virtio.state import Attachment
from cni_virtio.supervisor import Supervisor
from cni_virtio.timings import Timings, begin, step
from dataplane.client import DataplaneClient, DataplaneUnavailable

ATTACHMENT = Attachment("pods", "blue", "c1", "eth0", labels={"pod": "web", "namespace": "prod"})
PORT: dict[str, Any] = {
    "spec": {"name": "pod:c1/eth0", "network": "blue"},
    "counters": {
        "rx_packets": 7,
        "rx_bytes": 700,
        "tx_packets": 5,
        "tx_bytes": 500,
        "drops": {"spoof_mac": 3, "spoof_arp": 0},
    },
}
WORKERS: dict[str, Any] = {
    "tsc_hz": 1000,
    "workers": [{"core": 1, "busy_cycles": 250, "idle_cycles": 500, "sleep_cycles": 2000}],
}


class Fake:
    """Stands for the node's list of attachments, the supervisor and the dataplane."""

    def __init__(self, *, up: bool = True) -> None:
        self.up = up
        self.wanted = self

    def all(self) -> list[Attachment]:
        return [ATTACHMENT]

    def by_port(self, name: str) -> Attachment | None:
        return ATTACHMENT if name == PORT["spec"]["name"] else None

    def status(self) -> dict[str, Any]:
        return {"restarts": 2}

    def ports(self) -> dict[str, Any]:
        if not self.up:
            raise DataplaneUnavailable("down")
        return {"ports": [PORT]}

    def workers(self) -> dict[str, Any]:
        return WORKERS


def free_address() -> ListenAddress:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return ListenAddress("127.0.0.1", sock.getsockname()[1])


def _collector(fake: Fake, timings: Timings) -> AgentCollector:
    return AgentCollector(
        cast(Node, fake), cast(Supervisor, fake), cast(DataplaneClient, fake), timings
    )


class Samples:
    """What an HTTP request gave, by name and label values."""

    def __init__(self, text: str) -> None:
        families = text_string_to_metric_families(text)
        self._values = {
            (each.name, frozenset(each.labels.values())): each.value
            for family in families
            for each in family.samples
        }

    def names(self) -> set[str]:
        return {name for name, _ in self._values}

    def get(self, name: str, *labels: str) -> float | None:
        return self._values.get((name, frozenset(labels)))


def served(fake: Fake, timings: Timings) -> Samples:
    address = free_address()
    metrics = Metrics(address, _collector(fake, timings))
    try:
        with urlopen(f"http://{address}/metrics", timeout=5) as reply:
            return Samples(reply.read().decode())
    finally:
        metrics.stop()


def test_everything_is_there() -> None:
    timings, watch = Timings(), begin()
    with step("parse"):
        pass
    timings.add("ADD", watch)
    timings.add("ADD", begin(), code=11)
    found = served(Fake(), timings)
    assert found.get("cni_virtio_call_step_seconds_count", "ADD", "total") == 2
    assert found.get("cni_virtio_call_step_seconds_bucket", "ADD", "parse", "30.0") == 1
    assert found.get("cni_virtio_call_step_seconds_bucket", "ADD", "parse", "+Inf") == 1
    assert found.get("cni_virtio_calls_total", "ADD", "0") == 1
    assert found.get("cni_virtio_calls_total", "ADD", "11") == 1
    assert found.get("cni_virtio_attachments", "blue", "kernel") == 1
    assert found.get("cni_virtio_dataplane_up") == 1
    assert found.get("cni_virtio_dataplane_restarts_total") == 2
    port = ("pod:c1/eth0", "blue", "prod", "web")
    assert found.get("cni_virtio_port_rx_packets_total", *port) == 7
    assert found.get("cni_virtio_port_tx_bytes_total", *port) == 500
    assert found.get("cni_virtio_port_drops_total", *port, "spoof_mac") == 3
    assert found.get("cni_virtio_port_drops_total", *port, "spoof_arp") is None
    assert found.get("cni_virtio_worker_seconds_total", "1", "busy") == 0.25
    assert found.get("cni_virtio_worker_seconds_total", "1", "asleep") == 2


def test_without_a_dataplane_the_rest_is_there() -> None:
    found = served(Fake(up=False), Timings())
    assert found.get("cni_virtio_dataplane_up") == 0
    assert found.get("cni_virtio_attachments", "blue", "kernel") == 1
    assert not [name for name in found.names() if name.startswith("cni_virtio_port")]


def test_an_address_that_is_taken() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        address = ListenAddress("127.0.0.1", sock.getsockname()[1])
        collector = _collector(Fake(), Timings())
        with pytest.raises(MetricsError, match=rf"agent\.metrics: cannot listen on {address}: "):
            Metrics(address, collector)


@pytest.mark.parametrize("text", ["127.0.0.1:9477", "[::1]:9477", "0.0.0.0:1"])
def test_addresses(text: str) -> None:
    assert str(ListenAddress.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("9477", "is not ADDRESS:PORT"),
        ("localhost:9477", "'localhost' is not an IP address"),
        ("127.0.0.1:0", "port 0 is not from 1 to 65535"),
        ("127.0.0.1:70000", "port 70000 is not from 1 to 65535"),
        ("::1:9477", "is not ADDRESS:PORT"),
        ("[127.0.0.1]:9477", "an IPv6 address stands in brackets"),
    ],
)
def test_what_is_no_address(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ListenAddress.parse(text)


def test_the_agent_does_not_import_it_unasked() -> None:
    code = "import sys, cni_virtio.agent; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
