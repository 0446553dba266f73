"""The references of netconf and agent YAML as Markdown, made from the schemas.

python -m cni_virtio.ctl.reference                     print them
python -m cni_virtio.ctl.reference --write README.md   put them between the file's markers
python -m cni_virtio.ctl.reference --check README.md   exit status 1 if they are out of date
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cni_virtio.config import SCHEMA as AGENT
from cni_virtio.netconf import SCHEMA as NETCONF
from cni_virtio.schema import Schema


class Row(NamedTuple):
    """A key of a schema as the reference shows it."""

    key: str
    type: str
    default: str
    description: str
    injected: bool


class MarkerError(ValueError):
    """A file without the markers that the references go between."""


def rows(schema: Schema) -> list[Row]:
    """Every key of a schema, in its order, those inside an object after the object."""
    return list(_rows(schema.data, schema.data.get("$defs", {}), "", False))


def netconf_reference() -> str:
    """Two tables: the keys that people write, and those that runtimes add."""
    everything = rows(NETCONF)
    written = _table([row for row in everything if not row.injected])
    injected = _table([row for row in everything if row.injected])
    return f"{written}\nKeys that the runtime or Multus adds:\n\n{injected}"


def agent_reference() -> str:
    """One table of the agent's YAML."""
    return _table(rows(AGENT))


def updated(text: str) -> str:
    """A document with both references brought up to date; raises MarkerError."""
    for name, reference in (("netconf", netconf_reference()), ("agent", agent_reference())):
        begin, end = f"<!-- {name} reference begin -->", f"<!-- {name} reference end -->"
        before, opening, rest = text.partition(begin)
        _, closing, after = rest.partition(end)
        if not opening or not closing:
            raise MarkerError(f"has no {begin} followed by {end}")
        text = f"{before}{begin}\n\n{reference}\n{end}{after}"
    return text


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m cni_virtio.ctl.reference")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--write", type=Path, metavar="FILE", help="bring FILE up to date")
    mode.add_argument("--check", type=Path, metavar="FILE", help="fail if FILE is out of date")
    options = parser.parse_args(arguments)
    file: Path | None = options.write or options.check
    if file is None:
        sys.stdout.write(f"{netconf_reference()}\n{agent_reference()}")
        return 0
    try:
        return _bring_up_to_date(file, write=options.write is not None)
    except (OSError, MarkerError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        sys.stderr.write(f"{file}: {reason}\n")
        return 2


def _bring_up_to_date(file: Path, *, write: bool) -> int:
    text = file.read_text("utf-8")
    new = updated(text)
    if new == text:
        return 0
    if write:
        file.write_text(new, "utf-8")
        return 0
    command = f"python -m cni_virtio.ctl.reference --write {file}"
    sys.stderr.write(f"{file}: its references are older than the schemas; run {command}\n")
    return 1


def _rows(
    schema: Mapping[str, Any], defs: Mapping[str, Any], prefix: str, injected: bool
) -> Iterator[Row]:
    required = schema.get("required", ())
    named = {**schema.get("properties", {}), **schema.get("patternProperties", {})}
    for name, reference in named.items():
        sub = {**_definition(reference, defs), **reference}
        below_injected = injected or bool(sub.get("x-injected"))
        key = f"{prefix}{sub.get('x-key', name)}"
        yield Row(
            key, _type(sub), _default(sub, name in required), sub["description"], below_injected
        )
        yield from _rows(sub, defs, f"{key}.", below_injected)
        yield from _rows(sub.get("items", {}), defs, f"{key}[].", below_injected)


def _definition(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    definition: Mapping[str, Any] = defs.get(schema.get("$ref", "").rpartition("/")[2], {})
    return definition


def _type(schema: Mapping[str, Any]) -> str:
    if "x-allowed" in schema:
        return str(schema["x-allowed"])
    if "enum" in schema:
        return ", ".join(_code(choice) for choice in schema["enum"])
    kind = schema.get("type", "list" if "items" in schema else "any")
    kinds = [kind] if isinstance(kind, str) else [word for word in kind if word != "null"]
    text = " or ".join("list" if word == "array" else word for word in kinds)
    if "minimum" in schema:
        text += f" {schema['minimum']} to {schema['maximum']}"
    return text


def _default(schema: Mapping[str, Any], required: bool) -> str:
    if required:
        return "required"
    if "x-default" in schema:
        return str(schema["x-default"])
    value = schema.get("default")
    return "" if value in (None, {}, []) else _code(value)


def _code(value: Any) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _table(rows: list[Row]) -> str:
    lines = ["| key | value | default | meaning |", "| --- | --- | --- | --- |"]
    for row in rows:
        cells = (f"`{row.key}`", row.type, row.default, row.description)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
