"""From exec to ready: the dataplane, and testpmd with the same memory to its prompt."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from tests.bench import dataplane
from tests.bench.cores import FORWARDER_CORE, LOAD_CORE
from tests.bench.measure import Bench, Effort, Figures, Subject, Target
from tests.bench.testpmd import Testpmd

_MEMORY_MB: Final = 512
_STARTS: Final = 3
_PEER: Final = "testpmd"


def _measure(start_ms: Callable[[Path], float], effort: Effort) -> Figures:
    with tempfile.TemporaryDirectory(prefix="cvb-") as directory:
        starts = 1 if effort.quick else _STARTS
        return {"time": statistics.median(start_ms(Path(directory)) for _ in range(starts))}


def _ours_ms(directory: Path) -> float:
    began_s = time.perf_counter()
    process = dataplane.start(directory, "adaptive", f"{_MEMORY_MB}Mi")
    took_s = time.perf_counter() - began_s
    dataplane.stop(process)
    return 1e3 * took_s


def _testpmd_ms(directory: Path) -> float:
    words = [
        *("dpdk-testpmd", "--no-pci", "--in-memory", "--no-telemetry", "-m", str(_MEMORY_MB)),
        *("--lcores", f"0@{LOAD_CORE},1@{FORWARDER_CORE}", "--", "-i", "--no-mlockall"),
    ]
    began_s = time.perf_counter()
    process = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "RUNTIME_DIRECTORY": str(directory)},
    )
    try:
        Testpmd(process).read_prompt()
        return 1e3 * (time.perf_counter() - began_s)
    finally:
        process.kill()
        process.communicate()


START: Final = Bench(
    "start",
    f"From exec to ready, {_MEMORY_MB} MiB of hugepages, one worker, no ports",
    (
        Subject("cni-virtio", partial(_measure, _ours_ms)),
        Subject(_PEER, partial(_measure, _testpmd_ms)),
    ),
    {"time": "ms"},
    (Target("time", "<=", 1.0, _PEER),),
)
