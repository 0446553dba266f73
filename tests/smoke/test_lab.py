"""Labs end to end: shim, agent and dataplane as a runtime and an operator meet them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cni_virtio.ctl import checks
from cni_virtio.ctl.lab import Lab, LabError, PluginError
from cni_virtio.ctl.lab.paths import BASE, LabPaths
from cni_virtio.ctl.lab.processes import inside

LABS = Path(__file__).parents[1] / "lab"
NETNS = Path("/run/netns")


def left_of(lab: Lab) -> list[str]:
    spaces = [str(path) for path in NETNS.glob(f"{lab.name}-*")]
    return spaces + [str(lab.paths.root)] * lab.paths.root.exists()


@pytest.mark.parametrize("name", ["pair", "uplinks"])
def test_everyone_reaches_everyone(name: str) -> None:
    with Lab.from_file(LABS / f"{name}.yaml") as lab:
        for version in (4, 6):
            mesh = lab.ping_matrix(version)
            assert mesh.ok, mesh.failed
        for attachment in lab.attachments():
            lab.check(attachment)
    assert left_of(lab) == []
    assert lab.notes == []


def test_applications_come_back() -> None:
    """Both socket modes, after the application and after the dataplane were killed."""
    with Lab.from_file(LABS / "apps.yaml") as lab:
        names = ("client", "server")

        def answers(name: str) -> bool:
            return checks.wait_for_answer(lab, "c1", lab.address(name))

        assert all(answers(name) for name in names)
        for name in names:
            for pid in lab.app_pids(name):
                os.kill(pid, signal.SIGKILL)
            lab.stop_app(name)
            lab.start_app(name)
            assert answers(name)
        os.kill(lab.dataplane_pid, signal.SIGKILL)
        assert answers("server")  # a client of virtio-user does not connect again by itself
        lab.stop_app("client")
        lab.start_app("client")
        assert answers("client")
    assert left_of(lab) == []


def test_containers_come_and_go() -> None:
    with Lab.from_file(LABS / "pair.yaml") as lab:
        lab.add_container({"name": "late", "network": "pods", "queues": 2})
        assert checks.ping(lab, "late", lab.address("a")).ok
        lab.remove_container("late")
        assert [port["spec"]["name"] for port in lab.query("ports")["ports"]] == [
            "pod:pair-a/eth0",
            "pod:pair-b/eth0",
        ]
        with pytest.raises(PluginError, match="mtu"):
            lab.add_container({"name": "bad", "network": "pods", "netconf": {"mtu": 1}})
        with pytest.raises(LabError, match="exists"):
            Lab.from_file(LABS / "pair.yaml").up()
    assert left_of(lab) == []


def test_failing_up_leaves_nothing() -> None:
    lab = Lab.from_dict(
        {
            "name": "failing",
            "networks": [{"name": "pods"}],
            "containers": [
                {"name": "good", "network": "pods"},
                {"name": "bad", "network": "pods", "netconf": {"ipam": {"type": "no-such-ipam"}}},
            ],
        }
    )
    with pytest.raises(PluginError, match="no-such-ipam"):
        lab.up()
    assert left_of(lab) == []


def test_down_after_up_was_killed() -> None:
    command = [sys.executable, "-c", "from cni_virtio.ctl import main; main()"]
    root = BASE / "apps"
    with subprocess.Popen([*command, "lab", "up", str(LABS / "apps.yaml")]) as up:
        deadline = time.monotonic() + 30
        while not LabPaths(root).agent_socket.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        up.kill()
    lab = Lab.existing(root)
    spaces = [NETNS / "apps-host"]
    assert inside(spaces)
    lab.down()
    assert left_of(lab) == []


def test_agent_that_cannot_start_is_quoted() -> None:
    lab = Lab.from_dict(
        {
            "name": "coreless",
            "dataplane": {"cores": [1000]},
            "networks": [{"name": "pods"}],
            "containers": [],
        }
    )
    with pytest.raises(LabError, match=r"status 2.*\n.*core 1000 does not exist"):
        lab.up()
    assert left_of(lab) == []
