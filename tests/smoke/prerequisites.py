"""What the tests with real traffic need of the machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

TOOLS = (
    *("ip", "ping", "iperf3", "ethtool", "dpdk-testpmd", "taskset", "stdbuf", "sysctl", "ss"),
    *("nft", "iptables", "busybox"),
)

_HUGEPAGES = Path("/proc/sys/vm/nr_hugepages")
_FREE_HUGEPAGES = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")


def missing() -> str | None:
    """Say what the machine lacks for any of these tests."""
    if os.geteuid() != 0:
        return "network namespaces and taps need root"
    if importlib.util.find_spec("dataplane._engine") is None:
        return "the engine is not built: run ./dev setup"
    absent = [tool for tool in TOOLS if not shutil.which(tool)]
    return f"not installed: {', '.join(absent)}; run ./dev setup" if absent else None


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the test, but where CI=true fail: there, nothing may go untested unseen."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def free_hugepages(count: int) -> Iterator[None]:
    """Provide so many free hugepages of 2 MB, and give back those added."""
    wanted = max(count - int(_FREE_HUGEPAGES.read_text()), 0)
    before = int(_HUGEPAGES.read_text())
    _HUGEPAGES.write_text(str(before + wanted))
    added = int(_HUGEPAGES.read_text()) - before  # the kernel may have found fewer
    try:
        free = int(_FREE_HUGEPAGES.read_text())
        if free < count:
            skip_or_fail(f"{count} free hugepages of 2 MB wanted, the kernel gave {free}")
        yield
    finally:
        _HUGEPAGES.write_text(str(int(_HUGEPAGES.read_text()) - added))
