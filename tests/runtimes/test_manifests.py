"""The network configurations of manifests/, as they are, used by their runtimes."""

from __future__ import annotations

import shutil
from functools import partial

from tests.runtimes.containerd import containerd
from tests.runtimes.containers import (
    HOST_PORT,
    WEB_SERVER,
    assert_is_served,
    assert_reaches,
)
from tests.runtimes.cri import cri
from tests.runtimes.node import (
    GATEWAYS,
    HOST_ADDRESSES,
    OUTSIDE,
    OUTSIDE_OF_PODMAN,
    VISITOR,
    RuntimeNode,
)
from tests.runtimes.podman import podman
from tests.smoke.ports import wait_until
from tests.unit.dataplane_process import ROOT


def install(node: RuntimeNode, manifest: str) -> None:
    """Make a conflist of manifests/ the machine's only one."""
    node.clear_conflists()
    shutil.copy(ROOT / "manifests" / manifest, node.conflists)


def test_containerd(node: RuntimeNode) -> None:
    install(node, "containerd/10-cni-virtio.conflist")
    with (
        containerd(node) as runtime,
        cri(runtime.socket, node.here.cgroup) as kubelet,
        runtime.container("by-ctr"),
    ):
        wait_until(kubelet.network_ready, "the runtime has read the conflist")
        with kubelet.pod("one", *WEB_SERVER, ports={HOST_PORT: 80}) as pod:
            neighbour = node.addresses("pod:default-by-ctr/eth0")
            assert_reaches(pod.execute, [*neighbour, GATEWAYS[0], OUTSIDE[0], VISITOR[0]])
            assert_is_served(node, HOST_ADDRESSES[:1])


def test_podman(node: RuntimeNode) -> None:
    install(node, "podman/cni-virtio.conflist")
    with (
        podman(node, network="virtio") as runtime,
        runtime.container("one", *WEB_SERVER, ports={HOST_PORT: 80}),
        runtime.container("other"),
    ):
        (neighbour,) = runtime.addresses("other")
        addresses = [neighbour, "10.89.0.1", OUTSIDE_OF_PODMAN, VISITOR[0]]
        assert_reaches(partial(runtime.execute, "one"), addresses)
        assert_is_served(node, HOST_ADDRESSES[:1])
