"""The agent's start: what keeps it from starting is one clear line, and a status for scripts."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cni_virtio.agent import join_all
from cni_virtio.backend import VHOST_NET

ROOT = Path(__file__).parents[2]


def start(config: Path, *options: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "cni_virtio", "--config", str(config), *options],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("agent: {sockett: /x}", "agent.sockett: "),
        ("dataplane: {cores: [1000]}", "dataplane.cores[0]: "),
        ("uplinks: [{name: a, device: 'af_xdp:nope0'}]", 'there is no interface "nope0"'),
        ("dataplane: {supervised_by: systemd}", "dataplane.supervised_by: "),
        ("networks: [{name: a}, {name: a}]", '"a" is the name of networks[0] already'),
        (
            "uplinks: [{name: a, device: net_null0, exception: {queues: 65}}]",
            "uplinks[0].exception.queues: 65 is more than the maximum of ",
        ),
        ("agent: [", "agent.yaml:"),
    ],
)
def test_a_bad_configuration_is_one_line_and_status_2(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text(text)
    status, stderr = start(config)
    assert status == 2
    assert stderr.startswith(str(config))
    assert said in stderr
    assert stderr.count("\n") == 1


@pytest.mark.skipif(VHOST_NET.exists(), reason="this machine has vhost-net")
def test_vhost_net_where_there_is_none_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text("agent: {}\ndataplane: {backend: vhost-net}\n")
    status, stderr = start(config)
    assert status == 2
    reason = "/dev/vhost-net is missing: modprobe vhost_net"
    assert stderr == f'{config}:2: dataplane.backend: "vhost-net": {reason}\n'


def test_a_missing_file_is_one_line_and_status_2(tmp_path: Path) -> None:
    status, stderr = start(tmp_path / "agent.yaml")
    assert status == 2
    assert str(tmp_path / "agent.yaml") in stderr
    assert stderr.count("\n") == 1


def test_a_second_agent_on_the_same_state_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text(f"agent: {{state_dir: {tmp_path}/state, socket: {tmp_path}/a.sock}}\n")
    (tmp_path / "state").mkdir()
    fd = os.open(tmp_path / "state", os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        status, stderr = start(config)
    finally:
        os.close(fd)
    assert status == 1
    assert stderr == f"{config}: agent.state_dir: another agent works on {tmp_path}/state\n"


def test_a_state_folder_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = tmp_path / "agent.yaml"
    config.write_text(f"agent: {{state_dir: {tmp_path}/file/state, socket: {tmp_path}/a.sock}}\n")
    status, stderr = start(config)
    assert status == 1
    assert f"{tmp_path}/file/state" in stderr
    assert stderr.count("\n") == 1


def test_a_dataplane_that_cannot_be_run_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = tmp_path / "agent.yaml"
    config.write_text(f"agent: {{state_dir: {tmp_path}/file/state}}\n")
    status, stderr = start(config, "--run-dataplane")
    assert status == 1
    assert stderr.startswith(f"{config}: the dataplane cannot be run: ")
    assert stderr.count("\n") == 1


def test_what_does_not_end_is_named_and_left(caplog: pytest.LogCaptureFixture) -> None:
    ended, hangs = threading.Event(), threading.Event()
    ended.set()
    threads = [
        threading.Thread(target=event.wait, name=name)
        for name, event in (("hangs", hangs), ("ends", ended))
    ]
    for thread in threads:
        thread.start()
    start_s = time.monotonic()
    try:
        join_all(threads, start_s + 0.2)
        assert time.monotonic() - start_s < 2
    finally:
        hangs.set()
    assert [record.getMessage() for record in caplog.records] == [
        "hangs: still at work, and not waited for any longer"
    ]
