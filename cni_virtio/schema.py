"""JSON Schemas kept as data beside this file, and one clear sentence for what breaks them."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from typing import Any, NamedTuple

from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError

_TYPES = {
    "object": "an object",
    "array": "a list",
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
_PLAIN_KEY = re.compile(r"[\w./\-]{1,80}", re.ASCII)
_SHOWN_VALUE_CHARS = 80
_MOST_ERRORS = 100  # a megabyte of them would take seconds to describe, in which nobody is served


@dataclass(frozen=True)
class Problem:
    """What is wrong with an instance: where, what it says there, and in words why not."""

    path: tuple[str | int, ...]
    value: Any
    reason: str
    unknown_key: bool = False

    @property
    def place(self) -> str:
        """The path as people write it: `uplinks[1].queues`."""
        return dotted(self.path)


class _Broken(NamedTuple):
    """A rule that an instance breaks: its keyword and operand, the schema around it."""

    keyword: str
    limit: Any
    schema: Any
    instance: Any


def _whole_pattern(
    _: object, pattern: str, instance: object, __: object
) -> Iterator[ValidationError]:
    """`^...$` as JSON Schema means it: Python's `$` would let a newline follow."""
    if isinstance(instance, str) and not re.fullmatch(pattern, instance):
        yield ValidationError("does not match")


_Validator = validators.extend(Draft202012Validator, {"pattern": _whole_pattern})  # type: ignore[no-untyped-call]


class Schema:
    """One compiled schema of this package; compile it once, at import."""

    def __init__(self, name: str) -> None:
        text = resources.files("cni_virtio").joinpath("schemas", f"{name}.json").read_text("utf-8")
        self.data: dict[str, Any] = json.loads(text)
        Draft202012Validator.check_schema(self.data)
        self._validator = _Validator(self.data)

    def problem(self, instance: Any) -> Problem | None:
        """The first thing wrong with `instance` (unknown keys before bad values), or None."""
        errors = islice(self._validator.iter_errors(instance), _MOST_ERRORS)
        return min(map(_describe, errors), key=_rank, default=None)

    def with_defaults(self, instance: Mapping[str, Any]) -> dict[str, Any]:
        """A valid `instance` with the schema's defaults filled in, all the way down."""
        filled = _fill(self.data, instance)
        assert isinstance(filled, dict)
        return filled


def dotted(path: Iterable[str | int]) -> str:
    """A path as people write it: `uplinks[1].queues`; empty for the whole."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{_key(step)}" for step in path)
    return text.removeprefix(".")


def _key(key: str) -> str:
    return key if _PLAIN_KEY.fullmatch(key) else shown(key)


def shown(value: Any) -> str:
    """A value as JSON on one line, cut short if long."""
    text = json.dumps(value, default=str).replace("\x7f", "\\u007f")  # as it does with 0 to 1f
    return text if len(text) <= _SHOWN_VALUE_CHARS else text[: _SHOWN_VALUE_CHARS - 3] + "..."


def printable(text: str) -> str:
    """Write what cannot be printed as Python does: it could pass for lines of others."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean "queues"?` if one of `known` is near, else nothing."""
    lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), lower, n=1)
    return f'; did you mean "{lower[near[0]]}"?' if near else ""


def _rank(problem: Problem) -> tuple[bool, int]:
    return (not problem.unknown_key, len(problem.path))


def _describe(error: ValidationError) -> Problem:
    path: tuple[str | int, ...] = tuple(error.absolute_path)
    broken = _Broken(str(error.validator), error.validator_value, error.schema, error.instance)
    if broken.keyword == "additionalProperties":
        return _unknown_key(broken, path)
    if broken.keyword == "required":
        missing = next(key for key in broken.limit if key not in broken.instance)
        return Problem((*path, missing), None, "is missing")
    reason = _REASONS.get(broken.keyword, _reason)(broken)
    return Problem(path, broken.instance, f"{shown(broken.instance)} {reason}")


def _unknown_key(broken: _Broken, path: tuple[str | int, ...]) -> Problem:
    known = broken.schema.get("properties", {})
    patterns = tuple(broken.schema.get("patternProperties", {}))
    key = next(
        key
        for key in broken.instance
        if key not in known and not any(re.search(pattern, key) for pattern in patterns)
    )
    value = broken.instance[key]
    reason = f"unknown key with value {shown(value)}{did_you_mean(str(key), known)}"
    return Problem((*path, key), value, reason, unknown_key=True)


def _reason(broken: _Broken) -> str:
    return f"is not allowed: {broken.keyword} is {shown(broken.limit)}"


def _type_reason(broken: _Broken) -> str:
    types = [broken.limit] if isinstance(broken.limit, str) else broken.limit
    return f"is not {' or '.join(_TYPES[name] for name in types)}"


def _choice_reason(broken: _Broken) -> str:
    if "x-allowed" in broken.schema:
        return f"is not {broken.schema['x-allowed']}"
    if broken.keyword == "enum":
        return f"is not one of {', '.join(shown(choice) for choice in broken.limit)}"
    return f"is not {shown(broken.limit)}"


def _size_reason(noun: str) -> Callable[[_Broken], str]:
    def reason(broken: _Broken) -> str:
        if broken.keyword.startswith("max"):
            return f"has more than {broken.limit} {noun}"
        return "is empty" if broken.limit == 1 else f"has less than {broken.limit} {noun}"

    return reason


_REASONS: dict[str, Callable[[_Broken], str]] = {
    "type": _type_reason,
    "enum": _choice_reason,
    "const": _choice_reason,
    "pattern": _choice_reason,
    "minimum": lambda broken: f"is less than the minimum of {broken.limit}",
    "maximum": lambda broken: f"is more than the maximum of {broken.limit}",
    "minLength": _size_reason("characters"),
    "maxLength": _size_reason("characters"),
    "minItems": _size_reason("items"),
    "maxItems": _size_reason("items"),
    "uniqueItems": lambda _: "has one item more than once",
}


def _fill(schema: Mapping[str, Any], value: Any) -> Any:
    if isinstance(value, Mapping):
        known = schema.get("properties", {})
        filled = {key: _fill(known.get(key, {}), item) for key, item in value.items()}
        for key, sub in known.items():
            if key not in filled and "default" in sub:
                filled[key] = _fill(sub, sub["default"])
        return filled
    if isinstance(value, list):
        return [_fill(schema.get("items", {}), item) for item in value]
    # JSON knows one kind of number: 2.0 is an integer to a schema, and must be one to Python.
    if schema.get("type") == "integer" and isinstance(value, float):
        return int(value)
    return value
