"""A dataplane that something else than the agent supervises."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from cni_virtio.hugepages import Hugepages
from tests.smoke.agent import START_TIMEOUT_S, Node
from tests.unit.dataplane_process import ROOT


@contextmanager
def dataplane(node: Node, *confinement: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the dataplane of a node's configuration, as a unit or a container would."""
    words = [sys.executable, "-m", "cni_virtio", "--run-dataplane"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with (node.directory / "dataplane.log").open("a") as log:
        process = subprocess.Popen(
            [
                "ip",
                "netns",
                "exec",
                node.host.name,
                *confinement,
                *words,
                "--config",
                node.write_config(),
            ],
            env=environment,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(START_TIMEOUT_S)
        finally:
            process.kill()
            process.wait()
            Hugepages(node.directory / "state").give_back()
            sys.stderr.write((node.directory / "dataplane.log").read_text())
