"""The engine's own C files under ThreadSanitizer: see tests/threads."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tests.unit.dataplane_process import CORES, ROOT, needs_engine

if TYPE_CHECKING:
    from collections.abc import Sequence

SECONDS = 5
HERE = ROOT / "tests/threads"
POOLS = ROOT / "tests/pools"
REPLACED = {"port_tap.c", "port_vhost.c"}
"""Their ports are those of source.c."""

# RTE_FORCE_INTRINSICS: DPDK's inline locks are then the compiler's atomics instead of assembler.
CFLAGS = ["-std=gnu11", "-O1", "-g", "-fsanitize=thread", "-DRTE_FORCE_INTRINSICS"]
CFLAGS += ["-DALLOW_EXPERIMENTAL_API=", "-D_GNU_SOURCE="]
WRAPPED = ["rte_pktmbuf_pool_create", "rte_pktmbuf_free_bulk", "rte_eth_dev_start"]
WRAPPED += ["rte_eal_wait_lcore", "calloc"]
LDFLAGS = ["-fsanitize=thread", *(f"-Wl,--wrap={name}" for name in WRAPPED)]


def gcc(words: Sequence[str | Path]) -> None:
    done = subprocess.run(["gcc", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def build(directory: Path) -> Path:
    """Compile and link the program."""
    from dataplane.build import ENGINE, dpdk_cflags, dpdk_libs

    flags = [*CFLAGS, f"-I{ENGINE}", f"-I{HERE}", f"-I{POOLS}", *dpdk_cflags()]
    found = (path for folder in (ENGINE, HERE, POOLS) for path in folder.glob("*.c"))
    sources = [path for path in found if path.name not in REPLACED]
    objects = [directory / f"{path.stem}.o" for path in sources]
    jobs = [[*flags, "-c", path, "-o", made] for path, made in zip(sources, objects, strict=True)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(gcc, jobs))
    program = directory / "engine-threads"
    gcc([*LDFLAGS, *objects, *dpdk_libs(), "-o", program])
    return program


@needs_engine
def test_workers_race_for_nothing(tmp_path: Path) -> None:
    program = build(tmp_path)
    options = f"suppressions={HERE / 'suppressions'} history_size=4"
    # With its addresses chosen at random a program may be where the sanitizer cannot follow.
    done = subprocess.run(
        ["setarch", "-R", program, str(CORES[0]), str(CORES[-1]), str(SECONDS)],
        env={**os.environ, "TSAN_OPTIONS": options, "RUNTIME_DIRECTORY": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
