"""The agent: what it is made of, and how it starts and stops."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from cni_virtio import interfaces, ports
from cni_virtio.collector import Collector
from cni_virtio.config import AgentConfig
from cni_virtio.converge import Converger
from cni_virtio.dataplane_process import Callbacks, DataplaneProcess
from cni_virtio.gateway import Gateways
from cni_virtio.hugepages import Hugepages
from cni_virtio.link_follow import LinkFollower
from cni_virtio.listener import Handlers, Listener, ListenError
from cni_virtio.mac_watch import MacWatch
from cni_virtio.masquerade import Masquerade
from cni_virtio.node import Node
from cni_virtio.operations import Operations
from cni_virtio.recovery import Recovery
from cni_virtio.requests import Requests
from cni_virtio.state import StateDir
from cni_virtio.supervisor import Supervisor
from cni_virtio.timings import Timings
from cni_virtio.turns import Turns
from cni_virtio.twins import Twins
from cni_virtio.uplinks import Shortcomings, set_up_devices
from cni_virtio.verbs import Verbs
from cni_virtio.wanted import Wanted
from dataplane.client import DataplaneClient
from dataplane.wire import JsonObject, PortSpec

log = logging.getLogger(__name__)

STOP_PATIENCE_S: Final = 35.0
"""An IPAM plugin may take 30 s; who stops the agent has to allow for more than this."""


class AgentError(Exception):
    """The agent cannot start; the text says why and what to do."""


class Agent:
    """Everything of the agent, from `start` to `stop`."""

    def __init__(self, config: AgentConfig) -> None:
        self._config = config
        state = StateDir(config.agent.state_dir)
        self._lock_fd = _only_agent(config.agent.state_dir)
        wanted = Wanted(config)
        gateways = Gateways()
        self._client = DataplaneClient(str(config.dataplane.socket))
        converger = Converger(self._client, wanted, self._open_port, self._uplink_seen)
        masquerade = Masquerade(config.agent.state_dir)
        self._node = Node(config, state, wanted, gateways, masquerade, converger)
        self._twins = Twins(config.agent.state_dir)
        self._recovery = Recovery(self._node)
        self._supervisor = Supervisor(
            config,
            self._client,
            Hugepages(config.agent.state_dir),
            Callbacks(self._online, converger.offline, converger.tally, converger.hand_over),
        )
        self._device_notes: list[str] = []
        self._shortcomings = Shortcomings()
        turns = Turns()
        self._timings = Timings()
        operations = Operations(
            self._node, self._supervisor, self._client, self._messages, turns, self._timings
        )
        requests = Requests(Verbs(self._node, turns), operations, self._timings)
        self._stopping = threading.Event()
        follower = LinkFollower(config.uplinks, converger.known_port)
        self._collector = Collector(self._node, turns, self._own_pids)
        self._mac_watch = MacWatch(wanted)
        self._keepers = [
            threading.Thread(target=each.run, args=(self._stopping,), name=name, daemon=True)
            for name, each in (
                ("converger", converger),
                ("taps", converger.kept),
                ("links", follower),
                ("collector", self._collector),
                ("MACs", self._mac_watch),
            )
        ]
        self._stop_metrics: Callable[[], None] = lambda: None
        handlers = Handlers(requests.serve, requests.unreadable, requests.busy)
        self._listener = Listener(config.agent.socket, handlers)

    def start(self) -> None:
        """Take up what is on record, get a dataplane, and serve."""
        self._serve_metrics()
        self._recovery.load()
        self._collector.take_over(self._recovery.halves)
        self._supervisor.start()
        for keeper in self._keepers:
            keeper.start()
        self._listener.start()
        # What is here by now stays; a full collection that walks over it costs an ADD 20 ms.
        gc.collect()
        gc.freeze()
        log.info("serving %s, pid %d", self._config.agent.socket, os.getpid())

    def stop(self, *, keep_dataplane: bool) -> None:
        """Let the calls and the removals under way end, then end; containers' interfaces stay."""
        deadline_s = time.monotonic() + STOP_PATIENCE_S
        self._stopping.set()  # the keepers end beside the calls, none of which waits for them
        self._node.converger.wake()
        self._node.converger.kept.wake()
        self._listener.close(STOP_PATIENCE_S)
        self._stop_metrics()
        join_all(self._keepers, deadline_s)
        self._supervisor.stop(keep=keep_dataplane)
        self._client.close()
        with contextlib.suppress(OSError):
            self._config.agent.socket_dir.rmdir()  # only if no container is left
        os.close(self._lock_fd)

    # --- what the parts ask for -----------------------------------------------------------------

    def _serve_metrics(self) -> None:
        """Serve metrics where that is asked for. Raises AgentError."""
        address = self._config.agent.metrics
        if address is None:
            return
        from cni_virtio.metrics import AgentCollector, Metrics, MetricsError

        # A client of its own: what a call asks of the dataplane does not wait for the metrics.
        client = DataplaneClient(str(self._config.dataplane.socket))
        collector = AgentCollector(self._node, self._supervisor, client, self._timings)
        try:
            metrics = Metrics(address, collector)
        except MetricsError as error:
            raise AgentError(str(error)) from None

        def stop() -> None:
            metrics.stop()
            client.close()

        self._stop_metrics = stop

    def _online(self, process: DataplaneProcess) -> None:
        self._device_notes = set_up_devices(self._config.uplinks)
        for note in self._device_notes:
            log.warning("%s", note)
        self._recovery.adopt(process)
        self._node.converger.online()
        self._twins.prune(self._config.uplinks)

    def _open_port(self, spec: PortSpec) -> list[int]:
        """Open what a port is attached to, for the converger."""
        wanted = self._node.wanted
        if spec.role == "host":
            assert spec.network is not None
            mtu = wanted.gateway_mtu(spec.network)
            return self._node.gateways.open(spec, mtu, wanted.gateway_addresses(spec.network))
        if spec.role == "exception":
            return self._open_twin(spec)
        attachment = wanted.by_port(spec.name)
        if attachment is None:
            return []
        return interfaces.reopen(attachment, vhost_net=spec.kind == "ethdev")

    def _open_twin(self, spec: PortSpec) -> list[int]:
        for uplink in self._config.uplinks:
            if uplink.exception and spec.uplink == ports.uplink_port_name(uplink.name):
                return self._twins.open(spec, uplink.exception.name, uplink.target)
        return []

    def _uplink_seen(self, spec: PortSpec, state: JsonObject) -> None:
        self._node.wanted.learn_uplink(spec, str(state.get("mac") or ""))
        self._shortcomings.see(spec, state)

    def _own_pids(self) -> set[int]:
        """Name the processes whose open files keep no container's namespace in use."""
        return {os.getpid(), int(self._supervisor.status()["pid"] or 0)}

    def _messages(self) -> list[str]:
        """Say what is not as configured and works all the same."""
        return [
            *self._config.messages,
            *self._device_notes,
            *self._shortcomings.messages(),
            *self._recovery.messages(),
            *self._collector.messages(),
            *self._mac_watch.messages(),
        ]


def join_all(threads: Sequence[threading.Thread], deadline_s: float) -> None:
    """Wait for threads to end until `deadline_s` (monotonic), and name those that do not."""
    for thread in threads:
        thread.join(max(0.0, deadline_s - time.monotonic()))
        if thread.is_alive():
            log.warning("%s: still at work, and not waited for any longer", thread.name)


def _only_agent(state_dir: Path) -> int:
    """Lock the state folder, so that no second agent works on it. Raises AgentError."""
    fd = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise AgentError(f"agent.state_dir: another agent works on {state_dir}") from None
    return fd


__all__ = ["Agent", "AgentError", "ListenError"]
