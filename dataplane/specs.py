"""What a network and a port are: the objects that the control socket carries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, cast

from dataplane import fields
from dataplane.fields import Code, Fields, WireError, refuse
from dataplane.limits import Limits

JsonObject = dict[str, Any]
Kind = Literal["tap", "vhost", "ethdev"]
Role = Literal["container", "host", "uplink", "exception"]
Mode = Literal["client", "server"]

MAX_FDS = 64
"""File descriptors with one frame, and so queues of a tap."""
MAX_QUEUES = 256
MAX_QUEUE_SIZE = 32768
MIN_QUEUE_SIZE = 64
MIN_MTU = 68
MAX_MTU = 65521
"""What the kernel's tun driver takes: 65,535 less the Ethernet header."""
DEFAULT_MTU = 1500
MAX_IPS = 64
MAX_LABELS = 64
MAX_LABEL_BYTES = 4096
MAX_DEVARGS_BYTES = 1024
OFFLOADS = ("rx_checksum", "tx_checksum", "tso", "lro")

_MAX_UID = (1 << 32) - 2


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """An L2 domain. `uplink` is a port's name; `vlan` is the tag that its frames have there."""

    name: str
    mtu: int = DEFAULT_MTU
    uplink: str | None = None
    vlan: int | None = None

    def to_json(self) -> JsonObject:
        """Give the JSON object."""
        return {"name": self.name, "mtu": self.mtu, "uplink": self.uplink, "vlan": self.vlan}

    @classmethod
    def from_json(cls, value: object, path: str = "network") -> NetworkSpec:
        """Read and check a JSON object that was found at `path`.

        :raises WireError: `invalid`, naming the field at fault.
        """
        left = Fields(value, path)
        spec = cls(
            name=left.take("name", fields.name),
            mtu=left.take_or("mtu", _mtu, DEFAULT_MTU),
            uplink=left.take_or("uplink", fields.optional(fields.name), None),
            vlan=left.take_or("vlan", fields.optional(fields.integer(1, 4094)), None),
        )
        left.done()
        if spec.vlan is not None and spec.uplink is None:
            raise refuse(f"{path}.vlan", "must be null without an uplink", spec.vlan)
        return spec


@dataclass(frozen=True, slots=True)
class VhostSpec:
    """A vhost-user socket; `mode` is the application's role: with `client` we make the socket."""

    path: str
    mode: Mode = "client"
    uid: int = 0
    gid: int = 0

    def to_json(self) -> JsonObject:
        """Give the JSON object."""
        return {"path": self.path, "mode": self.mode, "uid": self.uid, "gid": self.gid}

    @classmethod
    def from_json(cls, value: object, path: str = "vhost") -> VhostSpec:
        """Read and check a JSON object that was found at `path`.

        :raises WireError: `invalid`, naming the field at fault.
        """
        left = Fields(value, path)
        spec = cls(
            path=left.take("path", fields.socket_path),
            mode=cast("Mode", left.take_or("mode", fields.choice("client", "server"), "client")),
            uid=left.take_or("uid", fields.integer(0, _MAX_UID), 0),
            gid=left.take_or("gid", fields.integer(0, _MAX_UID), 0),
        )
        left.done()
        return spec


@dataclass(frozen=True, slots=True)
class EthdevSpec:
    """A device of DPDK: a PCI address, or a vdev's name and arguments; offloads asked of it."""

    devargs: str
    offloads: dict[str, bool] = field(default_factory=dict)

    def to_json(self) -> JsonObject:
        """Give the JSON object."""
        return {"devargs": self.devargs, "offloads": dict(self.offloads)}

    @classmethod
    def from_json(cls, value: object, path: str = "ethdev") -> EthdevSpec:
        """Read and check a JSON object that was found at `path`.

        :raises WireError: `invalid`, naming the field at fault.
        """
        left = Fields(value, path)
        offloads = fields.mapping(fields.choice(*OFFLOADS), fields.boolean, len(OFFLOADS))
        spec = cls(
            devargs=left.take("devargs", fields.text(MAX_DEVARGS_BYTES)),
            offloads=left.take_or("offloads", offloads, {}),
        )
        left.done()
        return spec


