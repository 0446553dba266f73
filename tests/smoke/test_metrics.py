"""Prometheus asks a real agent, also after its dataplane has died."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.smoke.agent import Node, containers, node_without_agent
from tests.smoke.ports import wait_until
from tests.smoke.traffic import ping

ADDRESS = "127.0.0.1:9477"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def one() -> Iterator[Node]:
    with node_without_agent() as one:
        one.more_agent_config = f"metrics: {ADDRESS}"
        one.start()
        yield one


def scrape(one: Node) -> Samples:
    text = one.host.run("bash", "-c", f"exec 3<>/dev/tcp/{ADDRESS.replace(':', '/')}; {_GET}")
    body = text.partition("\n\n")[2]
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


_GET = "printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"


def value(samples: Samples, name: str, **labels: str) -> float:
    """The one sample of a name that has these labels, and perhaps more."""
    wanted = labels.items()
    (found,) = (samples[key] for key in samples if key[0] == name and wanted <= key[1])
    return found


def test_calls_ports_and_workers(one: Node) -> None:
    with containers(1) as (space,):
        args = "IgnoreUnknown=1;K8S_POD_NAME=web;K8S_POD_NAMESPACE=shop"
        one.add("c1", space, isGateway=True, args=args)
        assert one.call("ADD", "c1", space, isGateway=True).body["code"] == 4
        assert ping(space, "10.88.0.1") == 3
        pod = {"port": "pod:c1/eth0", "network": "pods", "namespace": "shop", "pod": "web"}
        found = scrape(one)
        assert value(found, "cni_virtio_calls_total", verb="ADD", code="0") == 1
        assert value(found, "cni_virtio_calls_total", verb="ADD", code="4") == 1
        assert value(found, "cni_virtio_call_step_seconds_count", verb="ADD", step="ipam") == 1
        assert value(found, "cni_virtio_attachments", network="pods", interface="kernel") == 1
        assert value(found, "cni_virtio_dataplane_up") == 1
        assert value(found, "cni_virtio_port_rx_packets_total", **pod) >= 3
        assert value(found, "cni_virtio_worker_seconds_total", state="busy") > 0
        one.delete("c1", space, isGateway=True)
    assert not any("pod:c1/eth0" in dict(labels).values() for _, labels in scrape(one))


def test_a_dataplane_that_was_killed(one: Node) -> None:
    one.kill_dataplane()
    wait_until(
        lambda: value(scrape(one), "cni_virtio_dataplane_restarts_total") == 1, "the restart"
    )
    wait_until(lambda: value(scrape(one), "cni_virtio_dataplane_up") == 1, "the next one")
