"""What an application can do with the folder of its vhost-user sockets, which is its own."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.smoke.agent import Node, node
from tests.smoke.netns import Netns
from tests.smoke.ports import wait_until

UID = 1234
RACE_S = 2.0
RECONNECT_S = 1.0  # librte_vhost's
ARGS = "IgnoreUnknown=1;K8S_POD_UID=hostile"

# Puts at each moment something else where the socket should be.
SWAPPER = """
import contextlib, itertools, os, shutil, socket, sys, time
folder, target_socket, target_file, seconds = sys.argv[1:]
os.chdir(folder)
kept, deadline = [], time.monotonic() + float(seconds)
def bound():
    with socket.socket(socket.AF_UNIX) as one: one.bind("next")
def listening():
    one = socket.socket(socket.AF_UNIX)
    one.bind("next"); one.listen(); kept[:] = [*kept[-8:], one]
makers = [bound, lambda: os.symlink(target_socket, "next"), listening, lambda: os.mkdir("next"),
          lambda: os.symlink(target_file, "next"), lambda: os.link(target_socket, "next"),
          lambda: os.symlink("..", "next"), lambda: os.link("eth0.sock", "next")]
def clear(name):
    with contextlib.suppress(OSError):
        (os.rmdir if os.path.isdir(name) and not os.path.islink(name) else os.unlink)(name)
for maker in itertools.cycle(makers):
    if time.monotonic() > deadline: break
    clear("next")
    with contextlib.suppress(OSError):
        maker()
        if os.path.isdir("next") or os.path.isdir("eth0.sock"): clear("eth0.sock")
        os.rename("next", "eth0.sock")
"""


@pytest.fixture(scope="module")
def here() -> Iterator[Node]:
    with node() as one:
        yield one
        assert one.left_over() == {}


@dataclass(frozen=True)
class Target:
    """What no application may reach: a socket and a file of root's."""

    listener: socket.socket
    socket: Path
    file: Path

    def assert_untouched(self) -> None:
        with pytest.raises(BlockingIOError):
            self.listener.accept()
        for path in (self.socket, self.file):
            found = path.lstat()
            assert (found.st_uid, found.st_mode & 0o777) == (0, 0o640)
        assert self.file.read_text() == "precious"


@pytest.fixture
def target(here: Node) -> Iterator[Target]:
    socket_path, file = here.directory / "target.sock", here.directory / "target"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
        listener.listen(1000)
        listener.setblocking(False)
        file.write_text("precious")
        for path in (socket_path, file):
            path.chmod(0o640)
        yield Target(listener, socket_path, file)
    socket_path.unlink()
    file.unlink()


@pytest.fixture
def folder(here: Node, a: Netns) -> Iterator[Path]:
    """The folder of a pod that has one good attachment, for as long as the test."""
    keys = vhost_user("client")
    answer = here.call("ADD", "keeper", a, ifname="keep0", **keys)
    path = Path(answer.body["interfaces"][0]["socketPath"]).parent
    here.directory.chmod(0o711)
    yield path
    assert here.call("DEL", "keeper", a, ifname="keep0", **keys).status == 0
    assert not path.exists()


def vhost_user(mode: str) -> dict[str, Any]:
    return {
        "interface": "vhost-user",
        "vhostUser": {"mode": mode, "uid": UID, "gid": UID},
        "args": ARGS,
        "ipam": None,
    }


@contextmanager
def swapping(folder: Path, target: Target) -> Iterator[subprocess.Popen[bytes]]:
    words = ["-c", SWAPPER, str(folder), str(target.socket), str(target.file), str(RACE_S)]
    with subprocess.Popen(
        ["/usr/bin/python3", *words], user=UID, group=UID, extra_groups=[], cwd="/"
    ) as swapper:
        yield swapper
        assert swapper.wait() == 0


