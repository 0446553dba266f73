"""One interface of one container, and the JSON object that it is kept as.

What agents of other versions have written is read as far as it can be. A new key needs a default, a
place in `_ADDED_LATER`, and a sample in tests/unit/records; SCHEMA_VERSION changes only if older
agents would do harm with what they read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from ipaddress import ip_interface
from typing import Any, Literal, NamedTuple

from dataplane.wire import Limits, WireError

SCHEMA_VERSION = 1
_ADDED_LATER = frozenset(
    {"netns_cookie", "netns_seen", "cni_path", "cni_args", "mount_path", "device_info_file"}
    | {"ip_masq"}
)
"""What records of older agents lack; its default does then."""


class Key(NamedTuple):
    """What the CNI spec identifies an attachment by."""

    container_id: str
    ifname: str


@dataclass(frozen=True)
class Attachment:
    """One interface of one container: all that is needed to make, check and remove its port.

    `name` is the netconf's name (what GC goes by), `network` the dataplane's network. `ips` and
    `gateways` are in CIDR notation, `gateways` those given to the network's host port for this
    attachment. `netns_inode` 0 means that no namespace was open; the kernel gives inodes of dead
    namespaces to new ones, but never a `netns_cookie` (0: not known). `netns_seen` says that the
    agent could open the path `netns` itself, so that a path that leads nowhere later means that
    the sandbox has gone. `labels` are echoed to people (pod, namespace). `cni_path` and `cni_args`
    are those of the ADD, for IPAM. `mount_path` is the folder in which the container sees its
    sockets, if that is another. `result` is what the ADD reported; none means that the attachment
    is only half there: its ADD is under way, or its removal. `created_s` is Unix time. `newer` is
    what a newer agent has written and this one keeps without knowing it.
    """

    name: str
    network: str
    container_id: str
    ifname: str
    netns: str = ""
    netns_inode: int = 0
    netns_cookie: int = 0
    netns_seen: bool = False
    interface: Literal["kernel", "vhost-user"] = "kernel"
    mac: str = ""
    ips: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    mtu: int = 1500
    queues: int = 1
    queue_size: int = 256
    spoof_check: bool = True
    ip_masq: bool = False
    limits: Limits = field(default_factory=Limits)
    vhost_mode: Literal["client", "server"] = "client"
    socket_path: str = ""
    uid: int = 0
    gid: int = 0
    mount_path: str = ""
    device_info_file: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    cni_version: str = "1.1.0"
    cni_path: str = ""
    cni_args: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)
    netconf: Mapping[str, Any] = field(default_factory=dict)
    created_s: float = field(default_factory=time.time)
    newer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """What identifies it."""
        return Key(self.container_id, self.ifname)

    @property
    def is_whole(self) -> bool:
        """Whether on record its ADD has come to its end, and no removal has begun."""
        return bool(self.result)

    @property
    def ipam_type(self) -> str | None:
        """The IPAM plugin that its ADD named; None if none, or if that is not known."""
        kind = self.netconf.get("ipam", {}).get("type")
        return kind if isinstance(kind, str) else None

    def to_json(self) -> dict[str, Any]:
        """The record as it is written; limits only if there are any."""
        values = {key: getattr(self, key) for key in _FIELDS if key != "limits"}
        limits = {"limits": self.limits.to_json()} if self.limits else {}
        return {"schema": SCHEMA_VERSION} | dict(self.newer) | values | limits

    @classmethod
    def from_json(cls, data: Any) -> Attachment:
        """Read a record; raises ValueError naming the key that is wrong."""
        if not isinstance(data, dict):
            raise ValueError("is not a JSON object")
        _check_schema(data.get("schema"))
        values = {key: value for key, value in data.items() if key != "schema"}
        values.setdefault("limits", {})
        for name, annotation in _FIELDS.items():
            if name not in values:
                if name in _ADDED_LATER:
                    continue
                raise ValueError(f"{name}: is missing")
            values[name] = _checked(name, annotation, values[name])
        newer = {key: values.pop(key) for key in values.keys() - _FIELDS.keys()}
        attachment = cls(**values, newer=newer)
        _check_whole(attachment)
        return attachment


_FIELDS = {item.name: str(item.type) for item in fields(Attachment) if item.name != "newer"}
_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "float": (int, float),
    "tuple": (list,),
    "Mapping": (dict,),
    "Literal": (str,),
    "Limits": (dict,),
}


def _check_schema(version: Any) -> None:
    if isinstance(version, int) and version > SCHEMA_VERSION:
        knows = f"schema {version}, this one knows {SCHEMA_VERSION}"
        raise ValueError(f"was written by a newer agent ({knows}): install that one again")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise ValueError(f"schema: {version!r} is not {SCHEMA_VERSION}, the one written here")


def _checked(name: str, annotation: str, value: Any) -> Any:
    kind = annotation.partition("[")[0]
    fits = isinstance(value, _KINDS[kind]) and isinstance(value, bool) == (kind == "bool")
    if not fits:
        raise ValueError(f"{name}: {value!r} is not a {kind}")
    if kind == "Limits":
        return _limits(name, value)
    if kind == "Literal" and f'"{value}"' not in annotation.replace("'", '"'):
        raise ValueError(f"{name}: {value!r} is none of {annotation}")
    if kind == "tuple":
        if not all(isinstance(item, str) for item in value):
            raise ValueError(f"{name}: {value!r} is not a list of strings")
        return tuple(value)
    return value


def _check_whole(attachment: Attachment) -> None:
    """Refuse what nobody could work with, though it is of the right type."""
    for name, annotation in _FIELDS.items():
        value = getattr(attachment, name)
        if annotation == "str" and not _is_name(value):
            raise ValueError(f"{name}: {value!r} is no name of anything")
    for name in ("ips", "gateways"):
        for address in getattr(attachment, name):
            try:
                ip_interface(address)
            except ValueError:
                raise ValueError(f"{name}: {address!r} is no address") from None
    if not isinstance(conf := attachment.netconf.get("ipam", {}), dict):
        raise ValueError(f"netconf.ipam: {conf!r} is no object")


def _is_name(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _limits(name: str, value: Any) -> Limits:
    try:
        return Limits.from_json(value, name)
    except WireError as error:
        raise ValueError(error.message) from None
