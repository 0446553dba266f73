"""SIGBUS: a region that was taken away is replaced, all of it, and nothing else ever is."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.unit.dataplane_process import needs_engine
from tests.unit.engine_program import build

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = needs_engine


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("tables"), "lost_memory", "lost_memory.c")


def test_all_of_a_region_is_replaced_by_one_mapping(program: Path) -> None:
    done = subprocess.run([program, "guarded"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 1


@pytest.mark.parametrize("where", ["unguarded", "beside"])
def test_other_memory_ends_the_process(program: Path, where: str) -> None:
    done = subprocess.run([program, where], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGBUS, done.stderr
