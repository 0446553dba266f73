"""`cni-virtioctl doctor` where modules can be taken away, and a NIC from its driver."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.smoke.agent import Node
from tests.smoke.doctor import Practice
from tests.smoke.netns import netns
from tests.unit.dataplane_process import CORES, short_directory
from tests.vm.pci import driver
from tests.vm.wire import E1000E

ADDRESS = E1000E.pci_address
NO_AGENT = {"agent"}
MODULES = ("vhost_net", "tun", "vfio-pci")


@pytest.fixture
def one() -> Iterator[Practice]:
    """A node in good health but for its agent, which has not been started."""
    uplinks = f'uplinks: [{{name: wire0, device: "{ADDRESS}"}}]'
    with short_directory() as directory, netns() as host:
        found = Practice(Node(host, directory, backend="vhost-net", more_config=uplinks))
        found.furnish()
        found.here.write_config()
        yield found


def type_in(remedy: str) -> None:
    """Do what the doctor says, as far as it is a command."""
    command = remedy.partition(" (")[0].replace(
        "cni-virtioctl", str(Path(sys.executable).with_name("cni-virtioctl"))
    )
    subprocess.run(command.split(), check=True)


@pytest.fixture
def without_modules() -> Iterator[None]:
    """Unload the modules and give the NIC to its own driver; put all of it back at the end."""
    own = driver(ADDRESS)
    subprocess.run(["modprobe", "-r", *MODULES], check=True)
    try:
        yield
    finally:
        subprocess.run(["modprobe", "-a", *MODULES], check=True)
        if driver(ADDRESS) != own:
            type_in(f"cni-virtioctl uplink unbind {ADDRESS}")


@pytest.mark.usefixtures("without_modules")
def test_modules_and_driver_are_missing(one: Practice) -> None:
    own = driver(ADDRESS)
    report = one.see()
    assert set(report.findings) == NO_AGENT | {"tun", "vhost-net", "nics"}
    (tun,) = report.of("tun")
    assert tun["remedy"] == "modprobe tun"
    type_in(tun["remedy"])
    (backend,), (module, nic) = report.of("vhost-net"), report.of("nics")
    assert "/dev/vhost-net is missing" in backend["what"]
    assert "vfio-pci is not loaded" in module["what"]
    assert f"is in use by driver {own}" in nic["what"]
    type_in(backend["remedy"])
    type_in(module["remedy"])
    report = one.see()
    assert set(report.findings) == NO_AGENT | {"nics"}
    (nic,) = report.of("nics")
    type_in(nic["remedy"])
    assert set(one.see().findings) == NO_AGENT
    type_in(f"cni-virtioctl uplink unbind {ADDRESS}")
    assert driver(ADDRESS) == own


def test_a_core_is_offline(one: Practice) -> None:
    switch = Path(f"/sys/devices/system/cpu/cpu{CORES[-1]}/online")
    switch.write_text("0")
    try:
        (finding,) = one.see().of("cores")
    finally:
        switch.write_text("1")
        os.sched_setaffinity(0, CORES)  # the kernel takes it away with the core
    assert f"core {CORES[-1]} does not exist or is offline; online are 0" in finding["what"]
    assert finding["remedy"].startswith(f"echo 1 > {switch}, ")
    assert set(one.see().findings) - {"nics"} == NO_AGENT
