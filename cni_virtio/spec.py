"""The CNI protocol: error codes, versions, and one request with its environment checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from cni_virtio.results import (
    DNS,
    SUPPORTED_VERSIONS,
    Interface,
    IPConfig,
    Result,
    ResultError,
    Route,
    at_least,
    brief,
)

__all__ = [
    "DNS",
    "SINCE",
    "SUPPORTED_VERSIONS",
    "CniError",
    "Code",
    "IPConfig",
    "Interface",
    "Request",
    "Result",
    "ResultError",
    "Route",
    "at_least",
    "check_ifname",
]


class Code(IntEnum):
    """Error codes: below 100 the spec's, from 100 on this plugin's own."""

    INCOMPATIBLE_VERSION = 1
    UNSUPPORTED_FIELD = 2
    UNKNOWN_CONTAINER = 3
    INVALID_ENVIRONMENT = 4
    IO_FAILURE = 5
    DECODING_FAILURE = 6
    INVALID_CONFIG = 7
    INVALID_NETNS = 8
    TRY_AGAIN_LATER = 11
    NOT_AVAILABLE = 50
    LIMITED_CONNECTIVITY = 51
    DATAPLANE = 100
    NETWORK_SETUP = 101
    IPAM = 102
    CHECK_FAILED = 103
    INTERNAL = 999


class CniError(Exception):
    """A failure as the runtime will see it: `msg` is one line, `details` may be longer."""

    def __init__(self, code: int, msg: str, details: str = "") -> None:
        super().__init__(msg)
        self.code = int(code)
        self.msg = msg
        self.details = details

    def to_json(self, cni_version: str) -> dict[str, Any]:
        """The spec's error object; `cni_version` is the request's, or the newest one spoken."""
        out: dict[str, Any] = {"cniVersion": cni_version, "code": self.code, "msg": self.msg}
        return out | ({"details": self.details} if self.details else {})


COMMANDS = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")
SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
"""The spec version that brought a command, where that is not the oldest spoken here."""
_NEEDS: dict[str, tuple[str, ...]] = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
}
_KNOWN_ARGS = frozenset(
    {
        "IgnoreUnknown",
        "K8S_POD_NAME",
        "K8S_POD_NAMESPACE",
        "K8S_POD_INFRA_CONTAINER_ID",
        "K8S_POD_UID",
        "MAC",
        "IP",
        "GATEWAY",
    }
)
_CONTAINER_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
_CONTAINER_ID_MAX_CHARS = 200  # it is part of names of ports and files, which end at 255
_BOOLEANS = {"1": True, "true": True, "0": False, "false": False}
_IFNAME_MAX_BYTES = 15
_NO_BREAK_SPACE = b"\xa0"


@dataclass(frozen=True)
class Request:
    """One call of the plugin. Values a command does not take are empty.

    `netns_fd` is the open namespace that came along with the call (the caller closes it), or
    None where the command has none or, on DEL, where it could no longer be opened.
    """

    command: str
    container_id: str
    netns: str
    ifname: str
    args: dict[str, str]
    path: list[str]
    env: dict[str, str]
    stdin: bytes
    netns_fd: int | None = None

    @classmethod
    def parse(cls, env: Mapping[str, str], stdin: bytes, netns_fd: int | None = None) -> Request:
        """Read and check the CNI_* variables; raises CniError 4 naming the variable."""
        command = env.get("CNI_COMMAND", "")
        if command not in COMMANDS:
            raise _bad("CNI_COMMAND", command, f"must be one of {', '.join(COMMANDS)}")
        needs = _NEEDS.get(command, ())
        missing = [name for name in needs if not env.get(name)]
        if missing:
            names = ", ".join(missing)
            raise CniError(Code.INVALID_ENVIRONMENT, f"{names}: not set, {command} needs it")
        if "CNI_CONTAINERID" in needs:
            _check_container_id(env["CNI_CONTAINERID"])
            check_ifname(env["CNI_IFNAME"])
        return cls(
            command=command,
            container_id=env.get("CNI_CONTAINERID", ""),
            netns=env.get("CNI_NETNS", ""),
            ifname=env.get("CNI_IFNAME", ""),
            args=_parse_args(env.get("CNI_ARGS", "")),
            # The agent's working directory is not the runtime's: relative places mean nothing.
            path=[place for place in env.get("CNI_PATH", "").split(":") if place.startswith("/")],
            env=dict(env),
            stdin=stdin,
            netns_fd=netns_fd,
        )

    @property
    def pod(self) -> dict[str, str]:
        """The pod as the runtime named it: keys `name`, `namespace`, `uid`, those given only."""
        names = {
            "name": self.args.get("K8S_POD_NAME"),
            "namespace": self.args.get("K8S_POD_NAMESPACE"),
            "uid": self.args.get("K8S_POD_UID"),
        }
        return {key: value for key, value in names.items() if value}


def check_ifname(name: str, variable: str = "CNI_IFNAME") -> None:
    """Refuse what the kernel refuses as the name of a link; raises CniError 4."""
    size = len(name.encode("utf-8", "surrogateescape"))
    if not 1 <= size <= _IFNAME_MAX_BYTES:
        raise _bad(variable, name, f"has {size} bytes, allowed are 1 to {_IFNAME_MAX_BYTES}")
    if name in (".", ".."):
        raise _bad(variable, name, "is not a name that a link can have")
    if any(char in "/:%\0" or char.isspace() for char in name):
        # The kernel puts a number in the place of %d.
        raise _bad(variable, name, "must not contain '/', ':', '%' or whitespace")
    if _NO_BREAK_SPACE in name.encode("utf-8", "surrogateescape"):
        raise _bad(variable, name, "has a byte 0xa0, which the kernel takes for whitespace")
    if not name.isprintable():  # nor is what is no UTF-8
        raise _bad(variable, name, "has characters that cannot be printed")


def _check_container_id(container_id: str) -> None:
    if not _CONTAINER_ID.fullmatch(container_id):
        allowed = "must be letters, digits, '_', '.' and '-', and begin with a letter or digit"
        raise _bad("CNI_CONTAINERID", container_id, allowed)
    if len(container_id) > _CONTAINER_ID_MAX_CHARS:
        reason = f"has {len(container_id)} characters, at most {_CONTAINER_ID_MAX_CHARS} fit"
        raise _bad("CNI_CONTAINERID", container_id, reason)


def _parse_args(text: str) -> dict[str, str]:
    """`K=V;K2=V2`, with keys and values as the reference plugins take them."""
    args: dict[str, str] = {}
    for pair in text.split(";") if text else []:
        key, *values = pair.split("=")
        if not key or len(values) != 1:
            raise _bad("CNI_ARGS", pair, "is not a pair of the form KEY=VALUE")
        args[key] = values[0]
    flag = args.get("IgnoreUnknown", "0").lower()
    if flag not in _BOOLEANS:
        raise _bad("CNI_ARGS", f"IgnoreUnknown={flag}", "must be 1, true, 0 or false")
    unknown = sorted(args.keys() - _KNOWN_ARGS)
    if unknown and not _BOOLEANS[flag]:
        pair = f"{unknown[0]}={args[unknown[0]]}"
        raise _bad("CNI_ARGS", pair, "is an unknown key, and IgnoreUnknown=1 is not given")
    return args


def _bad(variable: str, value: str, reason: str) -> CniError:
    return CniError(Code.INVALID_ENVIRONMENT, f"{variable}: {brief(value)} {reason}")
