"""Programs around single C files of the engine, under the address and undefined sanitizers."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.unit.dataplane_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

TABLES = ROOT / "tests/tables"
CFLAGS = ["-std=gnu11", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
CFLAGS += ["-DALLOW_EXPERIMENTAL_API=", "-D_GNU_SOURCE="]


def build(directory: Path, main: str, *engine_files: str) -> Path:
    """Compile tests/tables/<main>.c with files of the engine, without DPDK's libraries."""
    from dataplane.build import ENGINE, dpdk_cflags

    program = directory / main
    sources = [TABLES / f"{main}.c", *(ENGINE / name for name in engine_files)]
    words = ["gcc", *CFLAGS, f"-I{ENGINE}", *dpdk_cflags(), *map(str, sources), "-o", str(program)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


def answers(program: Path, arguments: Sequence[str], lines: Iterable[str]) -> list[str]:
    """Run the program on lines of input; give its lines."""
    done = subprocess.run(
        [program, *arguments],
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
