"""The record of attachments: one JSON file each, so that they survive the agent."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from cni_virtio import folders
from dataplane.wire import Limits, WireError

SCHEMA_VERSION = 1
_MAX_RECORD_BYTES = 4 << 20
_MAX_NAME_BYTES = 200
_HASH_CHARS = 16
_ADDED_LATER = frozenset(
    {"netns_cookie", "netns_seen", "cni_path", "cni_args", "mount_path", "device_info_file"}
    | {"ip_masq"}
)
"""What records of older agents lack; its default does then."""
_TEMPORARY = ".writing-"


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
    is only half there: its ADD is under way, or its removal. `created_s` is Unix time.
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

    @property
    def key(self) -> Key:
        """What identifies it."""
        return Key(self.container_id, self.ifname)

    @property
    def is_whole(self) -> bool:
        """Whether on record its ADD has come to its end, and no removal has begun."""
        return bool(self.result)

    def to_json(self) -> dict[str, Any]:
        """The record as it is written; limits only if there are any."""
        values = {key: getattr(self, key) for key in _FIELDS if key != "limits"}
        limits = {"limits": self.limits.to_json()} if self.limits else {}
        return {"schema": SCHEMA_VERSION} | values | limits

    @classmethod
    def from_json(cls, data: Any) -> Attachment:
        """Read a record; raises ValueError naming the key that is wrong."""
        if not isinstance(data, dict):
            raise ValueError("is not a JSON object")
        version = data.get("schema")
        if version != SCHEMA_VERSION:
            raise ValueError(f"schema: {version!r} is not {SCHEMA_VERSION}, the one written here")
        values = {key: value for key, value in data.items() if key != "schema"}
        values.setdefault("limits", {})
        for name, annotation in _FIELDS.items():
            if name not in values:
                if name in _ADDED_LATER:
                    continue
                raise ValueError(f"{name}: is missing")
            values[name] = _checked(name, annotation, values[name])
        unknown = values.keys() - _FIELDS.keys()
        if unknown:
            raise ValueError(f"{min(unknown)}: unknown key")
        return cls(**values)


class Quarantined(NamedTuple):
    """A record that could not be read: where it lies now, and why."""

    path: Path
    reason: str


class StateError(OSError):
    """A record that could not be written or removed; the message names file and reason."""

    def __str__(self) -> str:
        return str(self.strerror)


class StateDir:
    """The attachments under one folder (0700), indexed in memory; threads may share it."""

    def __init__(self, path: str | Path) -> None:
        self._records = Path(path) / "attachments"
        self._quarantine = Path(path) / "quarantine"
        self._index: dict[Key, Attachment] = {}
        self._lock = threading.Lock()
        try:
            folders.make(Path(path).parent, 0o755)
            for folder in (Path(path), self._records, self._quarantine):
                folder.mkdir(mode=0o700, exist_ok=True)
                folder.chmod(0o700)
        except OSError as error:
            raise _failed("make the state folder", Path(path), error) from error

    def load_all(self) -> tuple[list[Attachment], list[Quarantined]]:
        """Read every record anew; unreadable ones are moved to `quarantine/`. Raises StateError."""
        quarantined: list[Quarantined] = []
        with self._lock:
            self._index.clear()
            for path in sorted(self._records.iterdir()):
                if path.name.startswith(_TEMPORARY):  # the agent died before it could rename it
                    path.unlink(missing_ok=True)
                    continue
                try:
                    attachment = self._read(path)
                except (ValueError, RecursionError) as error:
                    quarantined.append(self._put_away(path, str(error)))
                    continue
                self._index[attachment.key] = attachment
        return self.all(), quarantined

    def save(self, attachment: Attachment) -> None:
        """Write a record, whole or not at all, in place of its key's last. Raises StateError."""
        path = self._records / file_name(attachment)
        temporary = self._records / f"{_TEMPORARY}{path.name}"
        content = json.dumps(attachment.to_json()).encode()
        with self._lock:
            last = self._index.get(attachment.key)
            try:
                _write(temporary, content)
                temporary.rename(path)
                if last and file_name(last) != path.name:
                    (self._records / file_name(last)).unlink(missing_ok=True)
            except OSError as error:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise _failed("write the record of an attachment to", path, error) from error
            self._index[attachment.key] = attachment

    def delete(self, key: Key | tuple[str, str]) -> Attachment | None:
        """Remove a record and return it, or None if there was none. Raises StateError."""
        with self._lock:
            attachment = self._index.get(Key(*key))
            if attachment is None:
                return None
            path = self._records / file_name(attachment)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise _failed("remove the record of an attachment", path, error) from error
            del self._index[attachment.key]
            return attachment

    def get(self, key: Key | tuple[str, str]) -> Attachment | None:
        """The attachment of a (container id, ifname), or None."""
        with self._lock:
            return self._index.get(Key(*key))

    def all(self) -> list[Attachment]:
        """Every attachment, oldest first."""
        with self._lock:
            return sorted(self._index.values(), key=lambda item: (item.created_s, item.key))

    def of_network(self, network: str) -> list[Attachment]:
        """The attachments of a dataplane network, oldest first."""
        return [item for item in self.all() if item.network == network]

    def _read(self, path: Path) -> Attachment:
        try:
            with path.open("rb") as file:
                content = file.read(_MAX_RECORD_BYTES + 1)
        except OSError as error:
            raise ValueError(f"cannot be read: {error.strerror}") from None
        if len(content) > _MAX_RECORD_BYTES:
            raise ValueError(f"is larger than {_MAX_RECORD_BYTES} bytes")
        try:
            data = json.loads(content.decode("utf-8"))
        except ValueError as error:
            raise ValueError(f"is empty, cut off or not JSON: {error}") from None
        attachment = Attachment.from_json(data)
        if path.name != file_name(attachment):
            raise ValueError(f"is the record of {file_name(attachment)}, under another name")
        return attachment

    def _put_away(self, path: Path, reason: str) -> Quarantined:
        target = self._quarantine / path.name
        number = 0
        while target.exists():
            number += 1
            target = self._quarantine / f"{path.name}.{number}"
        try:
            path.rename(target)
        except OSError as error:
            raise _failed("put away the unreadable record", path, error) from error
        return Quarantined(target, f"{path.name}: {reason}")


def file_name(attachment: Attachment) -> str:
    """`network@container id@ifname`, quoted; a long one ends in a hash instead."""
    parts = (attachment.name, attachment.container_id, attachment.ifname)
    name = "@".join(quote(part, safe="", errors="surrogateescape") for part in parts)
    if len(name) > _MAX_NAME_BYTES:
        digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH_CHARS]
        name = f"{name[: _MAX_NAME_BYTES - _HASH_CHARS - 1]}~{digest}"
    return f"{name}.json"


def _write(path: Path, content: bytes) -> None:
    # No fsync: what has to be outlived is the agent, not the machine.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(content)


def _failed(what: str, path: Path, error: OSError) -> StateError:
    hint = "; free space there" if error.errno == errno.ENOSPC else ""
    return StateError(error.errno, f"cannot {what} {path}: {error.strerror}{hint}")


_FIELDS = {item.name: str(item.type) for item in fields(Attachment)}
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


def _limits(name: str, value: Any) -> Limits:
    try:
        return Limits.from_json(value, name)
    except WireError as error:
        raise ValueError(error.message) from None
