"""The corpora of the fuzz targets, crashes of before among them, replayed without the fuzzer."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tests.fuzz_input import targets

INPUTS = [(target, path) for target in targets.TARGETS for path in targets.inputs(target)]


@pytest.mark.parametrize(
    ("target", "path"), INPUTS, ids=[f"{target}-{path.name}" for target, path in INPUTS]
)
def test_an_input_does_no_harm(target: str, path: Path) -> None:
    importlib.import_module(f"tests.fuzz_input.{target}").run(path.read_bytes())
