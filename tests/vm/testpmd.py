"""dpdk-testpmd on an interface of the kernel."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.smoke.netns import TRAFFIC_CORE
from tests.smoke.ports import wait_until
from tests.smoke.prerequisites import free_hugepages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.smoke.netns import Netns

_MEMORY_MB = 64
_START_S = 60
_LCORES = f"0@{TRAFFIC_CORE},1@{TRAFFIC_CORE}"


@dataclass(frozen=True)
class Testpmd:
    process: subprocess.Popen[str]
    log: Path

    def forwards(self) -> bool:
        """Say whether it has set everything up."""
        assert self.process.poll() is None, "testpmd ended"
        return "packet forwarding - ports=" in self.log.read_text()

    def end(self) -> tuple[int, int]:
        """End it; give how many packets it has received and sent."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(_START_S)
        last = self.log.read_text().rpartition("Forward statistics for port 0")[2]
        received, sent = re.findall(r"[RT]X-packets: (\d+)", last)[:2]
        return int(received), int(sent)


@contextmanager
def running_testpmd(space: Netns, ifname: str) -> Iterator[Testpmd]:
    """Let testpmd send back whatever it receives on an interface."""
    words = [
        *("dpdk-testpmd", "--in-memory", "--no-pci", "-m", str(_MEMORY_MB), "--lcores", _LCORES),
        *(f"--vdev=net_af_packet0,iface={ifname}", "--"),
        *("--forward-mode=io", "--port-topology=loop", "--no-mlockall", "--no-flush-rx"),
        # Without a period it would end at the end of its standard input.
        *("--total-num-mbufs=4096", "--stats-period=3600"),
    ]
    with free_hugepages(_MEMORY_MB // 2), tempfile.TemporaryDirectory(prefix="cvs-") as directory:
        log = Path(directory, "log")
        log.touch()
        to_log = (
            f"export RUNTIME_DIRECTORY={directory}; exec stdbuf -oL {shlex.join(words)} > {log}"
        )
        with space.running("sh", "-c", to_log) as process:
            testpmd = Testpmd(process, log)
            try:
                wait_until(testpmd.forwards, "testpmd forwards", _START_S)
                yield testpmd
            except BaseException:
                print(log.read_text())
                raise
