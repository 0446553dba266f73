"""Links, and what else a container may put into its folder, lead nobody elsewhere."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from dataplane import beneath, unix_socket
from dataplane.wire import WireError
from tests.unit.dataplane_process import needs_root, short_directory

RACE_S = 0.7


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_directory() as path:
        (path / "own").mkdir()
        yield path


@contextmanager
def victim(path: Path) -> Iterator[socket.socket]:
    """A socket that nobody may be led to; accept() raises if nobody was."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1000)
        listener.setblocking(False)
        yield listener


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("link", errno.ELOOP),
        ("link/x", errno.ELOOP),
        ("../beside", errno.EXDEV),
        ("/etc/passwd", errno.EXDEV),
        ("none", errno.ENOENT),
    ],
)
def test_names_that_lead_out(folder: Path, name: str, number: int) -> None:
    (folder / "beside").touch()
    (folder / "own/link").symlink_to(folder)
    fd = beneath.open_folder(str(folder / "own"))
    try:
        with pytest.raises(OSError, match=os.strerror(number)) as refused:
            os.close(beneath.open_beneath(fd, name, os.O_PATH))
        assert refused.value.errno == number
    finally:
        os.close(fd)


def test_links_of_the_kernel_lead_nowhere_either() -> None:
    fd = beneath.open_folder(f"/proc/{os.getpid()}")
    try:
        for name in ("cwd", "root/etc", "fd/0"):
            with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
                beneath.open_entry(fd, name)
    finally:
        os.close(fd)


def test_a_folder_is_not_opened_through_a_link_in_its_place(folder: Path) -> None:
    (folder / "swapped").symlink_to(folder / "own")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        beneath.open_folder(str(folder / "swapped"))
    with pytest.raises(WireError, match="cannot be used for a socket"):
        unix_socket.remove_stale(str(folder / "swapped/eth0.sock"))


def test_what_is_held_is_what_was_looked_at(folder: Path) -> None:
    path = folder / "own/eth0.sock"
    with victim(folder / "victim") as other, socket.socket(socket.AF_UNIX) as own:
        own.bind(str(path))
        own.listen()
        fd = beneath.open_folder(str(path.parent))
        entry = beneath.open_entry(fd, path.name)
        path.unlink()
        path.symlink_to(folder / "victim")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(beneath.own_path(entry))
            own.accept()[0].close()
        os.close(entry)
        os.close(fd)
        with pytest.raises(BlockingIOError):
            other.accept()


@needs_root
@pytest.mark.parametrize("what", ["hard link", "link", "another's", "file", "nothing"])
def test_only_the_new_socket_is_handed_over(folder: Path, what: str) -> None:
    path = folder / "own/eth0.sock"
    with victim(folder / "victim"):
        if what == "hard link":
            os.link(folder / "victim", path)
        elif what == "link":
            path.symlink_to(folder / "victim")
        elif what == "another's":
            with socket.socket(socket.AF_UNIX) as other:
                other.bind(str(path))
            os.chown(path, 4321, 4321)
        elif what == "file":
            path.touch()
        before = (folder / "victim").stat()
        with pytest.raises(WireError, match=r"eth0\.sock: (is not|the new socket is gone)"):
            unix_socket.hand_over(str(path), 1234, 1234)
        after = (folder / "victim").stat()
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)


def test_nobody_is_led_elsewhere_by_a_swap(folder: Path) -> None:
    """Between the look and the connection, the socket becomes a link, again and again."""
    path, spare = folder / "own/eth0.sock", folder / "own/spare"
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            with socket.socket(socket.AF_UNIX) as stale:
                stale.bind(str(spare))
                spare.replace(path)
            spare.symlink_to(folder / "victim")
            spare.replace(path)

    with victim(folder / "victim") as other:
        thread = threading.Thread(target=swap)
        thread.start()
        deadline_s, rounds = time.monotonic() + RACE_S, 0
        try:
            while time.monotonic() < deadline_s:
                with suppress(WireError):  # a link is no socket
                    unix_socket.remove_stale(str(path))
                rounds += 1
        finally:
            stop.set()
            thread.join()
        with pytest.raises(BlockingIOError):
            other.accept()
        assert (folder / "victim").is_socket()
    assert rounds > 100