def test_a_folder_full_of_traps_leads_nowhere(
    here: Node, a: Netns, folder: Path, target: Target
) -> None:
    before = here.status()["dataplane"]["pid"]
    added, reasons = 0, set()
    with swapping(folder, target) as swapper:
        while swapper.poll() is None:
            for mode in ("client", "server"):
                answer = here.call("ADD", "c1", a, **vhost_user(mode))
                if answer.status == 0:
                    added += 1
                else:
                    reasons.add(answer.body["msg"])
                assert here.call("DEL", "c1", a, **vhost_user(mode)).status == 0
    assert added > 20
    target.assert_untouched()
    assert {reason for reason in reasons if "/hostile/eth0.sock" not in reason} == set()
    assert (folder.stat().st_uid, folder.stat().st_mode & 0o777) == (UID, 0o700)
    for path in (folder.parent, here.directory, here.socket, here.directory / "dataplane.sock"):
        assert path.lstat().st_uid == 0
    assert here.status()["dataplane"]["pid"] == before
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("eth0.sock", "next"):
            if Path(name).is_dir() and not Path(name).is_symlink():
                Path(name).rmdir()
            Path(name).unlink(missing_ok=True)
    assert here.call("ADD", "c1", a, **vhost_user("client")).status == 0
    assert (folder / "eth0.sock").stat().st_uid == UID
    assert here.call("DEL", "c1", a, **vhost_user("client")).status == 0


def test_an_application_s_socket_is_its_own_or_none(
    here: Node, a: Netns, folder: Path, target: Target
) -> None:
    """The dataplane connects to what an application serves: not to what others do."""
    (folder / "link0.sock").symlink_to(target.socket)
    os.link(target.socket, folder / "hard0.sock")
    (folder / "fold0.sock").symlink_to(target.socket.parent)
    with ExitStack() as stack:
        others = listening(stack, folder / "other0.sock", 4321)
        own = listening(stack, folder / "eth0.sock", UID)
        names = ("link0", "hard0", "fold0", "other0", "eth0")
        for name in names:
            added = here.call("ADD", "c1", a, ifname=name, **vhost_user("server"))
            assert added.status == 0, added.body
        connected = own.accept()[0]  # the last: the others have had their first try
        time.sleep(RECONNECT_S + 0.2)
        with pytest.raises(BlockingIOError):
            others.accept()
        connected.close()
        (folder / "link0.sock").unlink()
        late = listening(stack, folder / "link0.sock", UID)
        late.settimeout(3 * RECONNECT_S)
        late.accept()[0].close()
        for name in names:
            assert here.call("DEL", "c1", a, ifname=name, **vhost_user("server")).status == 0
    target.assert_untouched()


def listening(stack: ExitStack, path: Path, uid: int) -> socket.socket:
    listener = stack.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(str(path))
    os.chown(path, uid, uid)
    path.chmod(0o666)
    listener.listen()
    if uid == UID:
        listener.settimeout(5)
    else:
        listener.setblocking(False)
    return listener


def test_what_both_processes_make_is_theirs_alone(here: Node, a: Netns) -> None:
    pids = [here.process.pid if here.process else 0, here.status()["dataplane"]["pid"]]
    for pid in pids:
        assert "Umask:\t0077\n" in Path(f"/proc/{pid}/status").read_text()
    info = here.directory / "info" / "device.json"
    keys = vhost_user("client") | {"ipam": here.conf()["ipam"]}
    keys |= {"runtimeConfig": {"CNIDeviceInfoFile": str(info)}}
    assert here.call("ADD", "c1", a, **keys).status == 0
    wait_until(info.exists, "the device information")
    modes = {
        here.directory / "state": 0o700,
        here.directory / "vhost": 0o711,
        here.socket: 0o600,
        here.directory / "dataplane.sock": 0o600,
        info.parent: 0o755,  # for whoever the runtime tells of it
        info: 0o644,
        here.directory / "ipam": 0o755,  # made by a plugin, as if a runtime had run it
    }
    for path, mode in modes.items():
        assert (path.stat().st_mode & 0o777, path.stat().st_uid) == (mode, 0), path
    for path in (here.directory / "state").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    assert here.call("DEL", "c1", a, **keys).status == 0
