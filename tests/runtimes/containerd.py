"""A containerd of the tests' own, and `ctr`."""

from __future__ import annotations

import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.runtimes.images import IMAGE
from tests.runtimes.machine import signal_inside
from tests.runtimes.node import RuntimeNode
from tests.smoke.ports import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

# A machine may lack the right to lower OOM scores; `native` needs nothing of the file system.
_CONFIG = """
version = 2
root = "/run/containerd/root"
state = "/run/containerd/state"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "{image}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
"""


@dataclass(frozen=True)
class Containerd:
    node: RuntimeNode
    socket: Path

    def ctr(self, *words: str) -> str:
        return self.node.here.run("ctr", "--address", str(self.socket), *words)

    @contextmanager
    def container(self, name: str, *command: str) -> Iterator[None]:
        """Run a container as `ctr run --cni` does, until the end of the block."""
        process = self._start(name, *command)
        try:
            wait_until(lambda: self._has_network(name, process), f"container {name}")
            yield
        finally:
            if process.poll() is None:
                self.ctr("task", "kill", "--signal", "SIGKILL", name)
            printed, _ = process.communicate(timeout=30)
            assert "error" not in printed.lower(), printed

    @contextmanager
    def deserted_container(self, name: str) -> Iterator[None]:
        """Start a container, and kill it after its runtime: nobody calls DEL for it."""
        process = self._start(name)
        cached = f"/var/lib/cni/results/pods-default-{name}-eth0"
        try:
            wait_until(lambda: self._has_network(name, process), f"container {name}")
            wait_until(lambda: self.node.here.has(cached), "libcni to take note of the result")
            signal_inside(process, signal.SIGKILL)
            process.communicate(timeout=30)
            self.ctr("task", "kill", "--signal", "SIGKILL", name)
            yield
        finally:
            signal_inside(process, signal.SIGKILL)
            process.communicate(timeout=30)
            for words in (("task", "delete", "--force", name), ("container", "delete", name)):
                self.node.here.try_run("ctr", "--address", str(self.socket), *words)
            self.node.here.run("rm", "-f", cached)

    def _start(self, name: str, *command: str) -> subprocess.Popen[str]:
        options = ("--rm", "--cni", "--snapshotter", "native", "--cgroup", self._cgroup(name))
        words = self.node.here.command("ctr", "--address", str(self.socket), "run", *options)
        return subprocess.Popen(
            [*words, IMAGE, name, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def execute(self, container: str, *words: str) -> str:
        """Run a command in a container and give its standard output."""
        return self.ctr("task", "exec", "--exec-id", "x", container, *words)

    def _cgroup(self, name: str) -> str:
        return f"{self.node.here.cgroup}/{name}"

    def _has_network(self, name: str, process: subprocess.Popen[str]) -> bool:
        assert process.poll() is None, process.communicate()[0]
        return f"pod:default-{name}/eth0" in self.node.ports()


@contextmanager
def containerd(node: RuntimeNode) -> Iterator[Containerd]:
    """Start a containerd that has the image, for `ctr` and for the CRI."""
    one = Containerd(node, node.directory / "containerd.sock")
    config = node.directory / "containerd.toml"
    config.write_text(_CONFIG.format(socket=one.socket, image=IMAGE))
    log = node.directory / "containerd.log"
    with node.here.running(log, "containerd", "--config", str(config)) as process:
        wait_until(lambda: _answers(one, process, log), "containerd", 30)
        for namespace in ("default", "k8s.io"):
            one.ctr("-n", namespace, "images", "import", "--snapshotter", "native", str(node.image))
        yield one


def _answers(one: Containerd, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    words = ("ctr", "--address", str(one.socket), "version")
    return one.node.here.try_run(*words).returncode == 0
