"""Whatever runs out, the newcomer is told so, the others notice nothing, and nothing is left."""

from __future__ import annotations

import itertools
import os
import resource
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from dataplane.client import DataplaneClient, DataplaneError
from dataplane.specs import PortSpec, VhostSpec
from dataplane.wire import Limits
from tests.smoke.agent import Answer, Node, containers, node, node_without_agent
from tests.smoke.netns import Netns
from tests.smoke.traffic import ping

GATEWAY = "10.88.0.1"
SOCKET: dict[str, Any] = {"interface": "vhost-user"}
KINDS = pytest.mark.parametrize("keys", [{}, SOCKET], ids=["kernel", "vhost-user"])
TRY_AGAIN_LATER, IO_FAILURE, DATAPLANE, NOT_AVAILABLE = 11, 5, 100, 50


@pytest.fixture(scope="module")
def here() -> Iterator[Node]:
    """A node with a container `old` that reaches the host."""
    with node(memory="512Mi") as one, containers(1) as (space,):
        one.add("old", space, isGateway=True)
        yield one
        one.delete("old", space, isGateway=True)
        assert one.ports() == set()
        assert one.left_over() == {}


@contextmanager
def open_files(pid: int, more: int) -> Iterator[None]:
    """Let a process open so many more files, and no others."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}  # noqa: PTH208
    free = [number for number in range(max(used) + more + 2) if number not in used]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free[more], before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def everything(one: Node) -> tuple[Any, ...]:
    """What there is on a node: ports, links, records, sockets, leases, who runs."""
    status = one.status()
    return one.ports(), one.left_over(), status["pid"], status["dataplane"]["pid"]


def refused(one: Node, space: Netns, **keys: Any) -> Answer:
    """ADD, which must fail and leave nothing, and hurt nobody."""
    before = everything(one)
    answer = one.call("ADD", "new", space, **keys)
    assert answer.status == 1, answer.body
    assert everything(one) == before
    assert "eth0" not in space.run("ip", "link")
    return answer


def accepted(one: Node, space: Netns, **keys: Any) -> None:
    """ADD and DEL, which must succeed."""
    one.add("new", space, **keys)
    one.delete("new", space, **keys)


@KINDS
def test_agent_out_of_descriptors(here: Node, a: Netns, keys: dict[str, Any]) -> None:
    """However many are left, an ADD either finds as many as it needs, or does nothing."""
    pid = here.status()["pid"]
    for more in range(0, 200, 3):
        with open_files(pid, more):
            answer = here.call("ADD", "new", a, **keys)
        if answer.status == 0:
            break
        assert answer.body["code"] == TRY_AGAIN_LATER
        assert "raise its limit (LimitNOFILE)" in answer.body["msg"]
        here.call("DEL", "new", a, **keys)
    assert 24 < more < 100
    here.delete("new", a, **keys)


def test_with_few_descriptors_a_container_can_be_removed(here: Node, a: Netns) -> None:
    here.add("going", a)
    with open_files(here.status()["pid"], 30), containers(1) as (b,):
        assert refused(here, b).body["code"] == TRY_AGAIN_LATER
        here.delete("going", a)
    accepted(here, a)


@KINDS
def test_dataplane_out_of_descriptors(here: Node, a: Netns, keys: dict[str, Any]) -> None:
    pid = here.status()["dataplane"]["pid"]
    with open_files(pid, 0):
        answer = refused(here, a, **keys)
        assert answer.body["code"] == DATAPLANE
        assert "limit (LimitNOFILE)" in answer.body["msg"]
        assert ping(here.host, _old(here)) == 3
    accepted(here, a, **keys)
    assert here.status()["dataplane"]["restarts"] == 0


def test_dataplane_far_over_its_limit_of_descriptors(here: Node, a: Netns) -> None:
    """Its limit is lowered while it runs: those that come are turned away, and nothing ends."""
    pid = here.status()["dataplane"]["pid"]
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (1, before[1]))
    client = socket.socket(socket.AF_UNIX)
    try:
        client.connect(str(here.directory / "dataplane.sock"))
        assert refused(here, a).body["code"] == DATAPLANE
        assert ping(here.host, _old(here)) == 3
    finally:
        client.close()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    accepted(here, a)
    assert here.status()["dataplane"]["restarts"] == 0


def _old(one: Node) -> str:
    address: str = one.port("pod:old/eth0")["spec"]["ips"][0]
    return address


def test_ports_exhausted(here: Node, a: Netns) -> None:
    with filled(here, {}) as delete_one:
        answer = refused(here, a)
        assert answer.body["code"] == DATAPLANE
        assert "1024 ports" in answer.body["msg"]
        assert here.call("STATUS").body["code"] == NOT_AVAILABLE
        assert ping(here.host, _old(here)) == 3
        delete_one()
        accepted(here, a)


@contextmanager
def filled(one: Node, *kinds: dict[str, Any]) -> Iterator[Callable[[], object]]:
    """Fill the dataplane with sockets until it takes no more; give what deletes one of them.

    Each kind of them until none fits, the smallest last.
    """
    control = DataplaneClient(str(one.directory / "dataplane.sock"))
    names: list[str] = []
    try:
        for kind in kinds:
            with suppress(DataplaneError):
                for number in itertools.count(len(names)):
                    spec = _filler(one, number, kind)
                    control.port_add(spec)
                    names.append(spec.name)
        yield lambda: control.port_del(names.pop())
    finally:
        for name in names:
            control.port_del(name)
        control.close()


def _filler(one: Node, number: int, settings: dict[str, Any]) -> PortSpec:
    mac = f"02:00:00:01:{number >> 8:02x}:{number & 255:02x}"
    path = VhostSpec(str(one.directory / f"{number}.sock"))
    name = f"filler:{number}"
    return PortSpec(name, "vhost", "container", "pods", mac=mac, vhost=path, **settings)


def test_memory_exhausted(a: Netns) -> None:
    with node(memory="64Mi") as one, containers(1) as (space,):
        one.add("old", space, isGateway=True)
        big = {"queues": 128, "limits": Limits(10**6, 10**5)}
        with filled(one, big, {"queues": 8}, {}) as delete_one:
            answer = refused(one, a)
            assert answer.body["code"] == DATAPLANE
            assert "raise memory" in answer.body["msg"]
            assert ping(one.host, _old(one)) == 3
            for _ in range(3):
                delete_one()
            accepted(one, a)
        assert one.status()["dataplane"]["restarts"] == 0
        one.delete("old", space, isGateway=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a small file system on a folder."""
    folder.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", "size=256k", "small", str(folder)]
    subprocess.run(words, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Fill a file system to its last byte."""
    filler = folder / "filler"
    try:
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        yield
    finally:
        filler.unlink()


def test_disks_full(a: Netns) -> None:
    """Of the records, then of the leases."""
    with node_without_agent() as one, ExitStack() as stack, containers(1) as (space,):
        (one.directory / "state").mkdir(mode=0o700)
        state, leases = (
            stack.enter_context(small_disk(one.directory / name)) for name in ("state", "ipam")
        )
        one.start()
        one.add("old", space, isGateway=True)
        with full(state):
            for keys in ({}, SOCKET):
                answer = refused(one, a, **keys)
                assert answer.body["code"] == IO_FAILURE
                assert "No space left on device; free space there" in answer.body["msg"]
            assert ping(space, GATEWAY) == 3
            before = everything(one)[:2]
            one.end(signal.SIGKILL)
            one.start()
            assert everything(one)[:2] == before
            assert ping(space, GATEWAY) == 3
            assert refused(one, a).body["code"] == IO_FAILURE
            one.delete("old", space, isGateway=True)
        one.add("old", space, isGateway=True)
        with full(leases):
            answer = refused(one, a)
            assert "no space left on device" in answer.body["msg"]
            assert ping(space, GATEWAY) == 3
        accepted(one, a)
        one.delete("old", space, isGateway=True)
        assert one.left_over() == {}
        one.end()


def test_addresses_exhausted(here: Node, a: Netns) -> None:
    ipam = here.conf()["ipam"] | {"ranges": [[{"subnet": "10.99.0.0/30"}]]}
    keys = {"name": "tiny", "ipam": ipam}
    with containers(1) as (b,):
        here.add("first", b, **keys)
        answer = refused(here, a, **keys)
        assert "no IP addresses available" in answer.body["msg"]
        here.delete("first", b, **keys)
    accepted(here, a, **keys)
