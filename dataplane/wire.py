"""The messages of the dataplane's control socket, for both ends.

A frame is a 4-byte big-endian length and a JSON object in UTF-8. File descriptors ride as
SCM_RIGHTS with a frame's first byte, in either direction. Request: `{"id", "op", "args"}`; reply:
`{"id", "ok": true, "result"}` or `{"id", "ok": false, "error": {"code", "message", "field"}}`. A
reply's `id` is null when the request could not be read; the server closes the connection after
such a reply.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from dataplane import fields
from dataplane.fields import Code, Fields, WireError, refuse
from dataplane.limits import Limits
from dataplane.specs import MAX_FDS, EthdevSpec, JsonObject, NetworkSpec, PortSpec, VhostSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "MAX_FDS",
    "MAX_REPLY_BYTES",
    "MAX_REQUEST_BYTES",
    "Code",
    "Decoder",
    "EthdevSpec",
    "JsonObject",
    "Limits",
    "NetworkSpec",
    "Op",
    "PortSpec",
    "Request",
    "VhostSpec",
    "WireError",
    "decode",
    "encode",
    "error_reply",
    "ok_reply",
]


MAX_REQUEST_BYTES = 1 << 20
MAX_REPLY_BYTES = 64 << 20
"""Replies may be larger than requests: `ports` with counters per queue of 1,000 ports."""
_HEADER = struct.Struct(">I")
_MAX_ID = (1 << 63) - 1
_MAX_DEPTH = 16


class Op(StrEnum):
    """The operations of the control socket."""

    VERSION = "version"
    NETWORK_ADD = "network_add"
    NETWORK_DEL = "network_del"
    NETWORKS = "networks"
    PORT_ADD = "port_add"
    PORT_SET = "port_set"
    PORT_DEL = "port_del"
    PORTS = "ports"
    FDB = "fdb"
    WORKERS = "workers"
    HOLD = "hold"
    PORT_FDS = "port_fds"
    DRAIN = "drain"
    MOVE = "move"
    STOP = "stop"


def encode(message: Mapping[str, object], most_bytes: int = MAX_REQUEST_BYTES) -> bytes:
    """Give the frame of a message.

    :raises WireError: `invalid`, if its JSON is longer than `most_bytes`.
    """
    body = json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
    if len(body) > most_bytes:
        reason = f"a message of {len(body)} bytes is over the limit of {most_bytes}"
        raise WireError(Code.INVALID, reason)
    return _HEADER.pack(len(body)) + body


def decode(body: bytes) -> JsonObject:
    """Give the JSON object of a frame's body.

    :raises WireError: `invalid`, if it is not one JSON object, or a key in it appears twice.
    """
    try:
        message = json.loads(
            body.decode(), object_pairs_hook=_object, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as e:
        raise WireError(Code.INVALID, f"the message is not JSON in UTF-8: {e}") from e
    if not isinstance(message, dict):
        raise WireError(Code.INVALID, "the message must be a JSON object")
    return message


def _object(pairs: list[tuple[str, object]]) -> JsonObject:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a key appears twice in one object")
    return members


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not a number of JSON")


class Decoder:
    """Cuts a stream of bytes into the bodies of frames. Holds less than one frame."""

    def __init__(self, most_bytes: int = MAX_REQUEST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._buffer = bytearray()

    @property
    def wanted(self) -> int:
        """How many bytes complete the current header or body.

        Who never reads more than this from a socket gets file descriptors with the frame they
        were sent with, and leaves later frames in the kernel's buffer.
        """
        if len(self._buffer) < _HEADER.size:
            return _HEADER.size - len(self._buffer)
        return _HEADER.size + self._body_bytes() - len(self._buffer)

    @property
    def started(self) -> bool:
        """Whether a frame has begun and is not complete."""
        return bool(self._buffer)

    def feed(self, chunk: bytes) -> list[bytes]:
        """Add bytes and give the bodies of the frames that they complete.

        :raises WireError: `invalid`, if a frame announces more than the limit or nothing at all.
            The stream cannot be read on after that.
        """
        self._buffer += chunk
        bodies = []
        while len(self._buffer) >= _HEADER.size:
            end = _HEADER.size + self._body_bytes()
            if len(self._buffer) < end:
                break
            bodies.append(bytes(self._buffer[_HEADER.size : end]))
            del self._buffer[:end]
        return bodies

    def _body_bytes(self) -> int:
        (size,) = _HEADER.unpack_from(self._buffer)
        if not 0 < size <= self._most_bytes:
            reason = f"a frame announces {size} bytes; the limit is 1 to {self._most_bytes}"
            raise WireError(Code.INVALID, reason)
        return int(size)


@dataclass(frozen=True, slots=True)
class Request:
    """One request. Whether `op` is known and `args` fit it is for the server to say."""

    id: int
    op: str
    args: JsonObject = field(default_factory=dict)

    def to_json(self) -> JsonObject:
        """Give the message."""
        return {"id": self.id, "op": self.op, "args": self.args}

    @classmethod
    def from_json(cls, message: JsonObject) -> Request:
        """Read a message.

        :raises WireError: `invalid`, naming the field at fault.
        """
        _check_depth(message)
        left = Fields(message, "")
        request = cls(
            id=left.take("id", request_id),
            op=left.take("op", fields.string),
            args=left.take_or("args", _any_object, {}),
        )
        left.done()
        return request


def _check_depth(message: JsonObject) -> None:
    """Refuse what nests deeper than any request: to show it could exhaust the stack."""
    level: list[object] = [message]
    for _ in range(_MAX_DEPTH):
        level = [
            part
            for item in level
            if isinstance(item, dict | list)
            for part in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return
    raise WireError(Code.INVALID, f"the message is nested more than {_MAX_DEPTH} levels deep")


request_id = fields.integer(0, _MAX_ID)


def _any_object(value: object, path: str) -> JsonObject:
    if not isinstance(value, dict):
        raise refuse(path, "must be an object", value)
    return value


def ok_reply(request_id: int, result: Mapping[str, object]) -> JsonObject:
    """Give the reply to a request that succeeded."""
    return {"id": request_id, "ok": True, "result": result}


def error_reply(request_id: int | None, error: WireError) -> JsonObject:
    """Give the reply to a request that failed, or (with None) that could not be read."""
    return {"id": request_id, "ok": False, "error": error.to_json()}
