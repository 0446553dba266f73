"""What the dataplane has, as far as the agent knows, and the actions that change both."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from cni_virtio import tap
from cni_virtio.kept import KeptTaps
from cni_virtio.reconcile import (
    Action,
    Actual,
    AddNetwork,
    AddPort,
    DelNetwork,
    DelPort,
    Desired,
    SetLimits,
    plan,
)
from dataplane.client import DataplaneClient, DataplaneError, DataplaneUnavailable
from dataplane.wire import Code, JsonObject, NetworkSpec, PortSpec

log = logging.getLogger(__name__)

_T = TypeVar("_T")

OpenPort = Callable[[PortSpec], list[int]]
"""Opens what a port is attached to: a tap's queues, or the namespace of one behind vhost-net."""

UplinkSeen = Callable[[PortSpec, JsonObject], None]
"""Is told of each uplink that is there, with its state."""


class Mirror:
    """The dataplane's networks and ports by name.

    Its methods raise as the client does; whether it is still right then is for the caller to doubt.
    """

    def __init__(
        self, client: DataplaneClient, open_port: OpenPort, uplink_seen: UplinkSeen
    ) -> None:
        self._client = client
        self._open_port = open_port
        self._uplink_seen = uplink_seen
        self.networks: dict[str, NetworkSpec] = {}
        self.ports: dict[str, PortSpec] = {}
        self.kept = KeptTaps()

    def refresh(self) -> None:
        """Read everything anew."""
        networks = [NetworkSpec.from_json(each["spec"]) for each in listed(self._client.networks())]
        found = [self._read_port(each) for each in listed(self._client.ports())]
        self.networks = {spec.name: spec for spec in networks}
        self.ports = {spec.name: spec for spec in found}

    def everything(self) -> Actual:
        """Return all of it, to plan with."""
        return Actual(dict(self.networks), dict(self.ports))

    def scope(self, desired: Desired, network: str, names: Sequence[str]) -> Actual:
        """Return the part that the desired one is about."""
        chosen = {*names, *desired.ports}
        if network not in desired.networks:  # it goes, and so do all its ports
            chosen |= {name for name, spec in self.ports.items() if spec.network == network}
        return Actual(
            {network: self.networks[network]} if network in self.networks else {},
            {name: self.ports[name] for name in chosen if name in self.ports},
        )

    def execute(
        self,
        action: Action,
        given: Mapping[str, list[int]],
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """Carry out an action; `given` are descriptors of ports that are open already, by name.

        `meanwhile` is called while the dataplane adds one of those. Raises the OSError of a tap
        that cannot be opened, too.
        """
        match action:
            case AddNetwork(spec):
                self._client.network_add(spec)
                self.networks[spec.name] = spec
            case DelNetwork(name):
                with _absent_is_fine():
                    self._client.network_del(name)
                self.networks.pop(name, None)
            case AddPort(spec):
                fds = given.get(spec.name)
                self.add_port(spec, fds, None if fds is None else meanwhile)
            case DelPort(name):
                with _absent_is_fine():
                    self._client.port_del(name)
                self.ports.pop(name, None)
            case SetLimits(name, limits):
                self._client.port_set(name, limits)
                self.ports[name] = replace(self.ports[name], limits=limits)

    def add_port(
        self,
        spec: PortSpec,
        fds: list[int] | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """Add a port; without `fds` what it is attached to is taken up. They are taken over here.

        Where the port is added the queues of its tap are kept open, and used by the next call.
        """
        opened = (self.kept.take(spec) or self._open_port(spec)) if fds is None else fds
        try:
            try:
                self._client.port_add(spec, opened, meanwhile)
            except DataplaneError as error:
                exists = error.code == Code.EXISTS and error.field == "port"  # not: its socket
                if not exists or spec.name in self.ports:
                    raise
                # Of an earlier call whose answer got lost: it may hold another tap of that name.
                self._client.port_del(spec.name)
                self._client.port_add(spec, opened)
            self._keep(spec, opened)
        except DataplaneUnavailable:
            if fds is None:  # the next one is to have them
                self._keep(spec, opened)
            raise
        finally:
            tap.close_all(opened)
        self.ports[spec.name] = spec
        if spec.role == "uplink":
            for port in listed(self._client.ports(spec.name)):
                self._read_port(port)

    @contextlib.contextmanager
    def held_while_empty(self, ms: int) -> Iterator[None]:
        """Have a dataplane that has no ports yet begin with all that it is given at once.

        That is at the end of the body, but not later than in `ms`.
        """
        held = self._try_to(lambda: not listed(self._client.ports()) and self._hold(ms))
        try:
            yield
        finally:
            if held:
                self._try_to(lambda: self._hold(0))

    def drain(self) -> None:
        """Have the dataplane give up all networks and ports, as far as it can be asked to."""
        with contextlib.suppress(DataplaneUnavailable):
            try:
                self._client.drain()
            except DataplaneError as error:
                if error.code != Code.UNSUPPORTED:
                    raise
                for action in plan(Desired(), self.everything()):  # one of an earlier version
                    self.execute(action, {})

    def share_queues(self) -> None:
        """Get the queues of those taps that an earlier agent has handed over."""
        for name, spec in self.ports.items():
            if spec.kind == "tap" and not self.kept.has(name):
                fds = self._try_to(functools.partial(self._client.port_fds, name))
                if fds:
                    self.kept.keep(name, fds)

    def _hold(self, ms: int) -> bool:
        self._client.hold(ms)
        return True

    @staticmethod
    def _try_to(step: Callable[[], _T]) -> _T | None:
        """Do what a dataplane of an earlier version may not know, and nothing depends on."""
        try:
            return step()
        except (DataplaneError, DataplaneUnavailable) as error:
            log.info("%s", error)
            return None

    def _keep(self, spec: PortSpec, fds: list[int]) -> None:
        if spec.kind == "tap":
            self.kept.keep(spec.name, fds)

    def _read_port(self, port: JsonObject) -> PortSpec:
        spec = PortSpec.from_json(port["spec"])
        if spec.role == "uplink":
            self._uplink_seen(spec, port["state"])
        return spec


def listed(reply: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the one list of a reply."""
    (items,) = reply.values()
    assert isinstance(items, list)
    return items


@contextlib.contextmanager
def _absent_is_fine() -> Iterator[None]:
    try:
        yield
    except DataplaneError as error:
        if error.code != Code.NOT_FOUND:
            raise
