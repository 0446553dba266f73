"""Two containers behind the kernel's vhost-net: what they can do on taps, and its threads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.smoke.attached import attached
from tests.smoke.container_checks import QUEUES, KernelContainers, Pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.smoke.agent import Node


@pytest.fixture(scope="module")
def pair(here: Node) -> Iterator[Pair]:
    with (
        attached(here, "one", queues=QUEUES, queueSize=1024) as one,
        attached(here, "other", queues=QUEUES) as other,
    ):
        yield one, other


class TestOnVhostNet(KernelContainers):
    def test_each_queue_has_a_kernel_thread(self, pair: Pair) -> None:
        threads = [each.state()["vhost_threads"] for each in pair]
        assert [len(set(own)) for own in threads] == [QUEUES, QUEUES]
        assert not set(threads[0]) & set(threads[1])
        for pid in threads[0] + threads[1]:
            assert Path(f"/proc/{pid}/comm").read_text().startswith("vhost-")
