"""Ask the agent: one request, one JSON answer, over its socket."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any, Final

DEFAULT_SOCKET: Final = "/run/cni-virtio/agent.sock"
_HEADER: Final = struct.Struct("<4sIII")
_REPLY: Final = struct.Struct("<II")
_MAX_REPLY_BYTES: Final = 256 << 20


class AgentError(Exception):
    """The agent cannot be asked, or it refused; the text is one line with the remedy."""


class AgentUnavailableError(AgentError):
    """Nobody answers at the agent's socket."""


def query(
    path: str | os.PathLike[str],
    op: str,
    args: Mapping[str, Any] | None = None,
    timeout_s: float = 10.0,
) -> dict[str, Any]:
    """Send one operation and return its result.

    Raises AgentUnavailableError if there is no agent, AgentError for its refusal.
    """
    place = os.fspath(path)
    body = json.dumps({"op": op, "args": dict(args or {})}).encode()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout_s)
            sock.connect(place)
            sock.sendall(_HEADER.pack(b"CNV2", 0, len(body), 0) + body)
            status, length = _REPLY.unpack(_receive(sock, _REPLY.size))
            if length > _MAX_REPLY_BYTES:
                raise AgentError(f"agent at {place}: a reply of {length} bytes cannot be right")
            reply = _receive(sock, length)
    except OSError as error:
        raise AgentUnavailableError(_explain(place, error)) from None
    return _result(place, op, status, reply)


def _receive(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = sock.recv(min(size - len(data), 1 << 20))
        if not part:
            raise ConnectionResetError(f"closed after {len(data)} of {size} bytes")
        data += part
    return bytes(data)


def _result(place: str, op: str, status: int, reply: bytes) -> dict[str, Any]:
    try:
        value = json.loads(reply)
    except ValueError:
        raise AgentError(f"agent at {place}: answer to {op} is not JSON") from None
    if not isinstance(value, dict):
        raise AgentError(f"agent at {place}: answer to {op} is not an object")
    if status != 0:
        error = value.get("error", value)
        words = error.get("message") or error.get("msg") if isinstance(error, dict) else error
        raise AgentError(f"agent at {place}: {op}: {words or 'refused without a reason'}")
    return value


def _explain(place: str, error: OSError) -> str:
    start = "start it (cni-virtio-agent --config FILE) or name its socket with --socket"
    match error:
        case FileNotFoundError():
            return f"no agent at {place}: {start}"
        case ConnectionRefusedError():
            return f"no agent at {place}, only the socket of one that died: {start}"
        case PermissionError():
            return f"no access to the agent at {place}: run as root or as the agent's user"
        case TimeoutError():
            return f"the agent at {place} does not answer: see its log, restart it if it hangs"
        case _:
            return f"the agent at {place} broke off ({error}): see its log"
