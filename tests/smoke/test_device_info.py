"""A pod finds its vhost-user socket by the device information file, and nobody else's."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.smoke.agent import Answer, Node, containers, node
from tests.smoke.netns import Netns
from tests.smoke.ports import wait_until
from tests.smoke.testpmd import running_testpmd
from tests.smoke.traffic import ping, reaches_nobody

MOUNT_PATH = "/mnt"
FAST = {"name": "fast", "interface": "vhost-user", "vhostUser": {"mountPath": MOUNT_PATH}}


@dataclass(frozen=True)
class Pod:
    """A sandbox with eth0 (kernel) on the network pods and net1 (vhost-user) on fast."""

    node: Node
    name: str
    space: Netns
    net1: Answer
    path: Path
    """Of the socket, as the device information says."""

    @property
    def folder(self) -> Path:
        """The sockets of this pod, on the host."""
        return self.node.directory / "vhost" / f"uid-{self.name}"

    @property
    def mac(self) -> str:
        mac: str = self.net1.body["interfaces"][0]["mac"]
        return mac

    def wait_ready(self) -> None:
        port = f"pod:{self.name}/net1"
        wait_until(lambda: self.node.port(port)["state"]["ready"], f"{port} has a peer")

    @property
    def inside(self) -> list[str]:
        """What runs a command as a container of the pod: it sees the pod's sockets only."""
        everyone = self.node.directory / "vhost"
        mounts = f"mount --bind {self.folder} {MOUNT_PATH} && mount -t tmpfs none {everyone}"
        words = ["unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh"]
        return ["ip", "netns", "exec", self.space.name, *words]

    def sees(self, path: Path) -> bool:
        done = subprocess.run([*self.inside, "test", "-S", path], check=False)
        return done.returncode == 0


@pytest.fixture(scope="module")
def here() -> Iterator[Node]:
    with node() as one:
        yield one
        assert one.left_over() == {}


@pytest.fixture
def spaces() -> Iterator[list[Netns]]:
    with containers(3) as spaces:
        yield spaces


def fast(file: Path, **keys: Any) -> dict[str, Any]:
    return FAST | {"runtimeConfig": {"CNIDeviceInfoFile": str(file)}} | keys


def device_info_file(one: Node, name: str) -> Path:
    return one.directory / "devinfo" / f"{name}-net1-device.json"


def start_pod(stack: ExitStack, one: Node, name: str, space: Netns) -> Pod:
    """Do what a kubelet and a meta-plugin do for a pod with two networks."""
    args = f"IgnoreUnknown=1;K8S_POD_UID=uid-{name};K8S_POD_NAME={name};K8S_POD_NAMESPACE=shop"
    file = device_info_file(one, name)
    keys = fast(file, args=args)
    one.add(name, space, args=args, isGateway=True)
    stack.callback(one.delete, name, space, args=args, isGateway=True)
    net1 = one.add(name, space, ifname="net1", **keys)
    stack.callback(one.delete, name, space, ifname="net1", **keys)
    info = json.loads(file.read_text())
    assert info | {"vhost-user": {}} == {"type": "vhost-user", "version": "1.1.0", "vhost-user": {}}
    assert info["vhost-user"]["mode"] == "client"
    return Pod(one, name, space, net1, Path(info["vhost-user"]["path"]))


def test_two_pods_with_two_networks_each(here: Node, spaces: list[Netns]) -> None:
    with ExitStack() as stack:
        blue, green = (start_pod(stack, here, *each) for each in zip("bg", spaces, strict=False))
        here.add("peer", spaces[2], name="fast")
        stack.callback(here.delete, "peer", spaces[2], name="fast")
        assert blue.path == green.path == Path(MOUNT_PATH, "net1.sock")
        for pod, other in ((blue, green), (green, blue)):
            assert ping(pod.space, "10.88.0.1")
            assert pod.sees(pod.path)
            assert not pod.sees(other.folder / "net1.sock")
            with running_testpmd(pod, "icmpecho", inside=pod.inside):
                assert ping(spaces[2], pod.net1.address) == 3
                assert reaches_nobody(spaces[2], other.net1.address)
            spaces[2].ip("neigh flush dev eth0")  # else it would still wait for the other's answer
    assert not device_info_file(here, "b").exists()
    assert not device_info_file(here, "g").exists()


def test_a_file_of_the_device_plugin_is_left_as_it_is(here: Node, spaces: list[Netns]) -> None:
    file = here.directory / "of-a-device-plugin.json"
    file.write_text("{}")
    keys = fast(file)
    here.add("c1", spaces[0], **keys)
    here.delete("c1", spaces[0], **keys)
    assert file.read_text() == "{}"


def test_a_kernel_interface_has_none(here: Node, spaces: list[Netns]) -> None:
    file = here.directory / "none.json"
    keys = {"runtimeConfig": {"CNIDeviceInfoFile": str(file)}}
    here.add("c1", spaces[0], **keys)
    assert not file.exists()
    here.delete("c1", spaces[0], **keys)


def test_one_that_cannot_be_written_leaves_nothing(here: Node, spaces: list[Netns]) -> None:
    (here.directory / "no-folder").touch()
    file = here.directory / "no-folder" / "net1.json"
    keys = fast(file)
    answer = here.call("ADD", "c1", spaces[0], **keys)
    assert answer.body["code"] == 101
    assert answer.body["msg"].startswith("runtimeConfig.CNIDeviceInfoFile: cannot write")
    assert here.ports() == set()
    assert here.left_over() == {}
