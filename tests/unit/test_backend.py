"""Which backend kernel interfaces get, and the reason that is given."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from cni_virtio import backend
from cni_virtio.backend import Backend, BackendError, choose


def refuse(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_it(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", raise_it)


@pytest.fixture
def working(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A device whose driver answers as vhost-net does."""
    device = tmp_path / "vhost-net"
    device.touch()
    monkeypatch.setattr(fcntl, "ioctl", lambda *_: bytes(8))
    return device


@pytest.mark.parametrize("setting", ["auto", "vhost-net"])
def test_vhost_net_where_it_works(setting: backend.Setting, working: Path) -> None:
    assert choose(setting, working) == Backend("vhost-net")
    assert str(choose(setting, working)) == "vhost-net"


def test_tap_where_it_is_asked_for(working: Path) -> None:
    assert choose("tap", working) == Backend("tap")


def test_a_missing_device_falls_back_and_says_so(tmp_path: Path) -> None:
    missing = tmp_path / "vhost-net"
    chosen = choose("auto", missing)
    assert str(chosen) == f"tap (vhost-net: {missing} is missing: modprobe vhost_net)"
    with pytest.raises(BackendError, match="is missing: modprobe vhost_net"):
        choose("vhost-net", missing)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (13, "may not be opened: allow the device to this user"),
        (1, "cgroup"),
        (6, "has no driver behind it: modprobe vhost_net"),
        (19, "has no driver behind it: modprobe vhost_net"),
        (24, "LimitNOFILE"),
        (5, "does not work: Input/output error"),
    ],
)
def test_each_refusal_has_its_remedy(
    number: int, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(number, monkeypatch)
    assert remedy in choose("auto").reason
    with pytest.raises(BackendError, match=r"^/dev/vhost-net [^\n]+$"):
        choose("vhost-net")


def test_a_file_of_that_name_is_no_vhost_net(tmp_path: Path) -> None:
    impostor = tmp_path / "vhost-net"
    impostor.touch()
    assert "is something else than the kernel's vhost-net" in choose("auto", impostor).reason


def test_limits_of_queues_are_named() -> None:
    assert Backend("vhost-net").queues_problem(8) == ""
    assert Backend("tap").queues_problem(64) == ""
    reason = "9 is more than the maximum of 8 on vhost-net; dataplane.backend: tap takes up to 64"
    assert Backend("vhost-net").queues_problem(9) == reason
    assert Backend("tap").queues_problem(65) == "65 is more than the maximum of 64 on tap"


def test_names_that_devargs_cannot_carry() -> None:
    assert "',' in it" in Backend("vhost-net").ifname_problem("a,b")
    assert Backend("vhost-net").ifname_problem("eth0.5") == ""
    assert Backend("tap").ifname_problem("a,b") == ""
