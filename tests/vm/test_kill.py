"""The dataplane is killed: what containers and host have stays, and traffic returns by itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.smoke.attached import attached
from tests.smoke.ports import wait_until
from tests.smoke.traffic import ping
from tests.vm.wire import TWIN
from tests.vm.wire import VIRTIO as NIC

if TYPE_CHECKING:
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


def test_traffic_returns_and_nothing_was_lost(here: Node, outside: Outside) -> None:
    keys = NIC.conf(here.directory)
    with attached(here, "a", queues=2, **keys) as a, attached(here, "b", **keys) as b:
        here.host.ip(f"addr add {NIC.ip4(HOST)}/24 dev {TWIN}")
        assert ping(here.host, NIC.far_ip4) == 3
        places = ((a.space, "eth0"), (b.space, "eth0"), (here.host, TWIN))
        had = [addresses_and_routes(*place) for place in places]
        restarts = here.status()["dataplane"]["restarts"]
        here.kill_dataplane()
        assert [addresses_and_routes(*place) for place in places] == had
        wait_until(lambda: ping(a.space, b.ip4, 1), "containers reach each other", RECOVERY_S)
        wait_until(lambda: ping(outside, a.ip4, 1), "so does the outside", RECOVERY_S)
        wait_until(lambda: ping(here.host, NIC.far_ip4, 1), "and the host", RECOVERY_S)
        assert [addresses_and_routes(*place) for place in places] == had
        assert here.status()["dataplane"]["restarts"] == restarts + 1
        assert here.status()["failures"] == {}
        assert len(a.state()["vhost_threads"]) == 2
        here.host.ip(f"addr flush dev {TWIN}")
