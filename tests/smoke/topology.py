"""Networks, containers and uplinks on a running dataplane, wired as the agent would."""

from __future__ import annotations

import itertools
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Literal

from dataplane.specs import EthdevSpec, Mode, NetworkSpec, PortSpec, VhostSpec
from tests.smoke.netns import Netns, netns
from tests.smoke.ports import Application, Container, Port, Twin, switch_offloads, wait_until
from tests.smoke.taps import add_tap_port
from tests.unit.dataplane_process import Dataplane, running, short_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dataplane.client import DataplaneClient

Driver = Literal["af_xdp", "af_packet"]

OUTSIDE = 100
"""What the addresses of an uplink's far end end in."""

_numbers = itertools.count(1)


class Lab:
    """What a test, or a module of tests, builds on a dataplane; `stack` takes it down."""

    def __init__(self, dataplane: Dataplane, host: Netns, stack: ExitStack) -> None:
        self.dataplane = dataplane
        self.host = host
        self.stack = stack
        self.control = dataplane.client()
        stack.callback(self.control.close)

    def network(
        self, uplink: Port | None = None, vlan: int | None = None, *, mtu: int = 1500
    ) -> str:
        name = f"net{next(_numbers)}"
        self.control.network_add(NetworkSpec(name, mtu, uplink.name if uplink else None, vlan))
        self.stack.callback(self.control.network_del, name)
        return name

    def container(
        self,
        network: str,
        number: int,
        *,
        queues: int = 1,
        spoof_check: bool = True,
        port_mtu: int = 1500,
    ) -> Container:
        """Make a container whose addresses end in `number`, and set its interface up."""
        space = self.stack.enter_context(netns())
        container = Container(self.control, f"pod:{space.name}/eth0", number, space)
        self.stack.callback(container.delete)
        self.plug(container, network, queues, spoof_check, port_mtu)
        container.set_up()
        return container

    def plug(
        self,
        container: Container,
        network: str,
        queues: int = 1,
        spoof_check: bool = True,
        port_mtu: int = 1500,
    ) -> None:
        """Make a container's tap and its port."""
        spec = PortSpec(
            container.name,
            "tap",
            "container",
            network,
            mac=container.mac,
            ips=(container.ip4, container.ip6),
            spoof_check=spoof_check,
            mtu=port_mtu,
            queues=queues,
        )
        add_tap_port(self.control, spec, container.netns)

    def application(
        self,
        network: str,
        number: int,
        *,
        mode: Mode = "client",
        queues: int = 1,
        spoof_check: bool = True,
    ) -> Application:
        """Make an application's port; `mode` is the application's role on the socket."""
        name = f"vhost{next(_numbers)}"
        path = self.dataplane.directory / f"{name}.sock"
        application = Application(self.control, f"pod:{name}/eth0", number, path)
        spec = PortSpec(
            application.name,
            "vhost",
            "container",
            network,
            mac=application.mac,
            ips=(application.ip4, application.ip6),
            spoof_check=spoof_check,
            queues=queues,
            vhost=VhostSpec(str(path), mode),
        )
        self.control.port_add(spec)
        self.stack.callback(application.delete)
        return application

    def uplink(self, driver: Driver) -> Container:
        """Make a wire, one end an uplink, and give the other, outside."""
        space = self.stack.enter_context(netns())
        ifname = f"cvs{next(_numbers)}"
        self._wire(self.host, ifname, space, "eth0")
        outside = Container(self.control, self._uplink_port(driver, ifname), OUTSIDE, space)
        outside.set_up()
        wait_until(lambda: outside.state()["link_up"], "the uplink's carrier")
        return outside

    def twin(self, uplink: Port, number: int) -> Twin:
        """Make the twin of an uplink."""
        space = self.stack.enter_context(netns())
        name = uplink.name.replace("uplink:", "exception:")
        mac = str(uplink.state()["mac"])
        twin = Twin(self.control, name, number, space, mac)
        self.stack.callback(twin.delete)
        spec = PortSpec(name, "tap", "exception", uplink=uplink.name, mac=mac)
        add_tap_port(self.control, spec, space)
        twin.set_up()
        return twin

    def joined_uplinks(self, driver: Driver) -> tuple[Port, Port]:
        """Make a wire whose both ends are uplinks."""
        names = f"cvs{next(_numbers)}", f"cvs{next(_numbers)}"
        self._wire(self.host, names[0], self.host, names[1])
        one, other = (
            Port(self.control, self._uplink_port(driver, name), OUTSIDE) for name in names
        )
        wait_until(lambda: one.state()["link_up"] and other.state()["link_up"], "the carrier")
        return one, other

    def _wire(self, space: Netns, ifname: str, far_space: Netns, far_ifname: str) -> None:
        space.ip(f"link add {ifname} type veth peer name {far_ifname} netns {far_space.name}")
        self.stack.callback(space.ip, f"link del {ifname}")
        for end, name in ((space, ifname), (far_space, far_ifname)):
            # A NIC would have finished what a veth hands on as it is.
            switch_offloads(end, name, "tx", "tso", "gso", "gro", "rxvlan", "txvlan")

    def _uplink_port(self, driver: Driver, ifname: str) -> str:
        self.host.ip(f"link set {ifname} up")
        arguments = {"af_xdp": "start_queue=0,queue_count=1", "af_packet": "qpairs=1"}[driver]
        devargs = f"net_{driver}_{ifname},iface={ifname},{arguments}"
        port = Port(self.control, f"uplink:{ifname}", OUTSIDE)
        self.control.port_add(PortSpec(port.name, "ethdev", "uplink", ethdev=EthdevSpec(devargs)))
        self.stack.callback(port.delete)
        return port.name


@contextmanager
def dataplane_in_host(*options: str) -> Iterator[tuple[Dataplane, Netns]]:
    """Start a dataplane in a netns of its own, which stands for the host's."""
    with ExitStack() as stack:
        host = stack.enter_context(netns())
        directory = stack.enter_context(short_directory())
        process = running(directory, "--memory", "256Mi", "--log-level", "warning", *options)
        # A process begins in the netns of the thread that makes it.
        dataplane = host.inside(lambda: stack.enter_context(process))
        yield dataplane, host
        assert dataplane.process.poll() is None, "the dataplane died during the tests"


@contextmanager
def lab_on(dataplane: Dataplane, host: Netns) -> Iterator[Lab]:
    """Give an empty lab; at the end all that it built is gone, and no packet buffer is lost."""
    with dataplane.client_that_closes() as control, ExitStack() as stack:
        ports = port_names(control)
        yield Lab(dataplane, host, stack)
        stack.close()
        assert port_names(control) == ports
        if not ports:
            # Each worker keeps one at hand, for the next packet off a tap.
            at_hand = len(control.workers()["workers"])
            in_use = buffers_in_use(control)
            assert in_use <= at_hand, f"{in_use} packet buffers in use, {at_hand} expected"


def port_names(control: DataplaneClient) -> list[str]:
    return sorted(port["spec"]["name"] for port in control.ports()["ports"])


def buffers_in_use(control: DataplaneClient) -> int:
    return sum(pool["in_use"] for pool in control.workers()["mbufs"].values())
