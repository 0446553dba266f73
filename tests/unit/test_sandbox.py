"""Which namespaces are gone, and which something still holds, on the real kernel."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from cni_virtio import netns, sandbox
from cni_virtio.state import Attachment

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")

HOLD_OPEN = "import sys; file = open(sys.argv[1]); print(flush=True); sys.stdin.read()"
WAIT = "import sys; print(flush=True); sys.stdin.read()"


@pytest.fixture
def path() -> Iterator[Path]:
    """The path of a namespace that the test may delete."""
    name = f"cvt-{uuid.uuid4().hex[:8]}"
    yield netns.create_named(name)
    netns.delete_named(name)


def attachment_in(path: Path, container: str = "c1") -> Attachment:
    fd = netns.open_netns(path)
    try:
        return Attachment(
            name="pods",
            network="pods",
            container_id=container,
            ifname="eth0",
            netns=str(path),
            netns_inode=netns.identity(fd),
            netns_cookie=netns.cookie(fd),
            netns_seen=True,
        )
    finally:
        os.close(fd)


def running(stack: ExitStack, *command: str) -> subprocess.Popen[str]:
    """Start a program that says when it is there and ends with its stdin."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    stack.callback(process.wait)
    assert process.stdin
    assert process.stdout
    stack.callback(process.stdout.close)
    stack.callback(process.stdin.close)
    process.stdout.readline()
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def test_no_namespace_has_the_cookie_of_another(path: Path) -> None:
    first = attachment_in(path)
    netns.delete_named(path.name)
    netns.create_named(path.name)
    assert attachment_in(path).netns_cookie not in (0, first.netns_cookie)


def test_the_path_leads_there(path: Path) -> None:
    assert sandbox.gone([attachment_in(path)], ()) == []


def test_nothing_holds_it(path: Path) -> None:
    attachment = attachment_in(path)
    netns.delete_named(path.name)
    assert sandbox.gone([attachment], ()) == [attachment]


def test_only_the_one_that_is_gone(path: Path) -> None:
    gone = attachment_in(path)
    netns.delete_named(path.name)
    netns.create_named(path.name)  # the kernel may well give it the same inode
    there = attachment_in(path, "c2")
    assert sandbox.gone([gone, there], ()) == [gone]


def test_another_namespace_of_the_same_inode(path: Path) -> None:
    there = attachment_in(path)
    former = replace(there, container_id="c0", netns_cookie=there.netns_cookie - 1)
    assert sandbox.gone([former, there], ()) == [former]


def test_a_record_without_cookie_goes_by_the_inode(path: Path) -> None:
    assert sandbox.gone([replace(attachment_in(path), netns_cookie=0)], ()) == []


def test_a_process_is_in_it(path: Path) -> None:
    with ExitStack() as stack:
        enter = ("nsenter", f"--net={path}")
        process = running(stack, *enter, sys.executable, "-c", WAIT)
        attachment = attachment_in(path)
        netns.delete_named(path.name)
        assert sandbox.gone([attachment], ()) == []
        end(process)
        assert sandbox.gone([attachment], ()) == [attachment]


def test_it_is_mounted_elsewhere(path: Path, tmp_path: Path) -> None:
    attachment = attachment_in(path)
    other = tmp_path / "net"
    other.touch()
    subprocess.run(["mount", "--bind", path, other], check=True)
    try:
        netns.delete_named(path.name)
        assert sandbox.gone([attachment], ()) == []
    finally:
        subprocess.run(["umount", other], check=True)
    assert sandbox.gone([attachment], ()) == [attachment]


def test_a_process_holds_it_open(path: Path) -> None:
    with ExitStack() as stack:
        process = running(stack, sys.executable, "-c", HOLD_OPEN, str(path))
        attachment = attachment_in(path)
        netns.delete_named(path.name)
        assert sandbox.gone([attachment], ()) == []
        assert sandbox.gone([attachment], {process.pid}) == [attachment]


def test_a_path_that_never_led_there_says_nothing(path: Path) -> None:
    attachment = replace(attachment_in(path), netns_seen=False)
    netns.delete_named(path.name)
    assert sandbox.gone([attachment], ()) == []


def test_visible(path: Path) -> None:
    fd = netns.open_netns(path)
    try:
        assert sandbox.is_visible(str(path), fd)
        assert not sandbox.is_visible("/proc/self/ns/net", fd)
        netns.delete_named(path.name)
        assert not sandbox.is_visible(str(path), fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize(("change", "able"), [("+sys_ptrace", "True"), ("-sys_ptrace", "False")])
def test_without_the_capability_nothing_can_be_told(change: str, able: str) -> None:
    program = "from cni_virtio import sandbox; print(sandbox.can_tell())"
    command = ["setpriv", f"--bounding-set={change}", sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == able
