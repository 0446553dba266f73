"""The queues of taps that the agent keeps open beside the dataplane."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cni_virtio import kept
from cni_virtio.kept import KeptTaps
from tests.smoke.ports import wait_until
from tests.unit.dataplane_process import TAP, needs_root, open_tap

PIPE = replace(TAP, name="pod:pipe/eth0")


@pytest.fixture
def taps() -> Iterator[KeptTaps]:
    """With a thread that closes what is discarded."""
    one, stopping = KeptTaps(), threading.Event()
    thread = threading.Thread(target=one.run, args=(stopping,))
    thread.start()
    yield one
    stopping.set()
    one.retain(())
    one.wake()
    thread.join()


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@needs_root
def test_what_is_kept_is_handed_over_once(taps: KeptTaps) -> None:
    fds = [open_tap()]
    kept_fd = fds[0]
    taps.keep(TAP.name, fds)
    assert fds == []  # the caller's list is empty, so that nothing is closed twice
    assert taps.has(TAP.name)
    assert taps.take(TAP) == [kept_fd]
    assert taps.take(TAP) is None
    os.close(kept_fd)


@needs_root
def test_what_was_just_discarded_is_handed_over_too() -> None:
    """Its queues are held until it is closed: the tap could not be attached to in another way."""
    taps, fd = KeptTaps(), open_tap()
    taps.keep(TAP.name, [fd])
    taps.discard([TAP.name])
    assert taps.take(TAP) == [fd]
    os.close(fd)


@needs_root
def test_another_number_of_queues_is_of_no_use(taps: KeptTaps) -> None:
    fd = open_tap()
    taps.keep(TAP.name, [fd])
    assert taps.take(replace(TAP, queues=2)) is None
    assert not is_open(fd)


def test_what_is_no_tap_any_more_is_of_no_use(taps: KeptTaps) -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    taps.keep(PIPE.name, [fd])
    assert taps.take(PIPE) is None
    assert not is_open(fd)


def test_what_is_wanted_no_more_is_closed_soon(taps: KeptTaps) -> None:
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
    for number, fd in enumerate(fds):
        taps.keep(f"port{number}", [fd])
    taps.discard(["port0"])
    taps.retain({"port2"})
    wait_until(lambda: not is_open(fds[0]) and not is_open(fds[1]), "two are closed")
    assert is_open(fds[2])


def test_one_takes_the_place_of_another(taps: KeptTaps) -> None:
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(2)]
    for fd in fds:
        taps.keep(PIPE.name, [fd])
    wait_until(lambda: not is_open(fds[0]), "the first is closed")
    assert is_open(fds[1])


def test_not_all_open_files_are_for_this() -> None:
    taps = KeptTaps(most=1)
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(2)]
    taps.keep("port0", [fds[0]])
    taps.keep("port1", [fds[1]])
    assert (is_open(fds[0]), is_open(fds[1])) == (True, False)
    assert not taps.has("port1")
    os.close(fds[0])


def test_without_a_dataplane_for_long_all_is_let_go(
    taps: KeptTaps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "AWAY_S", 0.2)
    fd = os.open("/dev/null", os.O_RDONLY)
    taps.keep(PIPE.name, [fd])
    taps.dataplane_is_away(True)
    taps.dataplane_is_away(False)
    threading.Event().wait(0.4)
    assert is_open(fd)  # it was back in time
    taps.dataplane_is_away(True)
    wait_until(lambda: not is_open(fd), "it is let go")
