"""The one door to C: the engine as a Python object.

Every call releases the GIL. C answers with a negative errno and a sentence; here it raises.
"""

from __future__ import annotations

import errno
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dataplane._engine import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dataplane.limits import Limits
    from dataplane.specs import PortSpec

_KINDS = {"ethdev": lib.CV_KIND_ETHDEV, "vhost": lib.CV_KIND_VHOST, "tap": lib.CV_KIND_TAP}
_ROLES = {
    "container": lib.CV_ROLE_CONTAINER,
    "host": lib.CV_ROLE_HOST,
    "uplink": lib.CV_ROLE_UPLINK,
    "exception": lib.CV_ROLE_EXCEPTION,
}
_OFFLOADS = {
    "tx_checksum": lib.CV_OFFLOAD_TX_CHECKSUM,
    "tso4": lib.CV_OFFLOAD_TSO4,
    "tso6": lib.CV_OFFLOAD_TSO6,
    "rx_checksum": lib.CV_OFFLOAD_RX_CHECKSUM,
    "lro": lib.CV_OFFLOAD_LRO,
}
_CONFIGURABLE = {
    "rx_checksum": lib.CV_OFFLOAD_RX_CHECKSUM,
    "tx_checksum": lib.CV_OFFLOAD_TX_CHECKSUM,
    "tso": lib.CV_OFFLOAD_TSO4 | lib.CV_OFFLOAD_TSO6,
    "lro": lib.CV_OFFLOAD_LRO,
}
_DROPS = [ffi.string(lib.cv_drop_name(i)).decode() for i in range(lib.CV_DROP_COUNT)]
_COUNTERS = (
    "rx_packets",
    "rx_bytes",
    "tx_packets",
    "tx_bytes",
    "rx_gso_packets",
    "tx_gso_packets",
    "sw_gso_packets",
    "sw_csum_packets",
    "ingress_held_packets",
    "egress_pauses",
)
_QUEUE_COUNTERS = ("rx_packets", "rx_bytes", "tx_packets", "tx_bytes")
_WORKER_COUNTERS = (
    "core",
    "rx_queues",
    "busy_cycles",
    "idle_cycles",
    "sleep_cycles",
    "rounds",
    "empty_rounds",
    "packets",
    "sleeps",
    "tables",
    "wake_cycles",
)

JsonObject = dict[str, Any]


class EngineError(OSError):
    """An errno, and a sentence that says what was wrong and what to do."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How the engine is started; `cores` has one poll-mode worker each."""

    main_core: int
    cores: tuple[int, ...]
    memory_mb: int
    huge: bool
    idle: str
    pci: tuple[str, ...]
    iova_mode: str | None
    log_level: str


def _check(result: int) -> int:
    """Return a non-negative result; raise what C said about a negative one."""
    if result >= 0:
        return result
    raise EngineError(-result, ffi.string(lib.cv_error()).decode("utf-8", "replace"))


def _mac(raw: Any) -> str:
    return bytes(raw).hex(":")


def tell_of_refusals(system_calls: Mapping[int, str]) -> None:
    """Have refused system calls fail with EPERM, and told of by these names.

    :raises EngineError: the signal cannot be handled.
    """
    for number, name in system_calls.items():
        lib.cv_name_system_call(number, name.encode())
    _check(lib.cv_tell_of_refusals())


