"""Strict reading of JSON fields: every refusal names the field's path, its value and the rule."""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

MAX_NAME_BYTES = 255
MAX_UNIX_PATH_BYTES = 107
"""`sockaddr_un.sun_path` has room for 108 bytes, the last of which ends the string."""

_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}", re.ASCII)
_SHOWN_CHARS = 80


class Code(StrEnum):
    """What kind of failure an error reply reports."""

    INVALID = "invalid"
    NOT_FOUND = "not_found"
    EXISTS = "exists"
    NO_RESOURCE = "no_resource"
    UNSUPPORTED = "unsupported"
    IO = "io"
    INTERNAL = "internal"


class WireError(Exception):
    """A request that is refused: `code`, a `message` for people, and the `field` at fault."""

    def __init__(self, code: Code, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field

    def to_json(self) -> dict[str, object]:
        """Give the `error` object of a reply."""
        return {"code": str(self.code), "message": self.message, "field": self.field}


def shown(value: object) -> str:
    """Give a value as it appears in messages: quoted, ASCII, on one line, cut when long."""
    text = ascii(value)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."


def refuse(path: str, rule: str, value: object) -> WireError:
    """Make the error for a field at `path` whose `value` breaks `rule`."""
    return WireError(Code.INVALID, f"{path}: {rule}, not {shown(value)}", path)


def string(value: object, path: str) -> str:
    """Accept any string."""
    if not isinstance(value, str):
        raise refuse(path, "must be a string", value)
    return value


def boolean(value: object, path: str) -> bool:
    """Accept true or false."""
    if not isinstance(value, bool):
        raise refuse(path, "must be true or false", value)
    return value


def integer(low: int, high: int) -> Callable[[object, str], int]:
    """Accept whole numbers from `low` to `high`, both included."""

    def check(value: object, path: str) -> int:
        # bool is a subclass of int, yet `true` is no number on the wire.
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise refuse(path, f"must be a whole number from {low} to {high}", value)
        return value

    return check


def choice(*allowed: str) -> Callable[[object, str], str]:
    """Accept one of the given words."""

    def check(value: object, path: str) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise refuse(path, f"must be one of {', '.join(allowed)}", value)
        return value

    return check


def optional(check: Callable[[object, str], T]) -> Callable[[object, str], T | None]:
    """Accept null, or what `check` accepts."""

    def checked(value: object, path: str) -> T | None:
        return None if value is None else check(value, path)

    return checked


def array(check: Callable[[object, str], T], most: int) -> Callable[[object, str], tuple[T, ...]]:
    """Accept a list of at most `most` different items."""

    def checked(value: object, path: str) -> tuple[T, ...]:
        if not isinstance(value, list | tuple) or len(value) > most:
            raise refuse(path, f"must be a list of at most {most} items", value)
        items = tuple(check(item, f"{path}[{i}]") for i, item in enumerate(value))
        for i, item in enumerate(items):
            if item in items[:i]:
                raise refuse(f"{path}[{i}]", "must appear only once in the list", item)
        return items

    return checked


def mapping(
    key: Callable[[object, str], str], check: Callable[[object, str], T], most: int
) -> Callable[[object, str], dict[str, T]]:
    """Accept an object of at most `most` members."""

    def checked(value: object, path: str) -> dict[str, T]:
        if not isinstance(value, dict) or len(value) > most:
            raise refuse(path, f"must be an object of at most {most} members", value)
        return {key(k, path): check(v, f"{path}.{k}") for k, v in value.items()}

    return checked


def text(most_bytes: int) -> Callable[[object, str], str]:
    """Accept a non-empty string that is printable, without whitespace, `most_bytes` in UTF-8."""

    def check(value: object, path: str) -> str:
        # A lone surrogate is not printable, so encoding cannot fail.
        if (
            not isinstance(value, str)
            or not value.isprintable()
            or " " in value
            or not 1 <= len(value.encode()) <= most_bytes
        ):
            rule = f"must be 1 to {most_bytes} bytes of printable text without whitespace"
            raise refuse(path, rule, value)
        return value

    return check


name = text(MAX_NAME_BYTES)


def mac(value: object, path: str = "mac") -> str:
    """Accept a unicast MAC address; give it in lower case."""
    lowered = value.lower() if isinstance(value, str) else ""
    if not _MAC.fullmatch(lowered):
        raise refuse(path, "must be a MAC address such as 02:00:00:00:00:01", value)
    if int(lowered[:2], 16) & 1 or lowered == "00:00:00:00:00:00":
        raise refuse(path, "must be a unicast MAC address", value)
    return lowered


def ip(value: object, path: str = "ip") -> str:
    """Accept a plain unicast IP address, without prefix or zone; give its normal form."""
    rule = "must be an IPv4 or IPv6 address without prefix length"
    if not isinstance(value, str) or "%" in value:
        raise refuse(path, rule, value)
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise refuse(path, rule, value) from None
    if address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255":
        raise refuse(path, "must be a unicast IP address", value)
    return str(address)


def socket_path(value: object, path: str = "path") -> str:
    """Accept an absolute, normalised path that fits a Unix socket's address."""
    given = text(MAX_UNIX_PATH_BYTES)(value, path)
    parts = given.split("/")[1:]
    if not given.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise refuse(path, "must be an absolute path without '.', '..' or '//'", value)
    return given


class Fields:
    """One JSON object whose fields are taken one by one; what is left over is refused."""

    def __init__(self, value: object, path: str) -> None:
        if not isinstance(value, dict):
            raise refuse(path, "must be an object", value)
        self._left = dict(value)
        self._path = path

    def take(self, key: str, check: Callable[[object, str], T]) -> T:
        """Give the checked value of a required field."""
        path = self._join(key)
        if key not in self._left:
            raise WireError(Code.INVALID, f"{path}: is missing", path)
        return check(self._left.pop(key), path)

    def take_or(self, key: str, check: Callable[[object, str], T], default: T) -> T:
        """Give the checked value of a field, or `default` where it is absent."""
        return self.take(key, check) if key in self._left else default

    def done(self) -> None:
        """Refuse any field that nobody took."""
        for key in self._left:
            path = self._join(key) if isinstance(key, str) and key.isprintable() else self._path
            raise WireError(Code.INVALID, f"{path}: unknown key {shown(key)}", path)

    def _join(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key
