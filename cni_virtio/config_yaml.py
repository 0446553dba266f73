"""A YAML file as plain Python values, and the line on which each of them stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.scalarbool import ScalarBoolean

MAX_FILE_BYTES = 1 << 20
_MAX_VALUES = 100_000


class YamlError(Exception):
    """A file that cannot be read; `line` counts from 1, None where no line is to blame."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


class YamlFile:
    """A file of at most 1 MiB with one document; an empty one is an empty mapping."""

    def __init__(self, path: Path) -> None:
        self._document = _parse(_read(path))
        self.data = {} if self._document is None else _expand(self._document)

    def line(self, path: Sequence[str | int]) -> int:
        """The line, from 1, of the value at `path`, or of the nearest thing around it."""
        node, line = self._document, 0
        for step in path:
            here = _line_of(node, step)
            if here is None:
                break
            node, line = node[step], here
        return line + 1


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise YamlError(f"cannot be read: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise YamlError(f"is larger than {MAX_FILE_BYTES} bytes, hardly a configuration")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise YamlError(f"byte 0x{content[error.start]:02x} is not UTF-8", line) from None


def _parse(text: str) -> Any:
    try:
        # The round-trip loader is the one that keeps lines; it makes no Python objects from tags.
        return YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = error.problem or error.context or "not YAML"
        raise YamlError(_one_line(reason), mark.line + 1 if mark else None) from None
    except RecursionError:
        raise YamlError("nested too deeply") from None
    except Exception as error:  # the loader stumbles over aliases of what they are in
        raise YamlError(f"cannot be understood: {_one_line(str(error))}") from None


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _line_of(node: Any, step: str | int) -> int | None:
    try:
        if isinstance(node, CommentedMap):
            return int(node.lc.key(step)[0])
        if isinstance(node, CommentedSeq):
            return int(node.lc.item(step)[0])
    except (KeyError, TypeError):  # a key that is missing, or that a merge brought in
        return None
    return None


def _expand(document: Any) -> Any:
    try:
        return _plain(document, None, iter(range(_MAX_VALUES)))
    except RecursionError:
        raise YamlError("has an alias inside of what it stands for") from None


def _plain(node: Any, line: int | None, budget: Iterator[int]) -> Any:
    if next(budget, None) is None:
        raise YamlError(f"has more than {_MAX_VALUES} values once its aliases are expanded")
    if isinstance(node, CommentedMap):
        return {
            _key(node, key): _plain(value, _line_of(node, key), budget)
            for key, value in node.items()
        }
    if isinstance(node, CommentedSeq):
        return [_plain(value, _line_of(node, number), budget) for number, value in enumerate(node)]
    if node is None or isinstance(node, bool):
        return node
    if isinstance(node, ScalarBoolean):
        return bool(node)
    for kind in (int, float, str):
        if isinstance(node, kind):
            return kind(node)
    raise YamlError(f"{_one_line(str(node))}: only plain YAML values are understood", _next(line))


def _key(node: CommentedMap, key: Any) -> str:
    if not isinstance(key, str):
        raise YamlError(f"key {key!r} is not a string", _next(_line_of(node, key)))
    return str(key)


def _next(line: int | None) -> int | None:
    return None if line is None else line + 1
