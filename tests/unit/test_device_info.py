"""The device information file where the disk does not take it."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from cni_virtio import device_info
from cni_virtio.device_info import DeviceInfoError
from cni_virtio.state import Attachment


def test_half_a_file_is_not_left(tmp_path: Path) -> None:
    path = tmp_path / "info" / "net1.json"
    attachment = Attachment(
        "pods", "blue", "c1", "net1", socket_path="/run/x.sock", device_info_file=str(path)
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(DeviceInfoError, match=r"net1\.json: File too large"):
            device_info.write(attachment)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(path.parent.iterdir()) == []
    device_info.write(attachment)
    device_info.remove(attachment)
    assert list(path.parent.iterdir()) == []


def test_what_a_killed_agent_has_written_is_removed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "net1.json"
    attachment = Attachment(
        "pods", "blue", "c1", "net1", socket_path="/run/x.sock", device_info_file=str(path)
    )
    device_info.write(attachment)
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        device_info.remove(attachment)
        assert not path.exists()
    path.write_bytes(content + b"more")
    device_info.remove(attachment)
    assert path.exists()
