"""What the control socket can ask for, carried out by the engine and remembered here."""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dataplane import __version__, fields, unix_socket
from dataplane.binding import EngineError
from dataplane.holding import MOST_MS, Holding
from dataplane.wire import (
    Code,
    JsonObject,
    Limits,
    NetworkSpec,
    Op,
    PortSpec,
    Request,
    WireError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dataplane.binding import Engine
    from dataplane.options import Options
    from dataplane.place import Place
    from dataplane.stop import Stop

    Handler = Callable[[fields.Fields, list[int]], JsonObject]

log = logging.getLogger("dataplane")

_CODES = {
    errno.EEXIST: Code.EXISTS,
    errno.ENOENT: Code.NOT_FOUND,
    errno.ENODEV: Code.NOT_FOUND,
    errno.EINVAL: Code.INVALID,
    errno.ERANGE: Code.INVALID,
    errno.EBUSY: Code.INVALID,
    errno.ENOMEM: Code.NO_RESOURCE,
    errno.ENOSPC: Code.NO_RESOURCE,
    errno.EMFILE: Code.NO_RESOURCE,
    errno.ENFILE: Code.NO_RESOURCE,
    errno.ENOTSUP: Code.UNSUPPORTED,
}
_OUT_OF_FDS = (errno.EMFILE, errno.ENFILE)


_hold_ms = fields.integer(0, MOST_MS)


class Answer(NamedTuple):
    """What a request led to: the result, and descriptors that go with it."""

    result: JsonObject
    fds: Sequence[int] = ()


class Operations:
    """Carries out requests one at a time and remembers what the engine was told."""

    def __init__(
        self, engine: Engine, options: Options, place: Place, holding: Holding, stop: Stop
    ) -> None:
        self._engine = engine
        self._place = place
        self._holding = holding
        self._options = options
        self._stop = stop
        self._instance = Path("/proc/sys/kernel/random/uuid").read_text().strip()
        self._networks: dict[str, NetworkSpec] = {}
        self._ports: dict[str, PortSpec] = {}
        self._tap_fds: dict[str, tuple[int, ...]] = {}
        self._handlers: dict[str, Handler] = {
            Op.VERSION: self._version,
            Op.NETWORK_ADD: self._network_add,
            Op.NETWORK_DEL: self._network_del,
            Op.NETWORKS: self._list_networks,
            Op.PORT_ADD: self._port_add,
            Op.PORT_SET: self._port_set,
            Op.PORT_DEL: self._port_del,
            Op.PORTS: self._list_ports,
            Op.FDB: self._fdb,
            Op.WORKERS: self._workers,
            Op.HOLD: self._hold,
            Op.DRAIN: self._drain,
            Op.MOVE: self._move,
            Op.STOP: self._request_stop,
        }

    def handle(self, request: Request, fds: list[int]) -> Answer:
        """Do what a request asks and give the result. Takes out of `fds` what the engine keeps.

        :raises WireError: what was asked cannot be done.
        """
        if request.op == Op.PORT_FDS:
            return self._port_fds(fields.Fields(request.args, ""))
        handler = self._handlers.get(request.op)
        if handler is None:
            raise WireError(Code.UNSUPPORTED, f"unknown op {fields.shown(request.op)}", "op")
        try:
            return Answer(handler(fields.Fields(request.args, ""), fds))
        except EngineError as e:
            code = _CODES.get(e.errno or 0, Code.IO)
            raise WireError(code, e.strerror or str(e)) from e
        except WireError as e:
            if isinstance(e.__cause__, OSError) and e.__cause__.errno in _OUT_OF_FDS:
                hint = "raise the dataplane's limit (LimitNOFILE)"
                raise WireError(Code.NO_RESOURCE, f"{e.message}: {hint}") from e
            raise

    @property
    def has_ports(self) -> bool:
        """Whether there is any port, of whatever kind."""
        return bool(self._ports)

    def close(self) -> None:
        """Delete every port and network, the uplinks that carry their traffic last.

        :raises EngineError: ENOMEM; all are still there.
        """
        self._engine.clear()
        self._ports.clear()
        self._tap_fds.clear()
        self._networks.clear()

    def _version(self, args: fields.Fields, _fds: list[int]) -> JsonObject:
        args.done()
        return {
            "version": __version__,
            "dpdk": self._engine.dpdk_version(),
            "frontends_guarded": self._engine.frontends_are_guarded(),
            "pid": os.getpid(),
            "instance": self._instance,
            "cores": list(self._options.cores),
            "memory": self._engine.memory(),
            "pci": list(self._options.pci),
            "iova_mode": self._engine.iova_mode(),
            "max_ports": self._engine.max_ports,
            "idle": self._options.idle,
        }

    def _network_add(self, args: fields.Fields, _fds: list[int]) -> JsonObject:
        spec = args.take("network", NetworkSpec.from_json)
        args.done()
        present = self._networks.get(spec.name)
        if present is None:
            self._check_uplink(spec.uplink)
            self._engine.network_add(spec.name, spec.mtu, spec.uplink, spec.vlan)
            self._networks[spec.name] = spec
            log.info("network %s added", spec.name)
        elif present != spec:
            raise WireError(
                Code.EXISTS, f"network {spec.name} exists with other settings", "network"
            )
        return {}

    def _check_uplink(self, name: str | None) -> None:
        path = "network.uplink"
        if name is not None and self._ports[self._port_name(name, path)].role != "uplink":
            raise WireError(Code.INVALID, f"{path}: port {name} is no uplink", path)

    def _network_del(self, args: fields.Fields, _fds: list[int]) -> JsonObject:
        name = args.take("name", self._network_name)
        args.done()
        if ports := self._ports_of(name):
            reason = f"network {name} still has {len(ports)} ports, among them {ports[0]}"
            raise WireError(Code.INVALID, reason, "name")
        self._engine.network_del(name)
        del self._networks[name]
        log.info("network %s deleted", name)
        return {}

    def _list_networks(self, args: fields.Fields, _fds: list[int]) -> JsonObject:
        args.done()
        return {
            "networks": [
                {
                    "spec": spec.to_json(),
                    "ports": self._ports_of(name),
                    "fdb_entries": len(self._engine.fdb(name)),
                }
                for name, spec in self._networks.items()
            ]
        }

    def _port_add(self, args: fields.Fields, fds: list[int]) -> JsonObject:
        spec = args.take("port", PortSpec.from_json)
        args.done()
        if (present := self._ports.get(spec.name)) is not None:
            if present != spec or fds:
                how = "with other settings" if present != spec else "and has its descriptors"
                raise WireError(Code.EXISTS, f"port {spec.name} exists {how}", "port")
            return {}
        self._check_port(spec, fds)
        if spec.vhost and spec.vhost.mode == "client":
            self._add_with_socket(spec)
        else:
            self._engine.port_add(spec, fds)
            if spec.kind == "tap":
                self._tap_fds[spec.name] = tuple(fds)
                fds.clear()  # the engine's now; of a namespace it needed a look only
        self._ports[spec.name] = spec
        log.log(_level(spec), "port %s added: %s, %d queues", spec.name, spec.kind, spec.queues)
        return {}

    def _check_port(self, spec: PortSpec, fds: list[int]) -> None:
        if spec.network is not None:
            self._network_name(spec.network, "port.network")
        if spec.uplink is not None and spec.uplink not in self._ports:
            reason = f"port.uplink: there is no port {spec.uplink}"
            raise WireError(Code.NOT_FOUND, reason, "port.uplink")
        # A tap comes as its queues; an ethdev may come with the namespace that its tap is in.
        takes = {"tap": (spec.queues,), "ethdev": (0, 1), "vhost": (0,)}[spec.kind]
        if len(fds) not in takes:
            reason = (
                f"port.queues: a {spec.kind} port of {spec.queues} queues takes"
                f" {' or '.join(map(str, takes))} file descriptors, and {len(fds)} came"
            )
            raise WireError(Code.INVALID, reason, "port.queues")
        for other in self._ports.values():
            if spec.vhost and other.vhost and spec.vhost.path == other.vhost.path:
                reason = f"port.vhost.path: port {other.name} already uses {spec.vhost.path}"
                raise WireError(Code.EXISTS, reason, "port.vhost.path")

    def _add_with_socket(self, spec: PortSpec) -> None:
        """Add a vhost port whose socket is ours to make, and give that to the application."""
        assert spec.vhost is not None
        unix_socket.remove_stale(spec.vhost.path)
        with unix_socket.private_umask():
            self._engine.port_add(spec, ())
        try:
            unix_socket.hand_over(spec.vhost.path, spec.vhost.uid, spec.vhost.gid)
        except WireError:
            self._engine.port_del(spec.name)
            raise

    def _port_set(self, args: fields.Fields, _fds: list[int]) -> JsonObject:
        name = args.take("name", self._port_name)
        limits = args.take("limits", Limits.from_json)
        args.done()
        spec = self._ports[name]
        if limits and spec.role != "container":
            reason = f"limits: port {name} has the role {spec.role}, and only containers' have any"
            raise WireError(Code.INVALID, reason, "limits")
        self._engine.port_set_limits(name, limits)
        self._ports[name] = replace(spec, limits=limits)
        log.info("port %s limited: %s", name, limits.to_json())
        return {}

    def _port_del(self, args: fields.Fields, _fds: list[int]) -> JsonObject:
        name = args.take("name", self._port_name)
        args.done()
        counters = self._engine.port_counters(name)
        self._engine.port_del(name)
        self._tap_fds.pop(name, None)
        log.log(_level(self._ports.pop(name)), "port %s deleted", name)
        return {"counters": counters}

    def _list_ports(self, args: fields.Fields, _fds: list[int]) -> JsonObject:
        name = args.take_or("name", fields.optional(self._port_name), None)
        args.done()
        chosen = self._ports.values() if name is None else [self._ports[name]]
        return {
            "ports": [
                {
                    "spec": spec.to_json(),
                    "state": self._engine.port_state(spec.name),
                    "counters": self._engine.port_counters(spec.name),
                }
                for spec in chosen
            ]
        }

    def _fdb(self, args: fields.Fields, _fds: list[int]) -> JsonObject:
        network = args.take("network", self._network_name)
        args.done()
        return {"entries": self._engine.fdb(network)}

    def _workers(self, args: fields.Fields, _fds: list[int]) -> JsonObject:
        args.done()
        return {
            "workers": self._engine.workers(),
            "tsc_hz": self._engine.tsc_hz,
            "mbufs": self._engine.memory()["pools"],
        }

    def _port_fds(self, args: fields.Fields) -> Answer:
        """Pass the queues of a tap, which stay open here too."""
        name = args.take("name", self._port_name)
        args.done()
        return Answer({}, self._tap_fds.get(name, ()))

    def _hold(self, args: fields.Fields, _fds: list[int]) -> JsonObject:
        ms = args.take("ms", _hold_ms)
        args.done()
        self._holding.hold(ms)
        return {}

    def _drain(self, args: fields.Fields, _fds: list[int]) -> JsonObject:
        """Give up all ports and networks, for another dataplane to take."""
        args.done()
        ports = len(self._ports)
        self.close()
        log.info("drained: %d ports given up", ports)
        return {"ports": ports}

    def _move(self, args: fields.Fields, _fds: list[int]) -> JsonObject:
        path = args.take("socket", fields.socket_path)
        args.done()
        self._place.move(path)
        log.info("serves %s from now on", path)
        return {}

    def _request_stop(self, args: fields.Fields, _fds: list[int]) -> JsonObject:
        args.done()
        self._stop.request()
        return {}

    def _ports_of(self, network: str) -> list[str]:
        return [spec.name for spec in self._ports.values() if spec.network == network]

    def _network_name(self, value: object, path: str) -> str:
        name = fields.name(value, path)
        if name not in self._networks:
            raise WireError(Code.NOT_FOUND, f"{path}: there is no network {name}", path)
        return name

    def _port_name(self, value: object, path: str) -> str:
        name = fields.name(value, path)
        if name not in self._ports:
            raise WireError(Code.NOT_FOUND, f"{path}: there is no port {name}", path)
        return name


def _level(spec: PortSpec) -> int:
    """Of what happens to a port: the agent tells of containers' calls itself."""
    return logging.DEBUG if spec.role == "container" else logging.INFO
