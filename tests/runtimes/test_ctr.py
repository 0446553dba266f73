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
