"""The doctor's own robustness, and what no test can do to a real machine."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cni_virtio import __version__
from cni_virtio.config_checks import Machine
from cni_virtio.ctl.doctor import agent, kernel, memory, shim
from cni_virtio.ctl.doctor.command import examine
from cni_virtio.ctl.doctor.finding import Check, Finding, NotCheckedError
from cni_virtio.ctl.doctor.networks import network_files
from cni_virtio.ctl.doctor.patient import Patient
from cni_virtio.state import Attachment

NIC = "0000:00:03.0"
MACHINE = Machine(frozenset({0, 1}), frozenset({0, 1}), 1 << 30)


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    """A node without an agent."""
    config = tmp_path / "agent.yaml"
    config.touch()
    socket = str(tmp_path / "agent.sock")
    return Patient(config, socket, tmp_path / "net.d", (tmp_path / "bin",), MACHINE)


def failing(error: Exception) -> Check:
    def look(_: Patient) -> Iterator[Finding]:
        yield Finding("first", "why", "remedy")
        raise error

    return Check("failing", "it works", look)


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (PermissionError(13, "Permission denied", "/x"), "cannot look: /x: Permission denied"),
        (OSError(5, "Input/output error", "/x"), "[Errno 5] Input/output error: '/x'"),
    ],
)
def test_a_check_that_fails_is_a_finding(patient: Patient, error: OSError, what: str) -> None:
    (finding,) = examine(failing(error), patient).findings
    assert finding.what == what


def test_a_check_may_have_nothing_to_go_by(patient: Patient) -> None:
    assert examine(failing(NotCheckedError("no agent")), patient).skipped == "no agent"


def with_answer(patient: Patient, **status: Any) -> Patient:
    vars(patient)["_answer"] = ({"version": __version__} | status, "")
    return patient


def test_an_adopted_dataplane_of_another_version(patient: Patient) -> None:
    running = {"running": True, "version": "0.0.9"}
    (finding,) = shim.versions(with_answer(patient, dataplane=running))
    assert finding.what == f"the dataplane is 0.0.9, the agent {__version__}"
    assert finding.why.startswith("they work together only within one minor version")
    running["version"] = f"{__version__}.1"
    (finding,) = shim.versions(with_answer(patient, dataplane=running))
    assert finding.why.startswith("that works within one minor version")
    running["version"] = __version__
    assert list(shim.versions(with_answer(patient, dataplane=running))) == []


@pytest.mark.parametrize("supervisor", ["agent", "other"])
def test_the_remedy_is_who_starts_the_dataplane(patient: Patient, supervisor: str) -> None:
    assert patient.config_file
    patient.config_file.write_text(f"dataplane: {{supervised_by: {supervisor}, memory: 64Mi}}")
    message = "the running dataplane differs: idle poll, configured adaptive; stop it to have it"
    memory_is = {"huge": False}
    running = {"running": True, "version": "0.0.9", "memory": memory_is}
    with_answer(patient, dataplane=running, messages=[message])
    vars(patient)["dataplane_pid"] = 4711
    by_agent = supervisor == "agent"
    means = "run `cni-virtioctl upgrade`: " if by_agent else "restart cni-virtio-dataplane "
    for look in (agent.dataplane, memory.hugepages, shim.versions):
        (finding,) = look(patient)
        assert means in finding.remedy
    running["running"] = False
    (finding,) = agent.dataplane(patient)
    assert ("the agent starts it again" in finding.remedy) == by_agent
    assert ("its supervisor starts it" in finding.remedy) == (not by_agent)


def test_a_dataplane_on_the_installed_dpdk(patient: Patient) -> None:
    running = {"running": True, "frontends_guarded": False}
    (finding,) = agent.dataplane(with_answer(patient, dataplane=running))
    assert "DPDK=system" in finding.what
    running["frontends_guarded"] = True
    assert list(agent.dataplane(with_answer(patient, dataplane=running))) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="looks into every process")
def test_a_namespace_without_a_path_that_is_in_use_is_not_gone(
    patient: Patient, tmp_path: Path
) -> None:
    inside = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
    assert inside.stdin
    with inside, inside.stdin:
        netns = Path(f"/proc/{inside.pid}/ns/net")
        deadline_s = time.monotonic() + 10
        while netns.stat().st_ino == Path("/proc/self/ns/net").stat().st_ino:
            assert time.monotonic() < deadline_s
        one = Attachment("pods", "pods", "c1", "eth0", netns=str(tmp_path / "unmounted"))
        vars(patient)["attachments"] = [
            replace(one, netns_inode=netns.stat().st_ino, netns_seen=True)
        ]
        assert list(agent.attachments(patient)) == []
    (finding,) = agent.attachments(patient)
    assert finding.what.startswith("1 of 1 attachments have lost their namespace")


def test_memory_that_the_machine_lacks(patient: Patient) -> None:
    assert patient.config_file
    patient.config_file.write_text("dataplane: {memory: 2Gi}")
    found = [finding.what for finding in memory.hugepages(patient)]
    assert "2048Mi are more than this machine has (1024Mi)" in found[0]


def test_nics_of_every_kind(patient: Patient, tmp_path: Path) -> None:
    """sysfs as the kernel shows it; the tests in the VM do the same with a real NIC."""
    assert patient.config_file
    patient.config_file.write_text(f'uplinks: [{{name: wire0, device: "{NIC}"}}]')
    device, drivers = tmp_path / "devices" / NIC, tmp_path / "drivers"
    device.parent.mkdir()
    patient.here = replace(MACHINE, pci_devices=device.parent)

    def remedies() -> list[str]:
        return [finding.remedy.partition(" (")[0] for finding in kernel.nics(patient)]

    (drivers / "vfio-pci").mkdir(parents=True)
    assert remedies() == ["cni-virtioctl uplink list"]
    device.mkdir()
    *_, iommu, bind = remedies()
    assert "intel_iommu=on" in iommu
    assert bind == f"cni-virtioctl uplink bind {NIC}"
    (device / "iommu_group").symlink_to(tmp_path)
    assert remedies() == [bind]
    (device / "driver").symlink_to(drivers / "vfio-pci")
    assert remedies() == []
    (device / "iommu_group").unlink()
    assert remedies() == [iommu]


def test_the_first_folder_with_a_plugin_counts(patient: Patient, tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
    patient.cni_bin_dirs = (first, second)
    assert patient.plugin("x") is None
    (second / "x").touch()
    assert patient.plugin("x") == second / "x"
    (first / "x").touch()
    assert patient.plugin("x") == first / "x"


def test_a_lone_plugin_is_a_network_too(tmp_path: Path) -> None:
    conf = {"name": "pods", "type": "cni-virtio", "cniVersion": "0.4.0"}
    (tmp_path / "10-pods.conf").write_text(json.dumps(conf))
    (file,) = network_files(tmp_path)
    assert (file.error, file.ours) == ("", [conf])


def test_without_a_socket_folder_or_networks_nothing_breaks(patient: Patient) -> None:
    assert patient.network_files == []
    assert patient.attachments == []
    assert patient.agent_pid is None