@dataclass(frozen=True, slots=True)
class PortSpec:
    """A port. `mac` None means the device's own; `queue_size` 0 means the device's default.

    `uplink` is, for the role exception, the port whose twin in the host's kernel this is.

    `ips` are plain addresses without prefix. `labels` mean nothing to the dataplane: it gives
    them back with the port.
    """

    name: str
    kind: Kind
    role: Role
    network: str | None = None
    mac: str | None = None
    ips: tuple[str, ...] = ()
    spoof_check: bool = False
    mtu: int = DEFAULT_MTU
    queues: int = 1
    queue_size: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    vhost: VhostSpec | None = None
    ethdev: EthdevSpec | None = None
    uplink: str | None = None
    limits: Limits = field(default_factory=Limits)

    def to_json(self) -> JsonObject:
        """Give the JSON object, without limits if there are none."""
        # A dataplane that knows no limits runs on under a newer agent, and refuses unknown keys.
        limits = {"limits": self.limits.to_json()} if self.limits else {}
        return limits | {
            "name": self.name,
            "kind": self.kind,
            "role": self.role,
            "network": self.network,
            "uplink": self.uplink,
            "mac": self.mac,
            "ips": list(self.ips),
            "spoof_check": self.spoof_check,
            "mtu": self.mtu,
            "queues": self.queues,
            "queue_size": self.queue_size,
            "labels": dict(self.labels),
            "vhost": self.vhost.to_json() if self.vhost else None,
            "ethdev": self.ethdev.to_json() if self.ethdev else None,
        }

    @classmethod
    def from_json(cls, value: object, path: str = "port") -> PortSpec:
        """Read and check a JSON object that was found at `path`; addresses come out normalised.

        :raises WireError: `invalid`, naming the field at fault.
        """
        left = Fields(value, path)
        spec = cls(
            name=left.take("name", fields.name),
            kind=cast("Kind", left.take("kind", fields.choice("tap", "vhost", "ethdev"))),
            role=cast("Role", left.take("role", _role)),
            network=left.take_or("network", fields.optional(fields.name), None),
            uplink=left.take_or("uplink", fields.optional(fields.name), None),
            mac=left.take_or("mac", fields.optional(fields.mac), None),
            ips=left.take_or("ips", fields.array(fields.ip, MAX_IPS), ()),
            spoof_check=left.take_or("spoof_check", fields.boolean, False),
            mtu=left.take_or("mtu", _mtu, DEFAULT_MTU),
            queues=left.take_or("queues", fields.integer(1, MAX_QUEUES), 1),
            queue_size=left.take_or("queue_size", _queue_size, 0),
            labels=left.take_or("labels", _labels, {}),
            vhost=left.take_or("vhost", fields.optional(VhostSpec.from_json), None),
            ethdev=left.take_or("ethdev", fields.optional(EthdevSpec.from_json), None),
            limits=left.take_or("limits", Limits.from_json, Limits()),
        )
        left.done()
        _check_whole(spec, path)
        return spec


_mtu = fields.integer(MIN_MTU, MAX_MTU)
_role = fields.choice("container", "host", "uplink", "exception")


def _queue_size(value: object, path: str) -> int:
    size = fields.integer(0, MAX_QUEUE_SIZE)(value, path)
    if size and (size < MIN_QUEUE_SIZE or size & (size - 1)):
        rule = f"must be 0 or a power of two from {MIN_QUEUE_SIZE} to {MAX_QUEUE_SIZE}"
        raise refuse(path, rule, value)
    return size


def _label(value: object, path: str) -> str:
    label = fields.string(value, path)
    if len(label) > MAX_LABEL_BYTES:
        raise refuse(path, f"must be at most {MAX_LABEL_BYTES} characters", value)
    return label


_labels = fields.mapping(fields.name, _label, MAX_LABELS)


def _check_whole(spec: PortSpec, path: str) -> None:
    """Check what the fields of a port must be to each other."""
    for kind, value in (("vhost", spec.vhost), ("ethdev", spec.ethdev)):
        if spec.kind == kind and value is None:
            reason = f"{path}.{kind}: is missing, and the port's kind is {kind}"
            raise WireError(Code.INVALID, reason, f"{path}.{kind}")
        if spec.kind != kind and value is not None:
            reason = f"{path}.{kind}: must be null for a port of kind {spec.kind}"
            raise WireError(Code.INVALID, reason, f"{path}.{kind}")
    if spec.kind == "tap" and spec.queues > MAX_FDS:
        raise refuse(f"{path}.queues", f"must be at most {MAX_FDS} for a tap", spec.queues)
    in_network = spec.role in ("container", "host")
    needed = {
        "network": (spec.network, in_network),
        "uplink": (spec.uplink, spec.role == "exception"),
    }
    for key, (given, wanted) in needed.items():
        if given is not None and not wanted:
            raise refuse(f"{path}.{key}", f"must be null for the role {spec.role}", given)
        if given is None and wanted:
            raise _missing(path, key, spec.role)
    if spec.mac is None and spec.role != "uplink":
        raise _missing(path, "mac", spec.role)
    if spec.limits and spec.role != "container":
        rule = f"must be absent for the role {spec.role}"
        raise refuse(f"{path}.limits", rule, spec.limits.to_json())


def _missing(path: str, key: str, role: Role) -> WireError:
    reason = f"{path}.{key}: is missing, and the port's role is {role}"
    return WireError(Code.INVALID, reason, f"{path}.{key}")
