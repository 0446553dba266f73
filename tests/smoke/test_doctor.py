"""`cni-virtioctl doctor` against an agent: each machine is broken, seen, mended and seen again."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cni_virtio import __version__
from tests.smoke.agent import Node, containers
from tests.smoke.doctor import RUN, Practice, practice
from tests.smoke.ports import wait_until
from tests.unit.dataplane_process import CORES, ROOT

PCI_DEVICES = Path("/sys/bus/pci/devices")
POOL = "/sys/kernel/mm/hugepages"


@pytest.fixture(scope="module")
def one() -> Iterator[Practice]:
    with practice() as found:
        found.assert_well()
        yield found


@pytest.fixture(autouse=True)
def well_once_mended(one: Practice) -> Iterator[None]:
    yield
    one.assert_well()


def test_all_is_well_in_one_line_a_check(one: Practice) -> None:
    done = subprocess.run(one.words(), capture_output=True, text=True, check=True)
    *checks, last = done.stdout.splitlines()
    assert {line.split()[0] for line in checks} == {"ok"}
    assert max(map(len, checks)) < 80
    assert last == "all is well"


def line_of(config: Path, key: str) -> int:
    texts = config.read_text().splitlines()
    return next(n for n, text in enumerate(texts, 1) if text.strip().startswith(f"{key}:"))


def test_for_people_a_fault_is_three_lines(one: Practice) -> None:
    config = one.variant("networks:", "nets:")
    line = line_of(config, "nets")
    done = subprocess.run(one.words(config=config), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"FAULT  config       {config}:{line}: nets: unknown key" in done.stdout
    assert done.stdout.count(" why: ") == done.stdout.count(" remedy: ") == 1
    assert done.stdout.endswith("1 fault found\n")


# --- kernel, memory, cores ------------------------------------------------------------------------


def test_dev_net_tun_is_missing(one: Practice) -> None:
    finding = one.see(broken="mount -t tmpfs none /dev/net").only("tun")
    assert finding["what"].startswith("/dev/net/tun is missing")
    assert finding["remedy"].endswith("mknod -m 0666 /dev/net/tun c 10 200")


def test_vhost_net_is_asked_for_and_missing(one: Practice) -> None:
    config = one.variant("backend: auto", "backend: vhost-net")
    hidden = "[ ! -e /dev/vhost-net ] || mount --bind /dev/null /dev/vhost-net"
    finding = one.see(config=config, broken=f"{{ {hidden}; }}").only("vhost-net")
    assert finding["what"].startswith(
        f'{config}:{line_of(config, "backend")}: dataplane.backend: "vhost-net": /dev/vhost-net'
    )
    assert finding["remedy"].startswith("modprobe vhost_net")


def test_a_nic_has_neither_driver_nor_iommu(one: Practice) -> None:
    nics = [path for path in PCI_DEVICES.glob("*") if not (path / "iommu_group").exists()]
    if not nics or Path("/sys/bus/pci/drivers/vfio-pci").exists():
        pytest.skip("no PCI device, or vfio-pci is here: the tests in the VM see to that")
    uplink = f'uplinks: [{{name: wire0, device: "{nics[0].name}"}}]'
    found = one.see(config=one.variant("networks:", f"{uplink}\nnetworks:")).of("nics")
    remedies = [finding["remedy"] for finding in found]
    assert remedies[0].startswith("modprobe vfio-pci")
    assert "intel_iommu=on" in remedies[1]
    assert remedies[2] == f"cni-virtioctl uplink bind {nics[0].name}"


def test_an_uplink_names_no_interface(one: Practice) -> None:
    uplink = "uplinks: [{name: wire0, device: 'af_xdp:gone0'}]"
    config = one.variant("networks:", f"{uplink}\nnetworks:")
    assert "no interface" in one.see(config=config).only("nics")["what"]
    one.here.host.ip("link add gone0 type veth peer gone1")
    try:
        assert one.see(config=config).findings == {}  # seen where the agent is, not here
    finally:
        one.here.host.ip("link del gone0")


def test_a_core_is_offline(one: Practice) -> None:
    config = one.variant(f"cores: [{CORES[-1]}]", "cores: [1023]")
    finding = one.see(config=config).only("cores")
    where = f"{config}:{line_of(config, 'cores')}: dataplane.cores[0]"
    assert finding["what"].startswith(f"{where}: core 1023 does not exist or is offline")
    assert finding["remedy"] == "name another core there"


@pytest.mark.skipif(len(CORES) < 2, reason="one core")
def test_a_core_is_not_open_to_the_agent(one: Practice) -> None:
    assert one.here.process
    pid = one.here.process.pid
    os.sched_setaffinity(pid, CORES[:1])
    try:
        finding = one.see().only("cores")
    finally:
        os.sched_setaffinity(pid, CORES)
    assert f"core {CORES[-1]} is not open" in finding["what"]


@pytest.mark.skipif(len(CORES) < 2, reason="one core")
def test_control_thread_and_worker_share_a_core(one: Practice) -> None:
    config = one.variant(f"cores: [{CORES[-1]}]", f"cores: [{CORES[0]}]")
    assert "is a worker's core too" in one.see(config=config).only("cores")["what"]


# --- agent and dataplane --------------------------------------------------------------------------


def test_the_yaml_is_broken(one: Practice) -> None:
    config = one.variant("memory: 128Mi", "memory: lots")
    report = one.see(config=config)
    where = f"{config}:{line_of(config, 'memory')}: dataplane.memory: "
    assert report.only("config")["what"].startswith(where)
    assert report.states["agent"] == "ok"  # found by what the networks say
    assert report.states["cores"] == "skipped"


def test_the_yaml_has_changed_since(one: Practice) -> None:
    file = one.here.directory / "agent.yaml"
    before = file.stat()
    os.utime(file, (before.st_atime, before.st_mtime + 3600))
    assert "has changed" in one.see().only("config")["what"]
    os.utime(file, (before.st_atime, before.st_mtime))


def test_the_agent_hangs(one: Practice) -> None:
    assert one.here.process
    one.here.process.send_signal(signal.SIGSTOP)
    try:
        finding = one.see().only("agent")
    finally:
        one.here.process.send_signal(signal.SIGCONT)
    assert "does not answer" in finding["what"]


def test_a_user_who_may_not_look(one: Practice) -> None:
    report = one.see_as_nobody()
    assert report.of("agent")[0]["remedy"] == "sudo cni-virtioctl doctor"


def test_the_dataplane_is_down(one: Practice) -> None:
    place = one.here.directory / "dataplane.sock"
    one.here.kill_dataplane()
    place.unlink()
    place.touch()
    wait_until(
        lambda: "is not a socket" in one.here.status()["dataplane"]["last_error"], "it fails"
    )
    finding = one.see().only("dataplane")
    assert f"{place} exists and is not a socket: remove it" in finding["what"]
    place.unlink()
    wait_until(lambda: one.here.status()["dataplane"]["running"], "it is back", 30)


def test_the_dataplane_is_not_as_configured(one: Practice) -> None:
    one.here.end(signal.SIGKILL)
    one.here.backend = "auto\n  idle: poll"
    one.here.start()
    finding = one.see().only("dataplane")
    assert finding["what"] == "the running dataplane differs: idle adaptive, configured poll"
    pid = one.here.status()["dataplane"]["pid"]
    assert finding["remedy"].startswith("run `cni-virtioctl upgrade`")
    subprocess.run([*RUN, "--socket", str(one.here.socket), "upgrade"], check=True)
    wait_until(lambda: one.here.status()["dataplane"]["pid"] not in (None, pid), "it is back", 30)
    one.assert_well()
    one.here.end()
    one.here.backend = "auto"
    one.here.start()


def test_open_files_run_out(one: Practice) -> None:
    pid = one.here.status()["dataplane"]["pid"]
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 10, before[1]))
    try:
        finding = one.see().only("open files")
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    assert f"its limit is {used + 10}" in finding["what"]


def test_the_node_does_not_forward(one: Practice) -> None:
    with containers(1) as (a,):
        one.here.add("a", a, isGateway=True)
        one.assert_well()
        for key, report in (
            ("net.ipv4.ip_forward", "net.ipv4.ip_forward is 0"),
            ("net.ipv6.conf.all.forwarding", "net.ipv6.conf.all.forwarding is 0"),
        ):
            one.here.host.run("sysctl", "-qw", f"{key}=0")
            assert one.see().only("forwarding")["what"].startswith(report)
            one.here.host.run("sysctl", "-qw", f"{key}=1")
        one.here.delete("a", a, isGateway=True)


def test_the_agent_tries_again_and_again(one: Practice) -> None:
    with containers(1) as (a,):
        one.here.add("a", a)
        a.ip("link del eth0")
        one.here.kill_dataplane()
        wait_until(lambda: bool(one.here.status()["failures"]), "it fails", 30)
        wait_until(lambda: one.here.status()["dataplane"]["running"], "it is back", 30)
        assert one.see().only("failures")["what"].startswith("pod:a/eth0: ")
        one.here.delete("a", a)


def test_the_agent_is_older_than_what_is_installed(one: Practice, tmp_path: Path) -> None:
    for name in ("cni_virtio", "dataplane", "build/bin"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.so"))
    (tmp_path / "cni_virtio" / "__init__.py").write_text('__version__ = "9.9.9"\n')
    finding = one.see(root=tmp_path).only("versions")
    assert finding["what"] == f"the agent is {__version__}, installed is 9.9.9"
    assert finding["remedy"].startswith("restart cni-virtio-agent")


# --- without an agent, or with one that starts on a broken machine --------------------------------


def test_the_agent_is_dead_and_a_sandbox_is_gone(one: Practice) -> None:
    with containers(1) as (a,):
        one.here.add("a", a)
        one.here.end(signal.SIGKILL)
        report = one.see()
        assert "only the socket of one that died" in report.only("agent")["what"]
        assert report.states["dataplane"] == "skipped"
    lost = one.see()
    assert set(lost.findings) == {"agent", "attachments"}
    assert (
        "1 of 1 attachments have lost their namespace, such as eth0 of a"
        in lost.of("attachments")[0]["what"]
    )
    one.here.socket.unlink()
    assert one.see().of("agent")[0]["what"] == f"no agent at {one.here.socket}"
    one.here.start()
    one.here.delete("a")


def test_no_hugepages(one: Practice) -> None:
    one.here.end()
    half_mib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 21
    large = one.variant("memory: 128Mi", f"memory: {half_mib}Mi")
    readonly = f"mount --bind {POOL} {POOL} && mount -o remount,bind,ro {POOL}"
    refused = one.see(config=large, broken=readonly)
    assert set(refused.findings) == {"agent", "hugepages"}
    assert f"of {-(-half_mib // 2)} are free, and " in refused.of("hugepages")[0]["what"]
    hidden = f"mount -t tmpfs none {POOL}"
    assert "kernel has no hugepages" in one.see(broken=hidden).of("hugepages")[0]["what"]
    start_in(one.here, hidden)
    finding = one.see().only("hugepages")
    assert finding["what"].startswith("the dataplane runs on ordinary pages: no hugepages of 2 MiB")
    assert finding["remedy"].startswith("echo 64 > /proc/sys/vm/nr_hugepages")
    one.here.end()
    one.here.start()


def start_in(here: Node, broken: str) -> None:
    """Start the agent on a machine that a shell command has broken, for it alone."""
    config = here.directory / "agent.yaml"
    script = f"{broken} && exec {sys.executable} -m cni_virtio --config {config}"
    here.process = subprocess.Popen(
        ["ip", "netns", "exec", here.host.name, "sh", "-c", script],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
        text=True,
    )
    wait_until(lambda: has_dataplane(here), "agent and dataplane", 30)


def has_dataplane(here: Node) -> bool:
    return here.socket.exists() and bool(here.status()["dataplane"]["running"])
