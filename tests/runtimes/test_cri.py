"""containerd's CRI, called as a kubelet calls it."""

from __future__ import annotations

import pytest

from tests.runtimes.containerd import containerd
from tests.runtimes.containers import (
    BEYOND_NEIGHBOURS,
    HOST_PORT,
    WEB_SERVER,
    assert_chain_did_its_work,
    assert_is_served,
    assert_reaches,
    chain,
)
from tests.runtimes.cri import cri
from tests.runtimes.images import PAGE
from tests.runtimes.node import HOST_ADDRESSES, RuntimeNode
from tests.smoke.ports import wait_until


@pytest.mark.parametrize("chained", [False, True], ids=["alone", "chained"])
def test_pods_reach_one_another_and_the_outside(node: RuntimeNode, chained: bool) -> None:
    node.offer(node.conflist(*(chain() if chained else [])))
    with (
        containerd(node) as runtime,
        cri(runtime.socket, node.here.cgroup) as kubelet,
    ):
        wait_until(kubelet.network_ready, "the runtime has read the conflist")
        with (
            kubelet.pod("one", *WEB_SERVER, ports={HOST_PORT: 80}) as one,
            kubelet.pod("other", *WEB_SERVER) as other,
        ):
            assert one.addresses() == node.addresses(f"pod:{one.sandbox}/eth0")
            assert_reaches(one.execute, [*other.addresses(), *BEYOND_NEIGHBOURS])
            if chained:
                assert_chain_did_its_work(node, one.execute, one.addresses())
                assert_is_served(node)
                # A pod comes back from the host's port to its neighbour on the same network.
                url = f"http://{HOST_ADDRESSES[0]}:{HOST_PORT}/page"
                assert other.execute("wget", "-q", "-O", "-", url) == PAGE


def test_a_pod_s_annotations_limit_its_bandwidth(node: RuntimeNode) -> None:
    conflist = node.conflist(*chain())
    conflist["plugins"][0]["capabilities"] = {"bandwidth": True}
    node.offer(conflist)
    annotations = {
        "kubernetes.io/ingress-bandwidth": "40M",
        "kubernetes.io/egress-bandwidth": "20M",
    }
    with (
        containerd(node) as runtime,
        cri(runtime.socket, node.here.cgroup) as kubelet,
    ):
        wait_until(kubelet.network_ready, "the runtime has read the conflist")
        with kubelet.pod("one", *WEB_SERVER, annotations=annotations) as pod:
            port = node.port(f"pod:{pod.sandbox}/eth0")
            assert port["spec"]["labels"]["pod"] == "one"
            limits = port["spec"]["limits"]
            assert (limits["ingress_bits_s"], limits["egress_bits_s"]) == (40e6, 20e6)
            assert_reaches(pod.execute, BEYOND_NEIGHBOURS)
