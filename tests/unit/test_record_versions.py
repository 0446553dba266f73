"""What agents of every version have written is read: `records` has what each of them wrote."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cni_virtio.state import Attachment, Key, StateDir
from dataplane.wire import Limits

FOLDERS = sorted((Path(__file__).parent / "records").iterdir())
"""By the key that was new. All were written by `StateDir.save` of that time, none was edited."""

KERNEL = {
    "name": "pods",
    "network": "pods",
    "netns": "/run/netns/cni-7f0c",
    "netns_inode": 4026532461,
    "netns_cookie": 4099,
    "netns_seen": True,
    "interface": "kernel",
    "mac": "02:1f:2e:3d:4c:5b",
    "ips": ("10.88.0.5/16", "fd88::5/64"),
    "gateways": ("10.88.0.1/16", "fd88::1/64"),
    "mtu": 1500,
    "queues": 2,
    "queue_size": 512,
    "spoof_check": True,
    "ip_masq": True,
    "limits": Limits(100_000_000, 2_000_000),
    "cni_version": "1.0.0",
    "cni_path": "/opt/cni/bin",
    "is_whole": True,
}
VHOST = {
    "name": "apps",
    "network": "blue",
    "netns": "/proc/4711/ns/net",
    "netns_inode": 4026532999,
    "interface": "vhost-user",
    "mac": "02:aa:bb:cc:dd:ee",
    "mtu": 9000,
    "spoof_check": False,
    "vhost_mode": "server",
    "socket_path": "/run/cni-virtio/vhost/99aabb/net1.sock",
    "uid": 1000,
    "gid": 1001,
    "mount_path": "/run/vhost",
    "device_info_file": "/run/devinfo/net1.json",
    "is_whole": True,
}
EXPECTED = {Key("0a1b2c3d4e5f", "eth0"): KERNEL, Key("99aabb", "net1"): VHOST}
DEFAULTS = Attachment("", "", "", "")


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def state(request: pytest.FixtureRequest, tmp_path: Path) -> StateDir:
    """A state folder that an agent of that time has left."""
    shutil.copytree(request.param, tmp_path / "attachments")
    return StateDir(tmp_path)


def test_every_version_is_read(state: StateDir, tmp_path: Path) -> None:
    attachments, quarantined = state.load_all()
    assert quarantined == []
    assert {each.key for each in attachments} == EXPECTED.keys()
    for attachment in attachments:
        (file,) = (tmp_path / "attachments").glob(f"*@{attachment.container_id}@*")
        written = json.loads(file.read_text())
        for name, value in EXPECTED[attachment.key].items():
            known = name in written or name == "is_whole"
            assert getattr(attachment, name) == (value if known else getattr(DEFAULTS, name))


def test_it_is_written_in_todays_shape(state: StateDir) -> None:
    for attachment in state.load_all()[0]:
        state.save(replace(attachment, mtu=1400))
    attachments, quarantined = state.load_all()
    assert [each.mtu for each in attachments] == [1400, 1400]
    assert quarantined == []


def test_todays_shape_has_a_sample() -> None:
    """Whoever adds a key adds a folder: a later agent has to read what this one writes."""
    samples: list[dict[str, Any]] = [json.loads(file.read_text()) for file in FOLDERS[-1].iterdir()]
    today = replace(DEFAULTS, limits=Limits(1)).to_json().keys()
    assert set().union(*samples) == today
