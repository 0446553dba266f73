"""OVS-DPDK as one of the forwarders, its polling thread on the forwarder's core."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.bench.cores import FORWARDER_CORE, LOAD_CORE
from tests.smoke.netns import Netns, netns
from tests.smoke.ports import wait_until
from tests.unit.dataplane_process import short_directory

PACKAGES: Final = ("openvswitch-switch-dpdk",)

_VSWITCHD: Final = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
_SCHEMA: Final = "/usr/share/openvswitch/vswitch.ovsschema"
_BRIDGE: Final = "cvb0"
_TIMEOUT_S: Final = 20
_BUSY: Final = re.compile(r"avg processing cycles per packet: [\d.]+ \((\d+)/(\d+)\)")


class OvsError(Exception):
    """A command of Open vSwitch failed; the text is what it and the daemons printed."""


@dataclass(frozen=True, slots=True)
class Ovs:
    """A running switch with one bridge; its daemons are in a netns of their own."""

    directory: Path
    netns: Netns
    numbers: dict[str, int] = field(default_factory=dict)
    """OpenFlow numbers of the ports, by name."""

    def add_vhost(self, name: str) -> Path:
        """Add a vhost-user port, and give its socket, which an application connects to."""
        self._add(name, "type=dpdkvhostuser")
        return self.directory / name

    def add_tap(self, name: str, space: Netns, ifname: str = "eth0") -> None:
        """Add a kernel interface, and move it into a netns under its name there."""
        self._add(name, "type=internal")
        self.netns.ip(f"link set {name} netns {space.name} name {ifname}")

    def add_af_xdp(self, ifname: str) -> None:
        """Add an interface of the switch's netns through an AF_XDP socket, one queue."""
        devargs = f"net_af_xdp_{ifname},iface={ifname},start_queue=0,queue_count=1"
        self._add(ifname, "type=dpdk", f"options:dpdk-devargs={devargs}")

    def set_flows(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Replace all flows: what comes in on the first port of a pair leaves by the second."""
        flows = [
            f"in_port={self.numbers[one]},actions=output:{self.numbers[other]}\n"
            for one, other in pairs
        ]
        self._ofctl("replace-flows", "-", given="".join(flows))

    def begin(self) -> None:
        """Begin to count cycles anew."""
        self._appctl("dpif-netdev/pmd-stats-clear")

    def cycles_per_packet(self) -> float:
        """Return busy cycles per packet of the polling thread since `begin`."""
        printed = self._appctl("dpif-netdev/pmd-stats-show")
        match = _BUSY.search(printed)
        if match is None:
            raise OvsError(printed)
        return int(match[1]) / int(match[2])

    def _add(self, name: str, *columns: str) -> None:
        number = self.numbers[name] = len(self.numbers) + 1
        self._vsctl(
            *("add-port", _BRIDGE, name),
            *("--", "set", "interface", name, f"ofport_request={number}", *columns),
        )
        said = self._vsctl("--if-exists", "get", "interface", name, "error").strip()
        if said != "[]":
            raise OvsError(f"{name}: {said}\n{self.log()}")

    def _vsctl(self, *words: str) -> str:
        return self.run("ovs-vsctl", f"--db=unix:{self.directory}/db.sock", *words)

    def _appctl(self, *words: str) -> str:
        return self.run("ovs-appctl", f"--target={self.directory}/vswitchd.ctl", *words)

    def _ofctl(self, command: str, *words: str, given: str = "") -> None:
        bridge = f"unix:{self.directory}/{_BRIDGE}.mgmt"
        self.run("ovs-ofctl", command, bridge, *words, given=given)

    def run(self, *words: str, given: str = "") -> str:
        """Run a command and give its standard output."""
        done = subprocess.run(
            words, input=given, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
        if done.returncode:
            raise OvsError(f"{words}: {done.stdout}{done.stderr}\n{self.log()}")
        return done.stdout

    def log(self) -> str:
        """Return what the daemons have printed."""
        return (self.directory / "log").read_text("utf-8", "replace")

    @contextmanager
    def daemon(self, *words: str) -> Iterator[None]:
        """Run a daemon inside the netns until the end of the block."""
        places = {f"OVS_{each}DIR": str(self.directory) for each in ("RUN", "LOG", "DB", "SYSCONF")}
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.netns.name, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **places},
            )
        try:
            yield
        finally:
            process.kill()
            process.wait()

    def start(self, stack: ExitStack, memory_mb: int, main_core: int) -> None:
        """Start database and switch, to be stopped with the stack; make the bridge."""
        self.run("ovsdb-tool", "create", f"{self.directory}/conf.db", _SCHEMA)
        socket = self.directory / "db.sock"
        database = (f"--remote=punix:{socket}", f"--unixctl={self.directory}/ovsdb.ctl")
        stack.enter_context(self.daemon("ovsdb-server", f"{self.directory}/conf.db", *database))
        wait_until(socket.exists, "ovsdb-server's socket")
        self._vsctl(
            *("--no-wait", "set", "Open_vSwitch", ".", "other_config:dpdk-init=true"),
            f"other_config:dpdk-socket-mem={memory_mb}",
            f"other_config:dpdk-lcore-mask={1 << main_core:#x}",
            f"other_config:pmd-cpu-mask={1 << FORWARDER_CORE:#x}",
            "other_config:dpdk-extra=--no-pci",
        )
        control = f"--unixctl={self.directory}/vswitchd.ctl"
        stack.enter_context(self.daemon(_VSWITCHD, f"unix:{socket}", control))
        self._vsctl("add-br", _BRIDGE, "--", "set", "bridge", _BRIDGE, "datapath_type=netdev")


@contextmanager
def switch(normal: bool, *, memory_mb: int = 256, main_core: int = LOAD_CORE) -> Iterator[Ovs]:
    """Start a switch; it learns addresses (`normal`), or has no flow until `set_flows`.

    The thread on `main_core` serves the kernel interfaces; the polling one, the other ports.
    """
    with ExitStack() as stack:
        directory = stack.enter_context(short_directory())
        ovs = Ovs(directory, stack.enter_context(netns()))
        ovs.start(stack, memory_mb, main_core)
        if not normal:
            ovs.set_flows(())
        yield ovs
