"""The dataplane is killed, then upgraded: what is there stays, and traffic returns by itself."""

from __future__ import annotations

import re
import socket
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from cni_virtio.ctl.agent_client import query
from tests.smoke.attached import Attached, attached
from tests.smoke.outages import figures
from tests.smoke.ports import wait_until
from tests.smoke.silence import Flow, one_way, returned, under_way
from tests.smoke.stream import Stream, stream
from tests.smoke.traffic import ping
from tests.vm.far import program
from tests.vm.outside_frames import ECHO
from tests.vm.wire import TWIN
from tests.vm.wire import VIRTIO as NIC

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.smoke.agent import Node
    from tests.smoke.netns import Netns
    from tests.vm.outside import Outside

HOST = 51
RECOVERY_S = 60


def addresses_and_routes(space: Netns, ifname: str) -> str:
    addresses = re.findall(r"inet6? [^ ]+", space.run("ip", "addr", "show", ifname))
    routes = [space.run("ip", "route"), space.run("ip", "-6", "route")]
    # That they have no carrier for a while is shown, too.
    return "\n".join([*addresses, *routes]).replace("linkdown ", "")


@contextmanager
def stream_outside(space: Netns) -> Iterator[Stream]:
    """Have a connection carry numbers out by the wire and back during the block."""
    with space.inside(socket.socket) as client:
        client.settimeout(RECOVERY_S)
        client.connect((NIC.far_ip4, ECHO))
        numbers = Stream(client, client)
        try:
            yield numbers
        finally:
            numbers.end()


@contextmanager
def connections(here: Node, a: Attached, b: Attached) -> Iterator[None]:
    """Have connections to everywhere, which are whole at the end."""
    with (
        stream(a.space, b.space, b.ip4) as inside,
        stream_outside(a.space) as to_outside,
        stream_outside(here.host) as of_host,
    ):
        yield
    for numbers in (inside, to_outside, of_host):
        numbers.assert_whole()


def until_all_go_on(here: Node, flows: Sequence[Flow], moment_s: float) -> None:
    for flow in flows:
        wait_until(lambda: flow.first_after_s(moment_s) < float("inf"), flow.name, RECOVERY_S)  # noqa: B023
    wait_until(lambda: here.status()["failures"] == {}, "all ports are back", RECOVERY_S)


def test_traffic_returns_and_nothing_was_lost(here: Node, outside: Outside) -> None:
    keys = NIC.conf(here.directory)
    with (
        attached(here, "a", queues=2, **keys) as a,
        attached(here, "b", **keys) as b,
        program(outside, "echo", NIC.far_ip4),
        ExitStack() as stack,
    ):
        here.host.ip(f"addr add {NIC.ip4(HOST)}/24 dev {TWIN}")
        stack.callback(here.host.ip, f"addr flush dev {TWIN}")
        assert ping(here.host, NIC.far_ip4) == 3
        flows = [
            one_way(stack, "from a to b", a.space, b.space, b.ip4),
            returned(stack, "from a outside", a.space, NIC.far_ip4, 6100),
            returned(stack, "from the host outside", here.host, NIC.far_ip4, 6101),
        ]
        places = ((a.space, "eth0"), (b.space, "eth0"), (here.host, TWIN))
        had = [addresses_and_routes(*place) for place in places]
        restarts = here.status()["dataplane"]["restarts"]
        with connections(here, a, b), under_way(flows):
            wait_until(lambda: all(len(flow.arrived) > 10 for flow in flows), "all flows go", 20)
            killed_s = here.kill_dataplane()
            assert [addresses_and_routes(*place) for place in places] == had
            until_all_go_on(here, flows, killed_s)
            print(figures("killed", flows, killed_s))
            for flow in flows:
                flow.forget()
            said = len(here.log())
            upgraded_s = time.monotonic()
            done = query(here.socket, "upgrade", timeout_s=150)
            until_all_go_on(here, flows, time.monotonic())
            print(figures("upgraded", flows, upgraded_s), done["text"], sep="\n")
        assert done["ports"] == done["ports_wanted"]
        assert "EAL" not in here.log()[said:]  # the new one left the NICs to the present one
        assert [addresses_and_routes(*place) for place in places] == had
        assert here.status()["dataplane"]["restarts"] == restarts + 1
        assert len(a.state()["vhost_threads"]) == 2
