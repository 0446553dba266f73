"""What one dataplane does for the next: it passes the queues of its taps, and holds its ports."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from dataplane.client import DataplaneClient, DataplaneError
from tests.smoke.ports import wait_until
from tests.unit import dataplane_process
from tests.unit.dataplane_process import (
    TAP,
    Dataplane,
    needs_engine,
    needs_root,
    open_tap,
    vhost_port,
)

socket_dir = dataplane_process.socket_dir
dataplane = dataplane_process.dataplane
control = dataplane_process.control

_TUNGETIFF = 0x800454D2
pytestmark = needs_engine


@needs_root
def test_the_queues_of_a_tap_are_passed_and_stay(
    dataplane: Dataplane, control: DataplaneClient
) -> None:
    fd = open_tap()
    try:
        control.port_add(TAP, [fd])
        before = dataplane.open_fds()
        for _ in range(3):
            (passed,) = control.port_fds(TAP.name)
            name = fcntl.ioctl(passed, _TUNGETIFF, bytes(40))[:16].rstrip(b"\0")
            assert name == b"cnvt0"
            assert not os.get_inheritable(passed)
            os.close(passed)
        assert dataplane.open_fds() == before
        assert control.ports(TAP.name)["ports"][0]["state"]["ready"]
    finally:
        os.close(fd)


def test_another_port_has_none_and_an_unknown_one_is_refused(
    control: DataplaneClient, socket_dir: Path
) -> None:
    control.port_add(vhost_port(socket_dir))
    assert control.port_fds("pod:c1/eth0") == []
    with pytest.raises(DataplaneError, match="there is no port nobody"):
        control.port_fds("nobody")


@needs_root
def test_a_port_added_in_a_pause_receives_at_its_end(control: DataplaneClient) -> None:
    fd = open_tap()
    try:
        control.hold(1000)
        control.port_add(TAP, [fd])
        queue = control.ports(TAP.name)["ports"][0]["counters"]["queues"][0]
        assert queue["core"] is None
        control.hold(0)
        queue = control.ports(TAP.name)["ports"][0]["counters"]["queues"][0]
        assert queue["core"] is not None
    finally:
        os.close(fd)


@needs_root
def test_a_pause_ends_by_itself(control: DataplaneClient) -> None:
    fd = open_tap()
    try:
        control.hold(100)
        control.port_add(TAP, [fd])

        def core() -> object:
            return control.ports(TAP.name)["ports"][0]["counters"]["queues"][0]["core"]

        assert core() is None
        wait_until(lambda: core() is not None, "its queue is served", 5)
    finally:
        os.close(fd)


@pytest.mark.parametrize("ms", [-1, 1001, True, "1"])
def test_a_pause_out_of_range_is_refused(control: DataplaneClient, ms: int) -> None:
    with pytest.raises(DataplaneError, match="ms: must be a whole number from 0 to 1000"):
        control.hold(ms)
