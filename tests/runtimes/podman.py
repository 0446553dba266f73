"""podman with its CNI backend, all of its files in the machine's own places."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.runtimes.images import IMAGE
from tests.runtimes.node import RuntimeNode

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONFIG = """
[network]
network_backend = "cni"
network_config_dir = "/etc/cni/net.d"
cni_plugin_dirs = ["/opt/cni/bin"]
[engine]
events_logger = "file"
cgroup_manager = "cgroupfs"
runtime = "runc"
static_dir = "/run/podman/libpod"
[containers]
# More than a machine may be allowed to raise is asked for otherwise.
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
"""


@dataclass(frozen=True)
class Podman:
    node: RuntimeNode
    network: str

    def call(self, *words: str) -> str:
        storage = ("--root", "/run/podman/root", "--runroot", "/run/podman/run")
        settings = f"CONTAINERS_CONF={self.node.directory}/containers.conf"
        options = (*storage, "--storage-driver", "vfs")
        return self.node.here.run("env", settings, "podman", *options, *words)

    @contextmanager
    def container(
        self, name: str, *command: str, ports: dict[int, int] | None = None
    ) -> Iterator[None]:
        """Run a container; `ports` are its ports by the host's."""
        options = ["--name", name, "--network", self.network]
        options += ["--cgroup-parent", self.node.here.cgroup]
        for host, inside in (ports or {}).items():
            options += ["--publish", f"{host}:{inside}"]
        self.call("run", "--detach", *options, IMAGE, *command)
        try:
            yield
        finally:
            self.call("rm", "--force", "--time", "0", name)

    def addresses(self, container: str) -> list[str]:
        """Addresses that podman reports."""
        (found,) = json.loads(self.call("inspect", container))
        network: dict[str, Any] = found["NetworkSettings"]["Networks"][self.network]
        both = (network["IPAddress"], network["GlobalIPv6Address"])
        return [address for address in both if address]

    def execute(self, container: str, *words: str) -> str:
        """Run a command in a container and give its standard output."""
        return self.call("exec", container, *words)


@contextmanager
def podman(node: RuntimeNode, network: str = "pods") -> Iterator[Podman]:
    """Give podman the image."""
    (node.directory / "containers.conf").write_text(_CONFIG)
    one = Podman(node, network)
    one.call("load", "--quiet", "--input", str(node.image))
    yield one
