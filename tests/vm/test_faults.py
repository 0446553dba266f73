"""What is missing or in the way: one clear line each time, with what to do about it."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from cni_virtio.config import ConfigError, load
from cni_virtio.ctl.cli import cli
from cni_virtio.pci import Binder
from dataplane.client import DataplaneError
from dataplane.specs import EthdevSpec, NetworkSpec, PortSpec
from tests.smoke.agent import containers, node
from tests.smoke.netns import netns
from tests.smoke.topology import dataplane_in_host
from tests.unit.dataplane_process import NOBODY
from tests.vm.pci import driver
from tests.vm.wire import E1000E

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.smoke.agent import Node

VHOST_NET = Path("/dev/vhost-net")
DEMANDED = "dataplane: {backend: vhost-net}\n"


@contextmanager
def without_vhost_net() -> Iterator[None]:
    away = VHOST_NET.with_name("vhost-net-away")
    VHOST_NET.rename(away)
    try:
        yield
    finally:
        away.rename(VHOST_NET)


def refusal(directory: Path, text: str) -> str:
    """Give the line in which a configuration is refused."""
    file = directory / "agent.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load(file)
    line = str(raised.value)
    assert "\n" not in line
    return line.removeprefix(f"{file}:")


def test_vhost_net_is_missing(tmp_path: Path) -> None:
    with without_vhost_net():
        line = refusal(tmp_path, DEMANDED)
    assert re.fullmatch(
        r'1: dataplane.backend: "vhost-net": /dev/vhost-net is missing: modprobe vhost_net', line
    )


def test_vhost_net_may_not_be_opened(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    VHOST_NET.chmod(0o600)
    (tmp_path / "agent.yaml").touch(0o666)
    (tmp_path / "agent.yaml").chmod(0o666)
    for folder in tmp_path.parents[:2]:
        folder.chmod(0o755)
    os.seteuid(NOBODY)
    try:
        line = refusal(tmp_path, DEMANDED)
    finally:
        os.seteuid(0)
    assert "/dev/vhost-net may not be opened: allow the device to this user" in line


def test_auto_falls_back_and_says_so() -> None:
    with without_vhost_net(), node("auto") as here:
        status = here.status()
        assert status["backend"] == "tap"
        assert status["backend_reason"] == (
            "vhost-net: /dev/vhost-net is missing: modprobe vhost_net"
        )
        with containers(1) as (space,):
            here.add("a", space)
            assert here.port("pod:a/eth0")["spec"]["kind"] == "tap"
            here.delete("a", space)


def test_nic_is_in_use_by_the_kernel(tmp_path: Path) -> None:
    address = E1000E.pci_address
    line = refusal(tmp_path, f'uplinks: [{{name: wire0, device: "{address}"}}]')
    assert re.fullmatch(
        rf'1: uplinks\[0\].device: "{address}" is in use by driver e1000e \(interface \w+\):'
        rf" cni-virtioctl uplink bind {address}",
        line,
    )
    assert run_ctl("uplink", "bind", address).startswith(f"{address} is bound to vfio-pci, was e10")
    assert driver(address) == "vfio-pci"
    assert run_ctl("uplink", "unbind", address).startswith(f"{address} is bound to e1000e (")
    assert driver(address) == "e1000e"


def test_the_way_out_is_taken_only_when_told() -> None:
    address, own = E1000E.pci_address, f"{E1000E.ip4(53)}/24"
    (ifname,) = Binder().find(address).interfaces
    lines = [f"link set {ifname} up", f"addr add {own} dev {ifname}"]
    for line in (*lines, f"route add default via {E1000E.far_ip4}"):
        subprocess.run(["ip", *line.split()], check=True)
    refused = CliRunner().invoke(cli, ["uplink", "bind", address])
    assert refused.exit_code == 1
    assert refused.output == (
        f"Error: {address}: interface {ifname} carries the default route;"
        " to take it nevertheless: --force\n"
    )
    assert driver(address) == "e1000e"
    assert f"gone with its interface: {own} and" in run_ctl("uplink", "bind", "--force", address)
    assert driver(address) == "vfio-pci"
    run_ctl("uplink", "unbind", address)


def run_ctl(*words: str) -> str:
    """Run cni-virtioctl here: starting one more Python takes its time in an emulated machine."""
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@contextmanager
def memory_regions(count: int) -> Iterator[None]:
    """Let vhost take no more regions of memory than that; nobody may be using it."""
    subprocess.run(["modprobe", "-r", "vhost_net", "vhost"], check=True)
    subprocess.run(["modprobe", "vhost", f"max_mem_regions={count}"], check=True)
    subprocess.run(["modprobe", "vhost_net"], check=True)
    try:
        yield
    finally:
        subprocess.run(["modprobe", "-r", "vhost_net", "vhost"], check=True)
        subprocess.run(["modprobe", "vhost_net"], check=True)


def test_memory_regions_are_exceeded() -> None:
    mac = "02:00:00:00:0c:02"
    arguments = f"path=/dev/vhost-net,queues=1,queue_size=256,iface=eth0,mac={mac}"
    ethdev = EthdevSpec(f"net_virtio_user_regions,{arguments}")
    spec = PortSpec("pod:a/eth0", "ethdev", "container", "pods", mac=mac, ethdev=ethdev)
    with memory_regions(0), dataplane_in_host() as (dataplane, _), netns() as space:
        fd = os.open(space.path, os.O_RDONLY | os.O_CLOEXEC)
        with dataplane.client_that_closes() as control:
            control.network_add(NetworkSpec("pods"))
            with pytest.raises(DataplaneError) as raised:
                control.port_add(spec, [fd])
            control.network_del("pods")
        os.close(fd)
    assert "\n" not in str(raised.value)
    assert "max_mem_regions" in str(raised.value)


def test_too_many_queues(here: Node, tmp_path: Path) -> None:
    with containers(1) as (space,):
        answer = here.call("ADD", "a", space, queues=9)
    assert answer.status == 1
    assert "9 is more than the maximum of 8 on vhost-net" in answer.body["msg"]
    assert "\n" not in answer.body["msg"]
    line = refusal(
        tmp_path,
        "dataplane: {backend: vhost-net}\n"
        "uplinks: [{name: a, device: 'net_null0', exception: {queues: 9}}]\n",
    )
    assert "2: uplinks[0].exception.queues: 9 is more than the maximum of 8 on vhost-net" in line
