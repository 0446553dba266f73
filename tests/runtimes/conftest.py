"""Fixtures of the tests with container runtimes: they need root, the engine, and the runtimes."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.runtimes.node import RuntimeNode, runtime_node
from tests.smoke.ports import wait_until
from tests.smoke.prerequisites import missing, skip_or_fail

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOOLS = ("containerd", "ctr", "podman", "runc", "go", "iptables", "nsenter", "unshare")


@pytest.fixture(scope="session")
def shared() -> Iterator[RuntimeNode]:
    if os.geteuid() != 0:
        skip_or_fail("namespaces and container runtimes need root")
    absent = [tool for tool in _TOOLS if not shutil.which(tool)]
    reason = missing() or (absent and f"not installed: {', '.join(absent)}; run ./dev test")
    assert not reason, reason
    with runtime_node() as node:
        yield node


@pytest.fixture
def node(shared: RuntimeNode) -> Iterator[RuntimeNode]:
    """The machine, on which a test must leave nothing."""
    before = shared.here.processes()
    yield shared
    assert shared.remains() == {}
    wait_until(lambda: shared.here.processes() == before, "the runtimes' processes end")
