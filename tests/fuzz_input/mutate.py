"""Changes to scripts that keep JSON being JSON: libFuzzer's own seldom get beyond its brackets."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from tests.fuzz_input.script import SEPARATOR

_NUMBERS: Final = (0, -1, 1, 64, 255, 256, 65535, 2**31, 2**32, 2**63, 2**64, 10**30, 1.5, 1e308)
_ODD: Final[tuple[Any, ...]] = (float("nan"), float("inf"), True, False, None, [], {}, "")
_TEXTS: Final = ("\ud800", "a\nb", "\0", "é", "\u2028", "/", "..", "a" * 300, "::1", "10.0.0.1/8")
_DEPTHS: Final = (5, 20, 33, 65, 900, 980, 985, 990, 995)
_ENV: Final = (b"\n", b";", b"=", b"\xc3", b"\x85", b" ", b"CNI_IFNAME=e\x01", b"K8S_POD_NAME=a\rb")


def mutated(
    data: bytes, most_bytes: int, seed: int, words: Sequence[str], plain: Callable[[bytes], bytes]
) -> bytes:
    """Change one step of a script; `plain` changes bytes as bytes, `words` are keys and values."""
    rng = random.Random(seed)
    parts = data.split(SEPARATOR)
    at = rng.randrange(len(parts))
    part = parts[at]
    begin = part.find(b"{")
    if begin < 0 or rng.random() < 0.3:
        if b"\n\n" in part and rng.random() < 0.5:
            place = rng.randrange(part.find(b"\n\n") + 1)
            parts[at] = part[:place] + rng.choice(_ENV) + part[place:]
            return SEPARATOR.join(parts)[:most_bytes]
        return plain(data)
    try:
        value = json.loads(part[begin:])
    except (ValueError, RecursionError):
        return plain(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = _changed(value, rng, words)
    try:
        text = json.dumps(value).encode()
    except (ValueError, RecursionError):
        return plain(data)
    if rng.random() < 0.05:
        depth = rng.choice(_DEPTHS) + rng.randrange(8)
        text = text.replace(b"{}", b"[" * depth + b"]" * depth, 1)
    parts[at] = part[:begin] + text
    if rng.random() < 0.1:
        parts.insert(rng.randrange(len(parts) + 1), rng.choice(parts))
    return SEPARATOR.join(parts)[:most_bytes]


def _changed(value: Any, rng: random.Random, words: Sequence[str]) -> Any:
    """Give a value with one place in it changed."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        return _changed_object(dict(value), rng, words)
    if isinstance(value, list) and value and rng.random() < 0.7:
        copy = list(value)
        at = rng.randrange(len(copy))
        if rng.random() < 0.3:
            copy.insert(at, copy[at])
        else:
            copy[at] = _changed(copy[at], rng, words)
        return copy
    if isinstance(value, str) and value and rng.random() < 0.5:
        at = rng.randrange(len(value) + 1)
        return value[:at] + rng.choice((*_TEXTS, value)) + value[at + rng.randrange(2) :]
    return _made_up(rng, words)


def _changed_object(value: dict[str, Any], rng: random.Random, words: Sequence[str]) -> Any:
    key, choice = rng.choice(list(value)), rng.random()
    if choice < 0.1:
        del value[key]
    elif choice < 0.3:
        value[rng.choice((*words, *_TEXTS))] = _made_up(rng, words)
    elif choice < 0.4:
        value[rng.choice(words)] = value[key]
    else:
        value[key] = _changed(value[key], rng, words)
    return value


def _made_up(rng: random.Random, words: Sequence[str]) -> Any:
    choice = rng.random()
    if choice < 0.3:
        return rng.choice(_NUMBERS)
    if choice < 0.5:
        return rng.choice(_ODD)
    if choice < 0.7:
        return rng.choice(_TEXTS)
    if choice < 0.8:
        return [_made_up(rng, words) for _ in range(rng.randrange(4))]
    if choice < 0.9:
        return {rng.choice(words): _made_up(rng, words)}
    return rng.choice(words)
