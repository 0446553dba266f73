"""Feeds a target with what libFuzzer makes up: `python -m tests.fuzz_input NAME [OPTION]...`.

Options are libFuzzer's, such as `-max_total_time=600`, or files to be replayed. What is found goes
to build/fuzz; what made a target fail belongs into corpus/NAME beside this file once it is mended,
where the unit tests replay it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import atheris

from tests.fuzz_input import mutate
from tests.fuzz_input.targets import CORPUS, TARGETS

_BUILD: Final = Path("build/fuzz")
_OPTIONS: Final = ("-max_len=4096", "-timeout=10", "-rss_limit_mb=1024")
_SCHEMAS: Final = ("netconf", "agent")


def main() -> None:
    """Run one target until it fails or the options end it."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(
            f"usage: python -m tests.fuzz_input NAME [OPTION]..., NAME of {', '.join(TARGETS)}"
        )
    name, given = sys.argv[1], sys.argv[2:]
    atheris.enabled_hooks.add("str")  # that for regular expressions breaks the library of JSON
    with atheris.instrument_imports(include=["cni_virtio", "dataplane"]):
        target = importlib.import_module(f"tests.fuzz_input.{name}")
    words = sorted(_words())

    def mutator(data: bytes, most_bytes: int, seed: int) -> bytes:
        return mutate.mutated(
            data, most_bytes, seed, words, lambda part: atheris.Mutate(part, most_bytes)
        )

    found = _BUILD / name
    found.mkdir(parents=True, exist_ok=True)
    # New inputs go to the first folder.
    folders = [] if any(not option.startswith("-") for option in given) else [found, CORPUS / name]
    options = [*_OPTIONS, f"-artifact_prefix={found}-", *given, *map(str, folders)]
    atheris.Setup([sys.argv[0], *options], target.run, custom_mutator=mutator)
    atheris.Fuzz()


def _words() -> set[str]:
    """Names in the schemas and on the wire, which are what inputs are made of."""
    from cni_virtio.schema import Schema
    from cni_virtio.spec import COMMANDS
    from dataplane.specs import EthdevSpec, NetworkSpec, PortSpec, VhostSpec
    from dataplane.wire import Limits, Op, Request

    records = (PortSpec, NetworkSpec, VhostSpec, EthdevSpec, Limits, Request)
    words = {key for kind in records for key in kind.__slots__}
    words |= {key for name in _SCHEMAS for key in _keys(Schema(name).data)}
    return words | {*COMMANDS, *map(str, Op), "tap", "vhost", "ethdev", "container", "host", "/S/a"}


def _keys(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for part in schema.values():
            yield from _keys(part)


if __name__ == "__main__":
    main()
