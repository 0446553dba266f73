"""A machine with an agent, an uplink to the outside, and a conflist for runtimes to use."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.runtimes.images import write_image
from tests.runtimes.machine import Machine, machine, signal_inside
from tests.smoke.agent import PLUGINS, SHIM, START_TIMEOUT_S, Node
from tests.smoke.netns import Netns, netns
from tests.smoke.ports import switch_offloads, wait_until
from tests.unit.dataplane_process import short_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

GATEWAYS = ("10.88.0.1", "fd88::1")
OUTSIDE = ("10.88.255.1", "fd88::ffff:1")
"""What a host beyond the uplink has, on the same L2 network."""

OUTSIDE_OF_PODMAN = "10.89.255.1"
"""What it has in the subnet of manifests/podman."""

HOST_ADDRESSES = ("192.0.2.1", "2001:db8::1")
"""What the machine has in another network, that of its visitors."""

VISITOR = ("192.0.2.2", "2001:db8::2")
"""What a host there has, which knows no way to the containers."""

_RANGES = [
    [{"subnet": "10.88.0.0/16", "rangeEnd": "10.88.254.255"}],
    [{"subnet": "fd88::/64", "rangeEnd": "fd88::fff0"}],
]
_UPLINK = """
uplinks: [{name: wire0, device: "af_packet:cvwire0"}]
networks: [{name: pods, uplink: wire0}]
"""


@dataclass
class RuntimeNode(Node):
    """A node whose agent runs inside the machine."""

    machine: Machine | None = None
    client: Netns | None = None

    @property
    def here(self) -> Machine:
        assert self.machine
        return self.machine

    @property
    def visitor(self) -> Netns:
        """A host in the machine's other network."""
        assert self.client
        return self.client

    @property
    def image(self) -> Path:
        return self.directory / "image.tar"

    @property
    def plugins(self) -> Path:
        """Folder of all plugins, ours among them."""
        return self.directory / "bin"

    @property
    def conflists(self) -> Path:
        """Folder where runtimes look for configurations."""
        return self.directory / "net.d"

    def command(self, *words: str) -> list[str]:
        return self.here.command(*words)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process
        signal_inside(self.process, number)
        return self.process.wait(START_TIMEOUT_S)

    def plugin(self, **keys: Any) -> dict[str, Any]:
        """Our part of a conflist: dual stack, the host as its default gateway."""
        ipam = {
            "type": "host-local",
            "dataDir": str(self.directory / "ipam"),
            "ranges": _RANGES,
        }
        conf = self.conf(ipam=ipam, isDefaultGateway=True) | keys
        del conf["cniVersion"], conf["name"]
        return conf

    def conflist(self, *chained: dict[str, Any], version: str = "1.0.0") -> dict[str, Any]:
        return {"cniVersion": version, "name": "pods", "plugins": [self.plugin(), *chained]}

    def offer(self, conflist: dict[str, Any]) -> None:
        """Make a conflist the machine's only one."""
        self.clear_conflists()
        (self.conflists / "10-pods.conflist").write_text(json.dumps(conflist))

    def clear_conflists(self) -> None:
        for file in self.conflists.glob("*.conflist"):
            file.unlink()

    def addresses(self, port: str) -> list[str]:
        """Addresses, without prefix, that the dataplane knows a port to have."""
        return [address.split("/")[0] for address in self.port(port)["spec"]["ips"]]

    def has_carrier(self) -> bool:
        """Tell whether the uplink is there and up."""
        port = "uplink:wire0"
        return port in self.ports() and bool(self.port(port)["state"]["link_up"])

    def pods(self) -> set[str]:
        """Names of the containers' ports."""
        return {name for name in self.ports() if name.startswith("pod:")}

    def remains(self) -> dict[str, Any]:
        """What is there although every container is gone, of ours and of the runtimes'."""
        found: dict[str, Any] = dict(self.left_over())
        files = self.here.try_run("find", "/var/lib/cni", "-type", "f").stdout.split()
        rules = self.here.run("iptables-save") + self.here.run("ip6tables-save")
        found |= {
            "ports": sorted(self.pods() | (self.ports() & {"host:pods"})),
            "namespaces": self.here.namespaces(),
            "cached results": [path for path in files if "/results/" in path],
            "other leases": [
                path for path in files if re.search(r"/networks/.*/[0-9a-f.:]+$", path)
            ],
            "tables": self.here.run("nft", "list", "tables", "inet").splitlines(),
            "rules": [line for line in rules.splitlines() if _names_an_address(line)],
        }
        return {what: names for what, names in found.items() if names}


def _names_an_address(rule: str) -> bool:
    return rule.startswith("-A") and any(start in rule for start in ("10.88.", "10.89.", "fd88:"))


@contextmanager
def runtime_node() -> Iterator[RuntimeNode]:
    """Start an agent on a machine of its own, with an uplink; end and remove it all."""
    with short_directory() as directory, machine(directory) as here, ExitStack() as stack:
        _wire_outside(here.space, stack.enter_context(netns()))
        client = stack.enter_context(netns())
        _wire_client(here.space, client)
        _link_plugins(directory / "bin")
        write_image(directory / "image.tar")
        one = RuntimeNode(here.space, directory, more_config=_UPLINK, machine=here, client=client)
        try:
            one.start()
            wait_until(one.has_carrier, "the uplink's carrier")
            yield one
        finally:
            if one.process and one.process.poll() is None:
                one.end()
            sys.stderr.write((directory / "agent.log").read_text())


def _wire_client(host: Netns, client: Netns) -> None:
    host.ip(f"link add lan0 type veth peer name eth0 netns {client.name}")
    ends = ((host, "lan0", HOST_ADDRESSES), (client, "eth0", VISITOR))
    for space, ifname, (ip4, ip6) in ends:
        space.ip(
            f"addr add {ip4}/24 dev {ifname}",
            f"addr add {ip6}/64 dev {ifname} nodad",
            f"link set {ifname} up",
        )


def _wire_outside(host: Netns, outside: Netns) -> None:
    host.ip(
        f"link add cvwire0 type veth peer name eth0 netns {outside.name}", "link set cvwire0 up"
    )
    for end, name in ((host, "cvwire0"), (outside, "eth0")):
        # A NIC would have finished what a veth hands on as it is.
        switch_offloads(end, name, "tx", "tso", "gso", "gro", "rxvlan", "txvlan")
    ip4, ip6 = OUTSIDE
    outside.ip(
        f"addr add {ip4}/16 dev eth0",
        f"addr add {ip6}/64 dev eth0 nodad",
        f"addr add {OUTSIDE_OF_PODMAN}/16 dev eth0",
        "link set eth0 up",
    )


def _link_plugins(folder: Path) -> None:
    for plugin in Path(PLUGINS).iterdir():
        (folder / plugin.name).symlink_to(plugin)
    shutil.copy(SHIM, folder / "cni-virtio")
