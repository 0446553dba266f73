"""podman with its CNI backend."""

from __future__ import annotations

from functools import partial

import pytest

from tests.runtimes.containers import (
    BEYOND_NEIGHBOURS,
    HOST_PORT,
    WEB_SERVER,
    assert_chain_did_its_work,
    assert_is_served,
    assert_reaches,
    chain,
)
from tests.runtimes.node import RuntimeNode
from tests.runtimes.podman import podman


@pytest.mark.parametrize("chained", [False, True], ids=["alone", "chained"])
def test_containers_reach_one_another_and_the_outside(node: RuntimeNode, chained: bool) -> None:
    node.offer(node.conflist(*(chain() if chained else [])))
    with (
        podman(node) as runtime,
        runtime.container("one", *WEB_SERVER, ports={HOST_PORT: 80} if chained else None),
        runtime.container("other", *WEB_SERVER),
    ):
        execute = partial(runtime.execute, "one")
        assert_reaches(execute, [*runtime.addresses("other"), *BEYOND_NEIGHBOURS])
        if chained:
            assert_chain_did_its_work(node, execute, runtime.addresses("one"))
            assert_is_served(node)
