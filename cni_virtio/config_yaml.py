"""A YAML file as plain Python values, and the line on which each of them stands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.composer import Composer
from ruamel.yaml.constructor import RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.scalarbool import ScalarBoolean

from cni_virtio.schema import printable

MAX_FILE_BYTES = 1 << 20
_MAX_VALUES = 100_000
_MOST_REASON_CHARS = 300


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


class _Composer(Composer):
    """Remembers up to which line it has read, from 1; 0 before it begins."""

    line = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.line = self.parser.peek_event().start_mark.line + 1
        return super().compose_node(parent, index)


class _Constructor(RoundTripConstructor):
    """Remembers which line it makes a value of: not all of its errors tell. 0 before it begins."""

    line = 0

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        self.line = node.start_mark.line + 1
        return super().construct_object(node, deep=deep)


def _parse(text: str) -> Any:
    # The round-trip loader is the one that keeps lines; it makes no Python objects from tags.
    yaml = YAML(typ="rt")
    yaml.Composer, yaml.Constructor = _Composer, _Constructor
    try:
        return yaml.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = error.problem or error.context or "not YAML"
        raise YamlError(_one_line(reason), mark.line + 1 if mark else 1) from None
    except ReaderError as error:
        reason = f"character U+{error.character:04X} is not allowed"
        raise YamlError(reason, text.count("\n", 0, error.position) + 1) from None
    except RecursionError:
        raise YamlError("nested too deeply", _line_reached(yaml, text)) from None
    except Exception as error:  # the loader stumbles over aliases of what they are in
        reason = f"cannot be understood: {_one_line(str(error))}"
        raise YamlError(reason, _line_reached(yaml, text)) from None


def _line_reached(yaml: YAML, text: str) -> int:
    """The line that a value was made of, or that was read; before both there are directives."""
    if reached := yaml.constructor.line or yaml.composer.line:
        return int(reached)
    lines = enumerate(text.split("\n"), start=1)
    return next((number for number, line in lines if line.startswith("%")), 1)


def _one_line(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= _MOST_REASON_CHARS else line[:_MOST_REASON_CHARS] + "..."


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
    return _Expansion().plain(document, 0)


class _Expansion:
    """Turns a document into plain values; lines count from 0, as the loader has them."""

    def __init__(self) -> None:
        self._left = _MAX_VALUES
        self._inside: set[int] = set()

    def plain(self, node: Any, line: int) -> Any:
        """Return the value of a node; `line` is its own, or that of what it is in."""
        self._left -= 1
        if self._left < 0:
            reason = f"has more than {_MAX_VALUES} values once its aliases are expanded"
            raise YamlError(reason, line + 1)
        if not isinstance(node, CommentedMap | CommentedSeq):
            return _scalar(node, line)
        if id(node) in self._inside:
            raise YamlError("has an alias inside of what it stands for", line + 1)
        self._inside.add(id(node))
        try:
            return self._container(node, line)
        finally:
            self._inside.remove(id(node))

    def _container(self, node: CommentedMap | CommentedSeq, line: int) -> Any:
        def within(step: Any) -> int:
            found = _line_of(node, step)
            return line if found is None else found

        if isinstance(node, CommentedSeq):
            return [self.plain(value, within(number)) for number, value in enumerate(node)]
        return {_key(key, within(key)): self.plain(node[key], within(key)) for key in node}


def _scalar(node: Any, line: int) -> Any:
    if node is None or isinstance(node, bool):
        return node
    if isinstance(node, ScalarBoolean):
        return bool(node)
    if isinstance(node, str):
        return _text(node, line)
    for kind in (int, float):
        if isinstance(node, kind):
            return kind(node)
    raise YamlError(f"{_one_line(str(node))}: only plain YAML values are understood", line + 1)


def _key(key: Any, line: int) -> str:
    if not isinstance(key, str):
        raise YamlError(f"key {_one_line(repr(key))} is not a string", line + 1)
    return _text(key, line)


def _text(text: str, line: int) -> str:
    """Half of a pair of escapes is no character: no file and no program could be named by it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        reason = f"{half} is half a character, its other half is missing"
        raise YamlError(reason, line + 1) from None
    return str(text)
