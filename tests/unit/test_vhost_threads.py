"""Which of the kernel's vhost threads belong to which port."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cni_virtio.vhost_threads import attribute

PID = 100


def port(name: str, queues: int, *, vhost_net: bool = True) -> dict[str, Any]:
    devargs = f"net_virtio_user_1,path=/dev/vhost-net,queues={queues}" if vhost_net else "net_null0"
    return {"spec": {"name": name, "queues": queues, "ethdev": {"devargs": devargs}}}


TAP = {"spec": {"name": "tap", "queues": 2, "ethdev": None}}


def process(folder: Path, number: int, comm: str, started: int) -> None:
    place = folder / str(number)
    place.mkdir(parents=True)
    (place / "comm").write_text(f"{comm}\n")
    before = " ".join("0" for _ in range(18))
    (place / "stat").write_text(f"{number} ({comm}) S {before} {started} 0 0\n")


@pytest.fixture(params=["of the kernel", "of the process"])
def proc(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The files of a machine, of Linux before and from 6.4 on."""
    process(tmp_path, PID, "dataplane", 1)
    process(tmp_path / str(PID) / "task", PID, "dataplane", 1)
    process(tmp_path / str(PID) / "task", PID + 1, "worker", 2)
    where = tmp_path if request.param == "of the kernel" else tmp_path / str(PID) / "task"
    process(where, 205, f"vhost-{PID}", 30)
    process(where, 204, f"vhost-{PID}", 30)
    process(where, 203, f"vhost-{PID + 1}", 50)
    process(where, 202, "vhost-8", 60)  # whose opener has ended
    process(where, 201, "vhost-9", 70)  # likewise, and another has its number now
    process(tmp_path, 9, "other", 80)
    process(tmp_path, 206, "vhost-7", 31)  # of another program
    process(tmp_path, 7, "qemu", 20)
    (tmp_path / "meminfo").touch()
    return tmp_path


def test_the_oldest_threads_are_the_oldest_ports(proc: Path) -> None:
    found = [port("a", 2), TAP, port("wire", 1, vhost_net=False), port("b", 1), port("c", 2)]
    assert attribute(found, PID, proc) == {"a": [204, 205], "b": [203], "c": [202, 201]}


def test_nothing_is_claimed_that_does_not_add_up(proc: Path) -> None:
    assert attribute([port("a", 2)], PID, proc) == {}
    assert attribute([port("a", 2), port("b", 4)], PID, proc) == {}
    assert attribute([TAP], PID, proc) == {}
    assert attribute([port("a", 2)], 999, proc) == {}