class Engine:
    """EAL, the workers, and the ports and networks by name. One in a process."""

    def __init__(self, options: EngineOptions) -> None:
        """Start EAL and one worker per core.

        :raises EngineError: the environment does not permit it.
        """
        pci = [ffi.new("char[]", address.encode()) for address in options.pci]
        cores = ffi.new("uint16_t[]", list(options.cores))
        addresses = ffi.new("char *[]", pci)
        # EAL's notices are for its developers; its errors are for everybody.
        log_level = ffi.new("char[]", b"debug" if options.log_level == "debug" else b"error")
        raw = ffi.new("struct cv_options *")
        raw.main_core = options.main_core
        raw.n_workers, raw.cores = len(options.cores), cores
        raw.memory_mb, raw.huge = options.memory_mb, options.huge
        raw.poll = options.idle == "poll"
        raw.n_pci, raw.pci = len(pci), addresses
        iova_mode = ffi.new("char[]", options.iova_mode.encode()) if options.iova_mode else ffi.NULL
        raw.iova_mode = iova_mode
        raw.log_level = log_level
        _check(lib.cv_start(raw))
        self.tsc_hz: int = lib.cv_tsc_hz()
        self._huge = options.huge
        self._networks: dict[str, int] = {}
        self._ports: dict[str, int] = {}

    def stop(self) -> None:
        """Delete what is left, end the workers and EAL."""
        lib.cv_stop()

    def dpdk_version(self) -> str:
        """The version of DPDK that the engine runs on."""
        return str(ffi.string(lib.cv_dpdk_version()).decode())

    def iova_mode(self) -> str:
        """How devices address memory: `pa` or `va`."""
        return str(ffi.string(lib.cv_iova_mode()).decode())

    def frontends_are_guarded(self) -> bool:
        """Whether librte_vhost has our guards against hostile frontends."""
        return bool(lib.cv_frontends_are_guarded())

    def network_add(self, name: str, mtu: int, uplink: str | None, vlan: int | None) -> None:
        """Add an L2 domain; `uplink` is the name of a port.

        :raises EngineError: ENOENT for the uplink, EBUSY for a tag in use, ENOSPC.
        """
        text = ffi.new("char[]", name.encode())
        conf = ffi.new("struct cv_network_conf *")
        conf.name, conf.mtu, conf.vlan = text, mtu, vlan or 0
        conf.uplink = -1 if uplink is None else self._port(uplink)
        self._networks[name] = _check(lib.cv_network_add(conf))

    def network_del(self, name: str) -> None:
        """Delete an L2 domain.

        :raises EngineError: ENOENT, or EBUSY while it has ports.
        """
        _check(lib.cv_network_del(self._network(name)))
        del self._networks[name]

    def port_add(self, spec: PortSpec, fds: Sequence[int]) -> None:
        """Add a port and serve it. `fds` are a tap's queues, the engine's from here on unless this
        raises, or the namespace of the tap behind an ethdev.

        :raises EngineError: with the reason; nothing is left of the port then.
        """
        keep: list[Any] = []  # cffi frees what nothing refers to
        conf = ffi.new("struct cv_port_conf *")
        conf.name = self._text(spec.name, keep)
        conf.kind, conf.role = _KINDS[spec.kind], _ROLES[spec.role]
        conf.network = -1 if spec.network is None else self._network(spec.network)
        conf.uplink = -1 if spec.uplink is None else self._port(spec.uplink)
        if spec.mac is not None:
            conf.has_mac, conf.mac = True, bytes.fromhex(spec.mac.replace(":", ""))
        conf.spoof_check, conf.mtu = spec.spoof_check, spec.mtu
        conf.queues, conf.queue_size = spec.queues, spec.queue_size
        conf.n_ips, conf.ips = len(spec.ips), self._ips(spec.ips, keep)
        if spec.kind == "tap":
            conf.tap_fds = self._array("int[]", fds, keep)
        if spec.vhost is not None:
            conf.vhost_path = self._text(spec.vhost.path, keep)
            conf.vhost_connect = spec.vhost.mode == "server"
        if spec.ethdev is not None:
            conf.ethdev_devargs = self._text(spec.ethdev.devargs, keep)
            conf.ethdev_netns_fd = fds[0] if fds else -1
            for name, flag in _CONFIGURABLE.items():
                if spec.ethdev.offloads.get(name, True):
                    conf.ethdev_offloads |= flag
        conf.limits = self._limits(spec.limits)[0]
        self._ports[spec.name] = _check(lib.cv_port_add(conf))

    def clear(self) -> None:
        """Delete every port and network, the uplinks that carry their traffic last.

        :raises EngineError: ENOMEM; all are still there.
        """
        _check(lib.cv_clear())
        self._ports.clear()
        self._networks.clear()

    def port_set_limits(self, name: str, limits: Limits) -> None:
        """Set the rate limits of a container's port while it runs.

        :raises EngineError: ENOENT, EINVAL for another role, ENOMEM.
        """
        _check(lib.cv_port_set_limits(self._port(name), self._limits(limits)))

    def port_del(self, name: str) -> None:
        """Stop serving a port, wait for the workers to let go, close it.

        :raises EngineError: ENOENT, or EBUSY for the uplink of a network.
        """
        _check(lib.cv_port_del(self._port(name)))
        del self._ports[name]

    def hold(self, on: bool) -> None:
        """Receive nothing from any port, or do so again.

        :raises EngineError: ENOMEM.
        """
        _check(lib.cv_hold(on))

    def port_state(self, name: str) -> JsonObject:
        """What a port is like now: readiness, link, MAC, queues and offloads in effect."""
        raw = ffi.new("struct cv_port_state *")
        _check(lib.cv_port_state(self._port(name), raw))
        return {
            "ready": bool(raw.ready),
            "link_up": bool(raw.link_up),
            "memory_lost": bool(raw.memory_lost),
            "mac": _mac(raw.mac),
            "mtu": raw.mtu,
            "rx_queues": raw.rx_queues,
            "tx_queues": raw.tx_queues,
            "offloads": [name for name, flag in _OFFLOADS.items() if raw.offloads & flag],
            "features": raw.features,
            "speed_mbps": raw.speed_mbps,
            "driver": ffi.string(raw.driver).decode(),
        }

    def ports_with_lost_memory(self) -> set[str]:
        """The ports whose frontend took away memory that it had shared, since it connected."""
        raw = ffi.new("struct cv_port_state *")
        lost = set()
        for name, port in self._ports.items():
            _check(lib.cv_port_state(port, raw))
            if raw.memory_lost:
                lost.add(name)
        return lost

    def port_counters(self, name: str) -> JsonObject:
        """A port's counters in all, per queue and per drop reason (those above zero)."""
        port = self._port(name)
        raw = ffi.new("struct cv_port_counters *")
        state = ffi.new("struct cv_port_state *")
        _check(lib.cv_port_counters(port, raw))
        _check(lib.cv_port_state(port, state))
        counters: JsonObject = {key: getattr(raw, key) for key in _COUNTERS}
        counters["drops"] = {_DROPS[i]: n for i, n in enumerate(raw.drops) if n}
        in_use = max(state.rx_queues, state.tx_queues)
        counters["queues"] = [self._queue_counters(port, queue) for queue in range(in_use)]
        return counters

    def fdb(self, network: str) -> list[JsonObject]:
        """The forwarding entries of a network, static and learned."""
        network_id = self._network(network)
        room = 0
        while (count := _check(lib.cv_fdb(network_id, ffi.NULL, 0))) > room:
            room = count + 16
            entries = ffi.new("struct cv_fdb_entry[]", room)
            count = _check(lib.cv_fdb(network_id, entries, room))
            if count <= room:
                names = {number: name for name, number in self._ports.items()}
                return [
                    {
                        "mac": _mac(entry.mac),
                        "port": names.get(entry.port),
                        "static": bool(entry.is_static),
                        "age_s": entry.age_s,
                    }
                    for entry in entries[0:count]
                ]
        return []

    def workers(self) -> list[JsonObject]:
        """What each worker has done since the start, in cycles of `tsc_hz` per second."""
        raw = ffi.new("struct cv_worker_stats *")
        workers: list[JsonObject] = []
        while lib.cv_worker(len(workers), raw) == 0:
            counters: JsonObject = {key: getattr(raw, key) for key in _WORKER_COUNTERS}
            workers.append(counters | {"wakes": list(raw.wakes)})
        return workers

    def rebalance(self) -> None:
        """Measure how busy each receive queue is, and move some to other workers if that helps.

        :raises EngineError: ENOMEM.
        """
        _check(lib.cv_rebalance())

    @property
    def max_ports(self) -> int:
        """How many ports there can be, of all kinds together."""
        return int(lib.CV_MAX_PORTS)

    def memory(self) -> JsonObject:
        """Whether hugepages are in use, and the packet pools' sizes and use."""
        raw = ffi.new("struct cv_pool_stats *")
        pools: JsonObject = {}
        while lib.cv_pool(len(pools), raw) == 0:
            pools[ffi.string(raw.name).decode()] = {
                "size": raw.size,
                "in_use": raw.in_use,
                "buffer_bytes": raw.buffer_bytes,
            }
        return {"huge": self._huge, "pools": pools}

    def _queue_counters(self, port: int, queue: int) -> JsonObject:
        raw = ffi.new("struct cv_queue_counters *")
        _check(lib.cv_port_queue(port, queue, raw))
        counters = {key: getattr(raw, key) for key in _QUEUE_COUNTERS}
        return counters | {"core": raw.core if raw.core >= 0 else None}

    def _port(self, name: str) -> int:
        if name in self._ports:
            return self._ports[name]
        raise EngineError(errno.ENOENT, f"there is no port {name}")

    def _network(self, name: str) -> int:
        if name in self._networks:
            return self._networks[name]
        raise EngineError(errno.ENOENT, f"there is no network {name}")

    @staticmethod
    def _limits(limits: Limits) -> Any:
        raw = ffi.new("struct cv_limits *")
        for key, value in limits.to_json().items():
            setattr(raw, key, value)
        return raw

    @staticmethod
    def _text(value: str, keep: list[Any]) -> Any:
        keep.append(ffi.new("char[]", value.encode()))
        return keep[-1]

    @staticmethod
    def _array(ctype: str, values: Sequence[int], keep: list[Any]) -> Any:
        keep.append(ffi.new(ctype, list(values)))
        return keep[-1]

    @staticmethod
    def _ips(ips: Sequence[str], keep: list[Any]) -> Any:
        raw = ffi.new("struct cv_ip[]", max(len(ips), 1))
        for entry, text in zip(raw, ips, strict=False):
            address = ipaddress.ip_address(text)
            entry.version = address.version
            ffi.memmove(entry.addr, address.packed, len(address.packed))
        keep.append(raw)
        return raw
