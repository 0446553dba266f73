"""What fuzzing has kept, and what ever made it fail, through the engine under sanitizers."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.fuzz import corpus
from tests.fuzz.program import build
from tests.unit.dataplane_process import needs_engine

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    needs_engine,
    pytest.mark.skipif(shutil.which("clang") is None, reason="no clang: ./dev test installs it"),
]

INPUTS_AT_LEAST = 2000


@pytest.fixture(scope="module")
def program() -> Path:
    return build()


def replay(program: Path, *inputs: Path) -> str:
    """What the target says, which must be that it ends well."""
    artifacts = f"-artifact_prefix={program.parent}/"
    words = [str(program), "-runs=0", "-timeout=10", artifacts, *map(str, inputs)]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stderr[-8000:]
    return done.stderr


def test_what_fuzzing_has_kept_does_no_harm(program: Path, tmp_path: Path) -> None:
    n_inputs = corpus.write_seeds(tmp_path) + corpus.unpack(tmp_path)
    assert n_inputs >= INPUTS_AT_LEAST
    assert f"{n_inputs} files found" in replay(program, tmp_path)


@pytest.mark.parametrize("path", sorted(corpus.REGRESSIONS.iterdir()), ids=lambda path: path.name)
def test_a_fault_of_before_is_mended(program: Path, path: Path) -> None:
    assert "Executed" in replay(program, path)
