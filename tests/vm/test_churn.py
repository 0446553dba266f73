"""Ports on vhost-net come and go while others are in use."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cni_virtio import tap
from cni_virtio.ctl.agent_client import query
from dataplane.client import DataplaneClient
from dataplane.wire import EthdevSpec, PortSpec
from tests.smoke.attached import Attached, attached
from tests.smoke.netns import Netns, netns
from tests.smoke.ports import wait_until
from tests.vm.pinging import losing_none

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.smoke.agent import Node

TIMES, WARM_UP = 100, 3
IFNAME = "eth0"


@contextmanager
def dataplane_of(here: Node) -> Iterator[DataplaneClient]:
    control = DataplaneClient(str(here.directory / "dataplane.sock"), timeout_s=20)
    try:
        yield control
    finally:
        control.close()


def another(model: Attached) -> PortSpec:
    """Make the spec of a port like that of a container, on another tap."""
    spec = PortSpec.from_json(model.node.port(model.port_name)["spec"])
    mac = "02:00:00:00:0c:01"
    arguments = f"path=/dev/vhost-net,queues=2,queue_size=256,iface={IFNAME},mac={mac}"
    ethdev = EthdevSpec(f"net_virtio_user_churn,{arguments}")
    return replace(spec, name="pod:churn/eth0", mac=mac, ips=(), queues=2, ethdev=ethdev)


def plug_and_unplug(control: DataplaneClient, spec: PortSpec, space: Netns) -> None:
    fd = os.open(space.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        control.port_add(spec, [fd])
    finally:
        os.close(fd)
    control.port_del(spec.name)


def sizes(here: Node) -> dict[str, int]:
    """What must not grow."""
    pid = here.status()["dataplane"]["pid"]
    pools = query(here.socket, "workers")["mbufs"].values()
    names = [path.read_text() for path in Path("/proc").glob("[0-9]*/comm")]
    return {
        "fds": len(os.listdir(f"/proc/{pid}/fd")),  # noqa: PTH208
        "threads": len(os.listdir(f"/proc/{pid}/task")),  # noqa: PTH208
        "vhost threads": sum(name.startswith("vhost-") for name in names),
        "hugepages": int(Path("/proc/sys/vm/nr_hugepages").read_text()) - free_hugepages(),
        "packet buffers": sum(pool["in_use"] for pool in pools),
    }


def free_hugepages() -> int:
    pool = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
    return int((pool / "free_hugepages").read_text())


def test_a_hundred_ports_leave_nothing_and_disturb_nobody(here: Node) -> None:
    with attached(here, "one") as one, attached(here, "other") as other, netns() as space:
        fd = os.open(space.path, os.O_RDONLY | os.O_CLOEXEC)
        tap.close_all(tap.create_tap(fd, IFNAME, 2))
        os.close(fd)
        with dataplane_of(here) as control:
            spec = another(one)
            # Rings keep packets that they have sent until they need the room: fill them first.
            one.space.run("ping", "-q", "-c", "600", "-i", "0.002", other.ip4)
            for _ in range(WARM_UP):
                plug_and_unplug(control, spec, space)
            before = sizes(here)
            with losing_none(one.space, other.ip4):
                for _ in range(TIMES):
                    plug_and_unplug(control, spec, space)
            slack = {"packet buffers": 64}  # so many a ring sets free at once
            wait_until(
                lambda: all(n <= before[k] + slack.get(k, 0) for k, n in sizes(here).items()),
                f"nothing has grown from {before}, is {sizes(here)}",
            )
