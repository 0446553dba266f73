"""Which containers had their MAC changed after ADD, on the real kernel."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from cni_virtio import netns
from cni_virtio.mac_watch import MacWatch
from cni_virtio.state import Attachment
from cni_virtio.wanted import Wanted

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")

MAC = "02:00:00:00:00:0a"
MAC_OF_LO = "00:00:00:00:00:00"


class Fake:
    """Stands for the list of attachments."""

    def __init__(self) -> None:
        self.attachments: list[Attachment] = []

    def all(self) -> list[Attachment]:
        return self.attachments


@pytest.fixture
def path() -> Iterator[Path]:
    name = f"cvt-{uuid.uuid4().hex[:8]}"
    yield netns.create_named(name)
    netns.delete_named(name)


def attachment(path: Path, mac: str, age_s: float) -> Attachment:
    return Attachment(
        "pods",
        "pods",
        "c1",
        "lo",
        netns=str(path),
        netns_inode=path.stat().st_ino,
        mac=mac,
        created_s=time.time() - age_s,
    )


def test_the_same_interface_added_again_is_looked_at_again(path: Path) -> None:
    fake = Fake()
    watch = MacWatch(cast(Wanted, fake))
    for mac, age_s, problems in ((MAC_OF_LO, 9, 0), (MAC, 6, 1), (MAC_OF_LO, 3, 0), (MAC, 0, 0)):
        fake.attachments = [attachment(path, mac, age_s)]
        for _ in range(2):
            watch.look()
            assert len(watch.messages()) == problems, (mac, age_s)
    fake.attachments = []
    watch.look()
    assert watch.messages() == []
