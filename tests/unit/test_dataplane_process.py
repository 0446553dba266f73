"""The dataplane process: start, refusal to start, stop, and start after a crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dataplane import options
from dataplane.client import DataplaneClient, DataplaneUnavailable
from dataplane.unix_socket import who_serves
from dataplane.wire import NetworkSpec
from tests.smoke.ports import wait_until
from tests.unit import dataplane_process
from tests.unit.dataplane_process import (
    CORES,
    ROOT,
    START_TIMEOUT_S,
    Dataplane,
    command,
    needs_engine,
    running,
    vhost_port,
)

socket_dir = dataplane_process.socket_dir
dataplane = dataplane_process.dataplane


@needs_engine
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, "stop"])
def test_stop_gives_everything_back(socket_dir: Path, how: signal.Signals | str) -> None:
    with running(socket_dir) as dataplane:
        control = dataplane.client()
        control.network_add(NetworkSpec("pods"))
        control.port_add(vhost_port(socket_dir))
        if isinstance(how, signal.Signals):
            dataplane.process.send_signal(how)
        else:
            control.stop()
        assert dataplane.process.wait(START_TIMEOUT_S) == 0
        assert list(socket_dir.iterdir()) == []
        with pytest.raises(DataplaneUnavailable, match="is the dataplane running"):
            control.version()


@needs_engine
def test_dead_dataplane_s_sockets_are_replaced(socket_dir: Path) -> None:
    with running(socket_dir) as dataplane:
        control = dataplane.client()
        control.network_add(NetworkSpec("pods"))
        control.port_add(vhost_port(socket_dir))
        first = control.version()["instance"]
        dataplane.process.kill()
        dataplane.process.wait()
        assert sorted(p.name for p in socket_dir.iterdir()) == ["dataplane.sock", "v1.sock"]
        with running(socket_dir):
            assert control.version()["instance"] != first
            control.network_add(NetworkSpec("pods"))
            control.port_add(vhost_port(socket_dir))
        control.close()


@needs_engine
def test_outlives_the_reader_of_its_log(socket_dir: Path) -> None:
    read_fd, write_fd = os.pipe()
    process = subprocess.Popen(
        command(str(socket_dir / "d.sock"), "--ready-fd", str(write_fd), "--log-level", "debug"),
        cwd=ROOT,
        # Set, it would hide a buffer that cannot be flushed at exit.
        env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
        pass_fds=[write_fd],
        stderr=subprocess.PIPE,
    )
    os.close(write_fd)
    control = DataplaneClient(str(socket_dir / "d.sock"))
    try:
        with os.fdopen(read_fd) as ready:
            assert ready.readline() == "ready\n"
        assert process.stderr
        process.stderr.close()
        control.network_add(NetworkSpec("pods"))
        control.port_add(vhost_port(socket_dir))
        control.port_del("pod:c1/eth0")
        assert control.version()["pid"] == process.pid
    finally:
        control.close()
        process.terminate()
        assert process.wait(START_TIMEOUT_S) == 0


@needs_engine
@pytest.mark.parametrize("options", [[], ["--only-if-awaited"]])
def test_nobody_waits_for_it_any_more(socket_dir: Path, options: list[str]) -> None:
    """As it is with an agent that is killed while its dataplane starts."""
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    path = socket_dir / "d.sock"
    process = subprocess.Popen(
        command(str(path), "--ready-fd", str(write_fd), *options),
        cwd=ROOT,
        pass_fds=[write_fd],
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write_fd)
    if options:
        _, words = process.communicate(timeout=START_TIMEOUT_S)
        assert process.returncode == 2
        assert "who started it is gone" in words
        assert not path.exists()
        return
    with process:
        try:
            wait_until(lambda: who_serves(str(path)) is not None, "it to serve", START_TIMEOUT_S)
        finally:
            process.terminate()


def failed_start(path: str, *given: str) -> str:
    """Run a dataplane that cannot start and give the one line that it says, on both channels."""
    read_fd, write_fd = os.pipe()
    with os.fdopen(read_fd) as ready:
        ended = subprocess.run(
            command(path, "--ready-fd", str(write_fd), *given),
            cwd=ROOT,
            pass_fds=[write_fd],
            stderr=subprocess.PIPE,
            text=True,
            timeout=START_TIMEOUT_S,
            check=False,
        )
        os.close(write_fd)
        said = ready.read()
    assert ended.returncode == 2, ended.stderr
    (line,) = (
        line for line in ended.stderr.splitlines() if line.startswith("cni-virtio-dataplane")
    )
    reason = line.removeprefix("cni-virtio-dataplane: ")
    assert said == f"error: {reason}\n"
    return reason


@needs_engine
def test_second_dataplane_on_one_socket(dataplane: Dataplane) -> None:
    pid = dataplane.process.pid
    assert failed_start(dataplane.path) == (
        f"another dataplane (pid {pid}) is already serving {dataplane.path}"
    )
    dataplane.assert_alive()


@needs_engine
def test_socket_path_taken_by_a_file(socket_dir: Path) -> None:
    path = socket_dir / "file"
    path.write_text("precious")
    assert failed_start(str(path)) == f"{path} exists and is not a socket: remove it"
    assert path.read_text() == "precious"


@needs_engine
def test_socket_directory_missing(socket_dir: Path) -> None:
    reason = failed_start(str(socket_dir / "gone" / "d.sock"))
    assert reason.startswith(f"the directory {socket_dir / 'gone'} cannot be used for a socket")


@pytest.mark.parametrize(
    ("given", "key", "value"),
    [
        ([], "socket", "/run/cni-virtio/dataplane.sock"),
        ([], "memory_mb", 512),
        ([], "huge", True),
        ([], "idle", "adaptive"),
        ([], "pci", ()),
        ([], "ready_fd", None),
        (["--no-huge"], "huge", False),
        (["--memory", "1Gi"], "memory_mb", 1024),
        (["--memory", "65536Ki"], "memory_mb", 64),
        (["--memory", "100M"], "memory_mb", 95),
        (["--memory", "33554432"], "memory_mb", 32),
        (["--cores", f"{CORES[0]}-{CORES[-1]}"], "cores", tuple(CORES)),
        (["--pci", "0000:3B:00.0", "--pci", "3c:00.1"], "pci", ("0000:3b:00.0", "3c:00.1")),
        (["--idle=poll"], "idle", "poll"),
        ([], "iova_mode", None),
        (["--iova-mode=pa"], "iova_mode", "pa"),
    ],
)
def test_options(given: list[str], key: str, value: object) -> None:
    cores = ["--cores", str(CORES[0])]
    assert getattr(options.parse([*cores, *given]), key) == value


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--socket", "rel.sock"], "--socket: must be an absolute path"),
        (["--socket", "/" + "a" * 108], "--socket: must be 1 to 107 bytes"),
        (["--cores", "4095"], "--cores: core 4095 is not among this process's cores"),
        (["--main-core", "4095"], "--main-core: core 4095 is not among"),
        (["--main-core", "x"], "--main-core: invalid int value: 'x'"),
        (["--cores", "one"], "--cores: 'one' is no list of cores"),
        (["--cores", ""], "--cores: '' is no list of cores"),
        (["--cores", "0,0"], "--cores: '0,0' names a core twice"),
        (["--cores", "3-1"], "--cores: '3-1' names a core twice, or none"),
        (["--memory", "lots"], "--memory: 'lots' is no size"),
        (["--memory", "-1"], "--memory"),
        (["--memory", "1Mi"], "--memory: 1Mi is less than 16Mi"),
        (["--idle", "never"], "--idle: invalid choice: 'never'"),
        (["--pci", "eth0"], "--pci: 'eth0' is no PCI address"),
        (["--iova-mode", "dc"], "--iova-mode: invalid choice: 'dc'"),
        (["--log-level", "loud"], "--log-level: invalid choice: 'loud'"),
        (["--turbo"], "unrecognized arguments: --turbo"),
    ],
)
def test_bad_options(given: list[str], words: str) -> None:
    assert words in failed_start("/nonexistent/d.sock", *given)


def test_bad_ready_fd() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "dataplane", "--ready-fd", "999"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr == "cni-virtio-dataplane: --ready-fd: 999 is not an open file descriptor\n"
