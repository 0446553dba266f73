"""Worker cores that others keep busy are named before the dataplane starts."""

from __future__ import annotations

import os
import subprocess
import sys

from cni_virtio import cores

BEFORE = """cpu  40 0 0 400 0 0 0 0 0 0
cpu0 10 0 0 100 5 0 0 0 0 0
cpu1 10 0 0 100 5 0 0 0 0 0
cpu2 10 0 0 100 5 0 0 0 0 0
intr 5
"""
AFTER = """cpu  80 0 0 420 0 0 0 0 0 0
cpu0 10 0 0 108 7 0 0 0 0 0
cpu1 17 0 1 102 5 0 0 0 0 0
cpu2 10 0 0 100 5 0 0 0 0 0
intr 9
"""


def test_shares_between_two_readings() -> None:
    assert cores.busy_shares(BEFORE, AFTER) == {0: 0.0, 1: 0.8}  # nothing is known of core 2


def test_a_core_that_somebody_uses() -> None:
    core = max(os.sched_getaffinity(0))
    burn = f"import os\nos.sched_setaffinity(0, {{{core}}})\nprint(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", burn], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            process.stdout.readline()
            (note,) = cores.notes([core], sample_s=0.5)
        finally:
            process.kill()
    assert note.startswith(f"core {core} is ")
    assert "dataplane.cores" in note
