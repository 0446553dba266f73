"""The JSON of a network configuration, read so strictly that all who get it can read it."""

from __future__ import annotations

import json
import math
from typing import Any

from cni_virtio.schema import shown
from cni_virtio.spec import CniError, Code

_MAX_DEPTH = 64


def decode(stdin: bytes) -> dict[str, Any]:
    """Read the JSON object. Raises CniError 6, for what only Python takes for JSON as well."""
    try:
        raw = json.loads(stdin.decode("utf-8"), parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise CniError(Code.DECODING_FAILURE, f"netconf on stdin: not JSON: {error}") from None
    _check_depth([raw])
    if b"\\u" in stdin:
        _check_text(raw)
    if not isinstance(raw, dict):
        raise CniError(Code.DECODING_FAILURE, f"netconf on stdin: {shown(raw)} is not an object")
    return raw


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:40]} is too large a number")
    return number


def _check_text(raw: Any) -> None:
    """Half of a pair of escapes is no character: no file, plugin or program could be told it."""
    try:
        json.dumps(raw, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        msg = f"netconf on stdin: {half} is half a character, its other half is missing"
        raise CniError(Code.DECODING_FAILURE, msg) from None


def _check_depth(level: list[Any]) -> None:
    """What nests deeper than any real configuration could exhaust the stack further on."""
    for _ in range(_MAX_DEPTH + 1):
        containers = [item for item in level if isinstance(item, dict | list)]
        if not containers:
            return
        parts = [item.values() if isinstance(item, dict) else item for item in containers]
        level = [part for group in parts for part in group]
    raise _too_deep()


def _too_deep() -> CniError:
    msg = f"netconf on stdin: nested more than {_MAX_DEPTH} levels deep"
    return CniError(Code.DECODING_FAILURE, msg)
