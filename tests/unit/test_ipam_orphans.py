"""IPAM plugins that outlive their agent are waited for, and nobody else is."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cni_virtio import ipam_orphans
from cni_virtio.state import Attachment

ENVIRONMENT = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0"}


@pytest.fixture
def attachment(tmp_path: Path) -> Attachment:
    """Made with a plugin that works until it is killed."""
    plugin = tmp_path / "slow"
    plugin.write_text("#!/bin/sh\nexec 1>&-\nwhile :; do sleep 0.1; done\n")
    plugin.chmod(0o755)
    conf = {"ipam": {"type": "slow"}}
    return Attachment("pods", "pods", "c1", "eth0", cni_path=f":{tmp_path}", netconf=conf)


@contextmanager
def running(program: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [program], env=os.environ | ENVIRONMENT | environment, stdout=subprocess.PIPE
    )
    assert process.stdout
    process.stdout.read()  # it is executed by now
    try:
        yield process
    finally:
        process.stdout.close()
        process.kill()
        process.wait()


def waited_s(attachment: Attachment, patience_s: float = 0.3) -> float:
    began_s = time.monotonic()
    ipam_orphans.await_end(attachment, patience_s)
    return time.monotonic() - began_s


def test_one_that_does_not_end_is_killed(attachment: Attachment, tmp_path: Path) -> None:
    with running(tmp_path / "slow") as process:
        assert 0.3 < waited_s(attachment) < 5
        assert process.wait() == -signal.SIGKILL


def test_one_that_ends_is_waited_for(attachment: Attachment, tmp_path: Path) -> None:
    with running(tmp_path / "slow") as process:
        threading.Timer(0.2, process.terminate).start()
        assert 0.2 < waited_s(attachment, patience_s=10) < 5
        assert process.wait() == -signal.SIGTERM


@pytest.mark.parametrize(
    "other", [{"CNI_COMMAND": "DEL"}, {"CNI_CONTAINERID": "c11"}, {"CNI_IFNAME": "eth1"}]
)
def test_those_of_other_calls_are_not(
    attachment: Attachment, tmp_path: Path, other: dict[str, str]
) -> None:
    with running(tmp_path / "slow", **other) as process:
        assert waited_s(attachment) < 0.3
        assert process.poll() is None


def test_the_runtimes_own_program_is_not(attachment: Attachment, tmp_path: Path) -> None:
    program = (tmp_path / "slow").rename(tmp_path / "cni-virtio")
    (tmp_path / "slow").symlink_to("/bin/true")
    with running(program) as process:
        assert waited_s(attachment) < 0.3
        assert process.poll() is None


@pytest.mark.parametrize(
    "conf", [{}, {"ipam": {}}, {"ipam": {"type": 5}}, {"ipam": {"type": "absent"}}]
)
def test_without_a_plugin_there_is_none(attachment: Attachment, conf: dict[str, Any]) -> None:
    assert waited_s(replace(attachment, netconf=conf)) < 0.3
