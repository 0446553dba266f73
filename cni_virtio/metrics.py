"""The agent's metrics for Prometheus: read when asked for, over a connection of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from dataplane.client import DataplaneError, DataplaneUnavailable

if TYPE_CHECKING:
    from cni_virtio.listen_address import ListenAddress
    from cni_virtio.node import Node
    from cni_virtio.supervisor import Supervisor
    from cni_virtio.timings import Timings
    from dataplane.client import DataplaneClient
    from dataplane.wire import JsonObject

_BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)
_STEP_LABELS: Final = ("verb", "step")
_PORT_LABELS: Final = ("port", "network", "namespace", "pod")
_PORT_COUNTERS: Final = ("rx_packets", "rx_bytes", "tx_packets", "tx_bytes")
_WORKER_STATES: Final = {"busy": "busy_cycles", "idle": "idle_cycles", "asleep": "sleep_cycles"}


class MetricsError(Exception):
    """The address cannot be listened on; the text names it and the reason."""


class Metrics:
    """Serves everything over HTTP, in threads of its own, from `start` to `stop`."""

    def __init__(self, address: ListenAddress, collector: Collector) -> None:
        registry = CollectorRegistry()
        registry.register(collector)
        try:
            self._server, self._thread = start_http_server(
                address.port, address.host, registry=registry
            )
        except OSError as error:
            text = f"agent.metrics: cannot listen on {address}: {error.strerror}"
            raise MetricsError(text) from None

    def stop(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class AgentCollector(Collector):
    """Calls and attachments as the agent knows them, ports and workers as the dataplane does."""

    def __init__(
        self, node: Node, supervisor: Supervisor, client: DataplaneClient, timings: Timings
    ) -> None:
        self._node = node
        self._supervisor = supervisor
        self._client = client
        self._timings = timings

    def describe(self) -> list[Metric]:
        """Name nothing beforehand: registering is no reason to ask the dataplane."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read all of it anew."""
        yield self._steps()
        yield self._calls()
        yield self._attachments()
        status = self._supervisor.status()
        yield _restarts(int(status["restarts"]))
        try:
            ports, workers = self._client.ports()["ports"], self._client.workers()
        except (DataplaneError, DataplaneUnavailable):
            yield _up(False)
            return
        yield _up(True)
        yield from self._ports(ports)
        yield _workers(workers)

    def _steps(self) -> Metric:
        text = "How long a step of a call took; step total is all of the call."
        family = HistogramMetricFamily("cni_virtio_call_step_seconds", text, labels=_STEP_LABELS)
        with self._timings.read() as steps:
            for verb, step, times in steps:
                counts = zip(map(str, _BOUNDS_S), times.up_to(_BOUNDS_S), strict=True)
                buckets = [*counts, ("+Inf", times.count)]
                family.add_metric((verb, step), buckets, times.sum_s)
        return family

    def _calls(self) -> Metric:
        text = "Calls by the CNI error code that they gave; code 0 is success."
        family = CounterMetricFamily("cni_virtio_calls", text, labels=("verb", "code"))
        for (verb, code), count in self._timings.endings().items():
            family.add_metric((verb, str(code)), count)
        return family

    def _attachments(self) -> Metric:
        labels = ("network", "interface")
        family = GaugeMetricFamily("cni_virtio_attachments", "Attachments.", labels=labels)
        counts = Counter((each.network, each.interface) for each in self._node.wanted.all())
        for key, count in counts.items():
            family.add_metric(key, count)
        return family

    def _ports(self, ports: list[JsonObject]) -> Iterator[Metric]:
        labelled = [(self._labels(port), port["counters"]) for port in ports]
        for name in _PORT_COUNTERS:
            what = name.replace("rx_", "sent by the port's peer: ")
            what = what.replace("tx_", "given to the port's peer: ")
            family = CounterMetricFamily(
                f"cni_virtio_port_{name}", f"Traffic {what}.", labels=_PORT_LABELS
            )
            for labels, counters in labelled:
                family.add_metric(labels, counters[name])
            yield family
        yield _drops(labelled)

    def _labels(self, port: JsonObject) -> tuple[str, ...]:
        name = port["spec"]["name"]
        attachment = self._node.wanted.by_port(name)
        of_pod = attachment.labels if attachment else {}
        network = port["spec"].get("network") or ""
        return name, network, of_pod.get("namespace", ""), of_pod.get("pod", "")


def _drops(labelled: list[tuple[tuple[str, ...], JsonObject]]) -> Metric:
    text = "Packets dropped, by reason; a reason that has not occurred at a port is left out."
    family = CounterMetricFamily("cni_virtio_port_drops", text, labels=(*_PORT_LABELS, "reason"))
    for labels, counters in labelled:
        for reason, count in counters["drops"].items():
            if count:
                family.add_metric((*labels, reason), count)
    return family


def _up(up: bool) -> Metric:
    return GaugeMetricFamily("cni_virtio_dataplane_up", "Whether the dataplane answers.", int(up))


def _restarts(count: int) -> Metric:
    text = "How often the dataplane was started again."
    return CounterMetricFamily("cni_virtio_dataplane_restarts", text, count)


def _workers(found: JsonObject) -> Metric:
    text = "What a worker's time went to; the rate of state busy is its busy share."
    family = CounterMetricFamily("cni_virtio_worker_seconds", text, labels=("core", "state"))
    for worker in found["workers"]:
        for state, key in _WORKER_STATES.items():
            seconds = worker[key] / found["tsc_hz"]
            family.add_metric((str(worker["core"]), state), seconds)
    return family
