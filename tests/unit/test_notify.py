"""What agent and dataplane tell systemd, over a real NOTIFY_SOCKET."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cni_virtio.sign_of_life import SignOfLife
from dataplane import probe
from dataplane.notify import Notifier
from tests.unit.dataplane_process import (
    ROOT,
    START_TIMEOUT_S,
    command,
    needs_engine,
    needs_root,
    short_directory,
)
from tests.unit.ptrace import held, thread_named
from tests.unit.supervisor_socket import SupervisorSocket, supervisor_socket

WATCHDOG_S = 0.8


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as path:
        yield path


@pytest.fixture
def supervisor(directory: Path) -> Iterator[SupervisorSocket]:
    with supervisor_socket(directory) as one:
        yield one


def test_messages(supervisor: SupervisorSocket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": supervisor.address})
    notifier.ready("two\nlines")
    assert supervisor.hear() == {"READY": "1", "STATUS": "two lines"}
    notifier.status("fine")
    assert supervisor.hear() == {"STATUS": "fine"}
    notifier.alive()
    assert supervisor.hear() == {"WATCHDOG": "1"}
    notifier.stopping()
    assert supervisor.hear() == {"STOPPING": "1", "STATUS": "stopping"}


def test_abstract_address() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0cni-virtio-test-{os.getpid()}")
        sock.settimeout(5)
        Notifier({"NOTIFY_SOCKET": f"@cni-virtio-test-{os.getpid()}"}).alive()
        assert sock.recv(64) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1500000"}, 1.5),
        (
            {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())},
            1.5,
        ),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, None),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "0"}, None),
        ({"NOTIFY_SOCKET": "/x"}, None),
        ({"WATCHDOG_USEC": "1500000"}, None),
    ],
)
def test_the_environment(environment: dict[str, str], watchdog_s: float | None) -> None:
    left = {"PATH": "/bin"} | environment
    assert Notifier(left).watchdog_s == watchdog_s
    assert left == {"PATH": "/bin"}


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nonexistent/notify"}])
def test_nobody_listens(environment: dict[str, str]) -> None:
    Notifier(environment).ready("nobody hears it")


@contextmanager
def supervised(words: list[str], supervisor: SupervisorSocket) -> Iterator[subprocess.Popen[str]]:
    """Run a process as systemd would; it must end in order."""
    watchdog = {"NOTIFY_SOCKET": supervisor.address, "WATCHDOG_USEC": f"{WATCHDOG_S * 1e6:.0f}"}
    process = subprocess.Popen(words, cwd=ROOT, env=os.environ | watchdog, text=True)
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert supervisor.hear_until("STOPPING")["STATUS"] == "stopping"
        assert process.wait(START_TIMEOUT_S) == 0
    finally:
        process.kill()
        process.wait()


@needs_engine
@needs_root
def test_a_worker_that_stands_still_is_noticed(
    directory: Path, supervisor: SupervisorSocket
) -> None:
    path = str(directory / "d.sock")
    with supervised(command(path), supervisor) as process:
        assert supervisor.hear_until("READY")["STATUS"].startswith(f"serving {path}, workers on")
        supervisor.hear_until("WATCHDOG")
        assert supervisor.count("WATCHDOG", 2 * WATCHDOG_S) >= 2
        assert probe.main(["--socket", path]) == 0
        with held(thread_named(process.pid, "rte-worker")):
            supervisor.count("WATCHDOG", WATCHDOG_S / 2)  # the round that it was in
            assert supervisor.count("WATCHDOG", 2 * WATCHDOG_S) == 0
            assert "do not move" in probe.problem(path, 0.5)
        assert supervisor.count("WATCHDOG", 2 * WATCHDOG_S) >= 2
        assert probe.problem(path) == ""
    assert "nothing listens there" in probe.problem(path)
    assert probe.main(["--socket", path]) == 1


AGENT = """
agent: {{socket: {0}/agent.sock, state_dir: {0}/state, socket_dir: {0}/vhost}}
dataplane: {{socket: {0}/d.sock, supervised_by: other}}
"""


@needs_root
def test_the_agent_says_how_it_does(directory: Path, supervisor: SupervisorSocket) -> None:
    config = directory / "agent.yaml"
    config.write_text(AGENT.format(directory))
    words = [sys.executable, "-m", "cni_virtio", "--config", str(config)]
    with supervised(words, supervisor):
        assert supervisor.hear_until("READY")["STATUS"] == f"serving {directory}/agent.sock"
        assert "it is starting" in supervisor.hear_until("STATUS")["STATUS"]
        said = supervisor.hear_until("STATUS")["STATUS"]
        assert said.startswith(f"0 attachments; dataplane down: nothing serves {directory}/d.sock")
        assert supervisor.count("WATCHDOG", 2 * WATCHDOG_S) >= 2


def test_an_agent_that_does_not_answer_gives_no_sign(
    directory: Path, supervisor: SupervisorSocket
) -> None:
    watchdog = {"NOTIFY_SOCKET": supervisor.address, "WATCHDOG_USEC": "400000"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as deaf:
        deaf.bind(str(directory / "agent.sock"))
        deaf.listen()
        SignOfLife(directory / "agent.sock", Notifier(watchdog)).give()
    with pytest.raises(TimeoutError):
        supervisor.hear(0.01)
