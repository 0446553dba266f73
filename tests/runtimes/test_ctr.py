"""`ctr run --cni`."""

from __future__ import annotations

from functools import partial

import pytest

from tests.runtimes.containerd import containerd
from tests.runtimes.containers import (
    BEYOND_NEIGHBOURS,
    assert_chain_did_its_work,
    assert_reaches,
    chain,
)
from tests.runtimes.node import RuntimeNode
from tests.smoke.ports import wait_until

PATIENCE_S = 30


@pytest.mark.parametrize("chained", [False, True], ids=["alone", "chained"])
def test_containers_reach_one_another_and_the_outside(node: RuntimeNode, chained: bool) -> None:
    node.offer(node.conflist(*(chain() if chained else [])))
    with (
        containerd(node) as runtime,
        runtime.container("one"),
        runtime.container("other"),
    ):
        execute = partial(runtime.execute, "one")
        assert_reaches(execute, [*node.addresses("pod:default-other/eth0"), *BEYOND_NEIGHBOURS])
        if chained:
            addresses = node.addresses("pod:default-one/eth0")
            assert_chain_did_its_work(node, execute, addresses)


def test_what_nobody_detached_is_removed_without_the_runtime(node: RuntimeNode) -> None:
    node.offer(node.conflist())
    with (
        containerd(node) as runtime,
        runtime.container("kept"),
        runtime.deserted_container("lost"),
    ):
        kept = node.addresses("pod:default-kept/eth0")
        wait_until(
            lambda: set(node.left_over()["leases"]) == set(kept), "the agent sees it", PATIENCE_S
        )
        assert node.pods() == {"pod:default-kept/eth0"}
        assert node.left_over()["records"] == ["pods@default-kept@eth0.json"]
        assert_reaches(partial(runtime.execute, "kept"), BEYOND_NEIGHBOURS)
