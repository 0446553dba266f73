"""Making the dataplane match what is wanted: the executor of the plan, for ADD and recovery alike.

The dataplane does one thing at a time, so there is one lock. What it has is mirrored; after any
doubt (it restarted, or an answer got lost) the mirror is read anew.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from cni_virtio import ports, tap
from cni_virtio.mirror import Mirror, OpenPort, UplinkSeen, listed
from cni_virtio.reconcile import (
    Action,
    AddNetwork,
    AddPort,
    DelNetwork,
    DelPort,
    SetLimits,
    plan,
)
from cni_virtio.shortage import Shortage
from cni_virtio.wanted import Wanted
from dataplane.client import DataplaneClient, DataplaneError, DataplaneUnavailable
from dataplane.wire import Code, JsonObject, PortSpec

log = logging.getLogger(__name__)

_HOLD_MS: Final = 200
"""What a container sends before its peer's port is back would be lost; slow ports are not waited
for."""

_RETRY_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)


class Converger:
    """Carries out plans on the dataplane, and keeps at what did not work."""

    def __init__(
        self,
        client: DataplaneClient,
        wanted: Wanted,
        open_port: OpenPort,
        uplink_seen: UplinkSeen,
    ) -> None:
        self._client = client
        self._wanted = wanted
        self._lock = threading.RLock()
        self._mirror = Mirror(client, open_port, uplink_seen)
        self.kept = self._mirror.kept
        self._online = threading.Event()
        self._attention = threading.Event()
        self._stale = True
        self._failures: dict[str, str] = {}
        self._said: dict[str, str] = {}
        self.offline_reason = "it has not been started yet"
        self.spared: set[str] = set()
        """Ports that are not wanted, and stay until somebody withdraws them."""
        self.shortage = Shortage()

    # --- the dataplane's coming and going ---------------------------------------------------------

    def online(self) -> None:
        """Take note that a dataplane answers; what it lacks is brought to it."""
        with self._lock:
            self._stale = True
            self.shortage.clear()
            self._online.set()
        self.kept.dataplane_is_away(False)
        with self._mirror.held_while_empty(_HOLD_MS):
            self.recover()
        with self._lock:
            self._mirror.share_queues()

    def hand_over(self, take_place: Callable[[], None]) -> None:
        """Have the dataplane give up all, and give it to the one that `take_place` puts there.

        Nothing else is done meanwhile. Raises what `take_place` does, with all as before.
        """
        with self._lock:
            self._mirror.share_queues()
            try:
                self._mirror.drain()
                take_place()
            finally:
                self._stale = True
                with self._mirror.held_while_empty(_HOLD_MS):
                    self.recover()

    def offline(self, reason: str) -> None:
        """Take note that there is no dataplane, and why."""
        if self._online.is_set():
            self.kept.dataplane_is_away(True)
        self._online.clear()
        self.offline_reason = reason

    def wait_online(self, patience_s: float) -> bool:
        """Wait for a dataplane; False if there is none in time."""
        return self._online.wait(patience_s)

    @property
    def failures(self) -> dict[str, str]:
        """What is wanted and could not be made, by name, with the reason; it is retried."""
        return dict(self._failures)

    def found(self) -> list[PortSpec]:
        """Return the ports that the dataplane has, read anew. Raises as the client does."""
        with self._lock:
            self._refresh()
            return list(self._mirror.ports.values())

    def port(self, name: str) -> dict[str, Any]:
        """Return one port as the dataplane shows it. Raises as the client does."""
        if not self._online.is_set():
            raise DataplaneUnavailable(f"the dataplane is down: {self.offline_reason}")
        (port,) = listed(self._client.ports(name))
        return port

    def dataplane(self) -> JsonObject:
        """Return what the dataplane says of itself. Raises as the client does."""
        return self._client.version()

    @property
    def port_count(self) -> int:
        """Return how many ports the dataplane has, of all kinds."""
        return len(self._mirror.ports)

    def tally(self) -> tuple[int, int]:
        """Return how many ports the dataplane has of those wanted, and how many those are."""
        wanted = self._wanted.everything().ports
        return sum(name in self._mirror.ports for name in wanted), len(wanted)

    def known_port(self, name: str) -> JsonObject | None:
        """Return a port as the dataplane shows it; None without asking if it has no such port.

        Raises as the client does.
        """
        there = self._online.is_set() and not self._stale and name in self._mirror.ports
        return self.port(name) if there else None

    # --- one scope --------------------------------------------------------------------------------

    def settle(
        self,
        network: str,
        port_names: Sequence[str],
        fds: list[int] | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """Make one network, its uplink and the ports named match what is wanted.

        `fds` are the queues of the first port named, if its tap has just been made; they are
        closed here in any case. `meanwhile` is called while the dataplane adds that port, if it
        does; it must not raise, and may be called again.
        Raises DataplaneError, DataplaneUnavailable, or the OSError of a tap that cannot be opened.
        """
        given = {port_names[0]: fds} if fds is not None else {}
        kinds = (AddPort, AddNetwork, DelPort, DelNetwork, SetLimits)
        try:
            self._carry_out(network, port_names, given, kinds, meanwhile)
        finally:
            if fds is not None:
                tap.close_all(fds)
        self._failures.pop(network, None)

    def withdraw(self, network: str, port_names: Sequence[str]) -> None:
        """Remove ports that are not wanted any more, and their network if that is not either.

        Raises DataplaneError or DataplaneUnavailable.
        """
        try:
            self._carry_out(network, port_names, {}, (DelPort, DelNetwork))
        finally:
            with self._lock:
                wanted = self._wanted.scope(network, port_names).ports
                self.kept.discard([name for name in port_names if name not in wanted])
                self.spared.difference_update(port_names)

    def _carry_out(
        self,
        network: str,
        port_names: Sequence[str],
        given: Mapping[str, list[int]],
        kinds: tuple[type[Action], ...],
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        try:
            with self._lock:
                self._require()
                desired = self._wanted.scope(network, port_names)
                actual = self._mirror.scope(desired, network, port_names)
                for action in plan(desired, actual):
                    if isinstance(action, kinds):
                        self._execute(action, given, meanwhile)
                for name in port_names:
                    self._failures.pop(name, None)
        except DataplaneUnavailable:
            self.doubt()
            raise

    def _execute(
        self,
        action: Action,
        given: Mapping[str, list[int]],
        meanwhile: Callable[[], None] | None,
    ) -> None:
        try:
            self._mirror.execute(action, given, meanwhile)
        except DataplaneError as error:
            if error.code == Code.NO_RESOURCE:
                self.shortage.note(error.message)
            raise
        if isinstance(action, AddPort | DelPort):
            self.shortage.clear()

    def _require(self) -> None:
        if not self._online.is_set():
            raise DataplaneUnavailable(f"the dataplane is down: {self.offline_reason}")
        if self._stale:
            self._refresh()

    def doubt(self) -> None:
        """Have everything looked at again, soon."""
        with self._lock:
            self._stale = True
        self._attention.set()

    def _refresh(self) -> None:
        self._mirror.refresh()
        self._stale = False

    # --- everything -------------------------------------------------------------------------------

    def recover(self) -> None:
        """Make all match. What does not work is logged, kept wanted, and holds up nothing else."""
        try:
            with self._lock:
                self._require()
                self._remove_unfit()
                networks = {*self._wanted.networks(), *self._mirror.networks}
        except (DataplaneError, DataplaneUnavailable) as error:
            self._note("dataplane", error)
            return
        self._forget_unwanted_failures()
        carried = {name for name in networks if self._wanted.uplink_of(name)}
        self._bring(networks - carried)
        self._bring_containers_of(networks - carried)  # which need not wait until NICs have started
        self._bring(carried)
        self._add_loose_uplinks()
        self._add_exceptions()
        self._bring_containers_of(carried)
        self._said = dict(self._failures)

    def run(self, stopping: threading.Event) -> None:
        """Retry what failed, ever more slowly, until told to stop: the body of a thread."""
        attempt = 0
        while not stopping.is_set():
            if not (self._stale or self._failures):
                attempt = 0
                self._attention.wait()
                self._attention.clear()
                continue
            stopping.wait(_RETRY_S[min(attempt, len(_RETRY_S) - 1)])
            attempt += 1
            if self._online.is_set() and not stopping.is_set():
                self.recover()

    def paused(self) -> contextlib.AbstractContextManager[bool]:
        """Return what to hold (`with`) so that no action is carried out meanwhile."""
        return self._lock

    def wake(self) -> None:
        """Have `run` look at once."""
        self._attention.set()

    def _bring(self, networks: Iterable[str]) -> None:
        for network in sorted(networks):
            self._try(network, network)
            host = ports.gateway_port_name(network)
            self._try(host, network, host)

    def _bring_containers_of(self, networks: Collection[str]) -> None:
        for attachment in self._wanted.all():
            if attachment.network in networks:
                name = ports.pod_port_name(*attachment.key)
                self._try(name, attachment.network, name)

    def _remove_unfit(self) -> None:
        desired, actual = self._wanted.everything(), self._mirror.everything()
        spared = {
            name: spec
            for name, spec in actual.ports.items()
            if name in self.spared and spec.network in desired.networks
        }
        desired = replace(desired, ports={**spared, **desired.ports})
        for action in plan(desired, actual):
            if isinstance(action, DelPort | DelNetwork):
                self._mirror.execute(action, {})

    def _add_loose_uplinks(self) -> None:
        """Add the uplinks that no network brings along."""
        fixed = self._wanted.configured()
        carried = {network.uplink for network in fixed.networks.values()}
        for name, spec in fixed.ports.items():
            if name not in carried:
                self._add_if_absent(spec)

    def _add_exceptions(self) -> None:
        """Add the uplinks' twins, once the uplinks are there."""
        for name, spec in self._wanted.exceptions().items():
            if spec is not None and spec.uplink in self._mirror.ports:
                self._add_if_absent(spec)
            else:
                self._failures[name] = "waits for its uplink"
                self._attention.set()

    def _add_if_absent(self, spec: PortSpec) -> None:
        try:
            with self._lock:
                if spec.name not in self._mirror.ports:
                    self._mirror.add_port(spec)
            self._failures.pop(spec.name, None)
        except (DataplaneError, DataplaneUnavailable, OSError) as error:
            self._note(spec.name, error)

    def _forget_unwanted_failures(self) -> None:
        with self._lock:
            wanted = self._wanted.everything()
            self.kept.retain(wanted.ports)
        known = {*wanted.networks, *wanted.ports}
        self._failures = {name: text for name, text in self._failures.items() if name in known}

    def _try(self, what: str, network: str, *port_names: str) -> None:
        if what != network and network in self._failures:
            self._failures[what] = f"waits for network {network}"
            return
        try:
            self.settle(network, port_names)
        except (DataplaneError, DataplaneUnavailable, OSError) as error:
            self._note(what, error)

    def _note(self, name: str, error: Exception) -> None:
        reason = str(error).removeprefix(f"{name}: ")
        if self._said.get(name) != reason:
            log.warning("%s: %s; it stays wanted and is tried again", name, reason)
        self._said[name] = self._failures[name] = reason
        self._attention.set()
